"""Compression of what is stored: zstd at its quickest, one frame each, so that any may be had by itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import zstandard

_LOCAL = threading.local()
_LEVEL = 1


def compress(data: bytes) -> bytes:
    """Return the data compressed."""
    if not hasattr(_LOCAL, "compressor"):
        _LOCAL.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    packed: bytes = _LOCAL.compressor.compress(data)
    return packed


def compress_all(parts: Sequence[bytes]) -> list[bytes]:
    """Return each of many data compressed. The interpreter's lock is let go once for all of them."""
    if len(parts) < 2:
        return [compress(one) for one in parts]
    packed = zstandard.ZstdCompressor(level=_LEVEL).multi_compress_to_buffer(list(parts))
    return [packed[index].tobytes() for index in range(len(packed))]


def decompress(data: bytes) -> bytes:
    """Return what :func:`compress` was given."""
    if not hasattr(_LOCAL, "decompressor"):
        _LOCAL.decompressor = zstandard.ZstdDecompressor()
    whole: bytes = _LOCAL.decompressor.decompress(data)
    return whole
