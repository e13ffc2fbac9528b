"""The file of a backup: a line that says so, what zstd made of the rows, and the SHA-256 of all before it.

Unpacked it is a row of messages (MessagePack), each behind its length in four bytes: a :class:`Header`, blocks of rows,
and at the end a map of how many rows each table has. It is the same whichever database it was made of.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TypeVar, cast

import msgspec
import zstandard

from aiflow_sdk.errors import ConfigurationError, StoreError
from aiflow_service.database.migration import is_known
from aiflow_service.keeping.contents import Block, Header

_MAGIC = b"aiflow-backup-1\n"
_DIGEST_BYTES = 32
_LENGTH = struct.Struct(">I")
_MAX_MESSAGE_BYTES = 512 * 1024 * 1024
_BLOCK_BYTES = 1024 * 1024
_LEVEL = 3

T = TypeVar("T")


def write_archive(path: Path, header: Header, blocks: Iterable[Block]) -> tuple[str, dict[str, int]]:
    """Write a file that was not there, whole or not at all; returns its SHA-256 and how many rows each table has.

    Its owner alone may read it. Raises ``ConfigurationError`` (there is such a file) or ``StoreError``.
    """
    _refuse_present(path)
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".part", delete=False) as file:
            part = Path(file.name)
            try:
                digest, counts = _write(file, header, blocks)
                os.link(part, path)  # refused where somebody was quicker
            finally:
                part.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except FileExistsError:
        _refuse_present(path)
        raise
    except OSError as error:
        raise StoreError(
            "backup-unwritable",
            f"{path} cannot be written: {error.strerror}",
            hint="name a file in a folder that is there and has enough space",
        ) from error
    return digest, counts


class Archive:
    """A file that was found whole when it was opened."""

    def __init__(self, path: Path, digest: str | None = None) -> None:
        """Read all of it once. ``digest``: the SHA-256 that it was written with, against those who make it anew.

        Raises ``ConfigurationError`` for what is no backup, was cut or changed, or is of a newer service.
        """
        self._path = path
        try:
            self._file: IO[bytes] = path.open("rb")
        except OSError as error:
            raise ConfigurationError(
                "backup-absent",
                f"{path} cannot be read: {error.strerror}",
                hint="name a file that a backup was written to",
            ) from error
        try:
            self._check(digest)
            self.header = self._read_header()
        except BaseException:  # whatever it was; it goes on up
            self._file.close()
            raise

    def blocks(self) -> Iterator[Block]:
        """Yield the rows; raises as the constructor does where their number is not what the end says."""
        counts = dict.fromkeys(self.header.columns, 0)
        messages = self._messages()
        next(messages)
        for message in messages:
            if message[:1] and message[0] & 0xF0 == 0x90:  # a list: rows; the end is a map
                block = self._decoded(message, Block)
                if block.table not in counts:
                    raise self._damaged(f"it has rows of {block.table!r}, which it does not tell of")
                counts[block.table] += len(block.rows)
                yield block
            elif self._decoded(message, dict[str, int]) == counts:
                return
            else:
                break
        raise self._damaged("its rows are not as many as it says")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _check(self, digest: str | None) -> None:
        size = os.fstat(self._file.fileno()).st_size
        self._end = size - _DIGEST_BYTES
        if self._file.read(len(_MAGIC)) != _MAGIC:
            self._file.seek(0)
            if self._file.read(len(_MAGIC)).startswith(_MAGIC[:-2]):
                raise self._newer()
            raise self._damaged("it does not begin as one")
        computed = hashlib.sha256(_MAGIC)
        left = self._end - len(_MAGIC)
        while left > 0 and (part := self._file.read(min(left, _BLOCK_BYTES))):
            computed.update(part)
            left -= len(part)
        if self._file.read() != computed.digest():
            raise self._damaged("it was cut, or changed since it was written")
        if digest is not None and digest.lower() != computed.hexdigest():
            raise self._damaged(f"its digest is {computed.hexdigest()}, and not the one that was given")

    def _read_header(self) -> Header:
        header = self._decoded(next(self._messages(), b""), Header)
        if header.format != 1 or not is_known(header.revision):
            raise self._newer()
        return header

    def _messages(self) -> Iterator[bytes]:
        self._file.seek(len(_MAGIC))
        reader = zstandard.ZstdDecompressor().stream_reader(
            cast("IO[bytes]", _Part(self._file, self._end)), closefd=False
        )
        try:
            while begin := _whole(reader, _LENGTH.size):
                (length,) = _LENGTH.unpack(begin)
                if length > _MAX_MESSAGE_BYTES:
                    raise self._damaged("a part of it is longer than any can be")
                yield _whole(reader, length)
        except (zstandard.ZstdError, EOFError, struct.error) as error:
            raise self._damaged(str(error)) from error

    def _decoded(self, message: bytes, kind: type[T]) -> T:
        try:
            return msgspec.msgpack.decode(message, type=kind)
        except msgspec.DecodeError as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            "backup-damaged",
            f"{self._path} is no whole backup: {why}",
            hint="take another copy of it; nothing was changed",
        )

    def _newer(self) -> ConfigurationError:
        return ConfigurationError(
            "backup-newer",
            f"{self._path} was written by a version of the service that this one does not know",
            hint="restore it with that version of aiflow-service, or a newer one",
        )


class _Part:
    """A file up to a place in it."""

    def __init__(self, file: IO[bytes], end: int) -> None:
        self._file = file
        self._end = end

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._file.tell()
        return self._file.read(left if size < 0 else min(size, left))


def _whole(reader: zstandard.ZstdDecompressionReader, length: int) -> bytes:
    """Read so many bytes, or none where it ends."""
    parts = []
    left = length
    while left and (part := reader.read(left)):
        parts.append(part)
        left -= len(part)
    if left and parts:
        raise EOFError("it ends in the middle of a part")
    return b"".join(parts)


def _write(file: IO[bytes], header: Header, blocks: Iterable[Block]) -> tuple[str, dict[str, int]]:
    hashing = _Hashing(file)
    counts = dict.fromkeys(header.columns, 0)
    hashing.write(_MAGIC)
    with zstandard.ZstdCompressor(level=_LEVEL).stream_writer(cast("IO[bytes]", hashing), closefd=False) as packing:
        _put(packing, header)
        for block in blocks:
            _put(packing, block)
            counts[block.table] += len(block.rows)
        _put(packing, counts)
    file.write(hashing.digest.digest())
    file.flush()
    os.fsync(file.fileno())
    return hashing.digest.hexdigest(), counts


class _Hashing:
    """Writes to a file and remembers the digest of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)


def _put(packing: zstandard.ZstdCompressionWriter, message: object) -> None:
    packed = msgspec.msgpack.encode(message)
    packing.write(_LENGTH.pack(len(packed)))
    packing.write(packed)


def _refuse_present(path: Path) -> None:
    if path.exists():
        raise ConfigurationError(
            "backup-exists", f"{path} is there already, and no backup is written over", hint="name another file"
        )


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every file system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
