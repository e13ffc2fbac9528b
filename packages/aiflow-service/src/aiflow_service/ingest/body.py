"""The body of a request: unpacked, and a batch taken apart without touching a byte of its events."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import msgspec

from aiflow_service.openlineage import Refusal
from aiflow_service.openlineage.limits import MAX_BATCH_EVENTS, MAX_BODY_BYTES

_GZIP = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 65_536
_MAX_MEMBERS = 10_000
"""Of a gzip body: each takes its time, be it empty."""
_BATCH = msgspec.json.Decoder(list[msgspec.Raw])


def unpack(body: bytes, encoding: str, most: int = MAX_BODY_BYTES) -> bytes:
    """Return a body as it was before its ``Content-Encoding``; never more than ``most`` bytes are unpacked.

    Raises :class:`Refusal`.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            pass
        case other:
            raise Refusal("encoding-unknown", f"the encoding '{other[:40]}' is not known; gzip is", status=415)
    try:
        return b"".join(_members(memoryview(body), most))
    except zlib.error as error:
        raise Refusal("gzip-invalid", f"the body is not what gzip makes: {error}", status=400) from error


def _members(body: memoryview, most: int) -> Iterator[bytes]:
    """Yield what the members of a gzip file hold, of which there may be several.

    They are given in pieces: what is left behind a member is copied, which of the whole rest would take hours.
    """
    place = size = members = 0
    while place < len(body):
        members += 1
        if members > _MAX_MEMBERS:
            raise Refusal("gzip-invalid", f"the gzip body has more than {_MAX_MEMBERS} members", status=400)
        unpacker = zlib.decompressobj(_GZIP)
        while not unpacker.eof:
            piece = body[place : place + _PIECE_BYTES]
            if not piece:
                raise Refusal("gzip-invalid", "the gzip body ends before its end", status=400)
            part = unpacker.decompress(piece, most - size + 1)
            place += len(piece) - len(unpacker.unused_data) - len(unpacker.unconsumed_tail)
            size += len(part)
            if size > most:
                raise Refusal("body-too-large", f"unpacked, the body has more than {most} bytes", status=413)
            yield part


def split_batch(body: bytes) -> list[bytes]:
    """Return the events of a JSON list, each in its own bytes. Raises :class:`Refusal` for what is no such list."""
    try:
        events = _BATCH.decode(body)
    except msgspec.ValidationError as error:
        raise Refusal("batch-invalid", "a batch is a JSON list of events") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal("json-invalid", f"this is no JSON: {error}", status=400) from error
    if len(events) > MAX_BATCH_EVENTS:
        raise Refusal(
            "batch-too-long", f"the batch has {len(events)} events; {MAX_BATCH_EVENTS} are allowed", status=413
        )
    return [bytes(one) for one in events]
