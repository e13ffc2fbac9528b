"""Signed checkpoints: that the row ``seq`` had this hash at that moment, kept where the database's owner cannot write.

One file each, ``checkpoint-000000000012.json`` by its number, which begins at 1 and has no gaps, so that one that is
gone is missed; ``key-ID.pem`` is the public key that signed them. Signed (Ed25519, RFC 8032) is the JSON array
``["aiflow-checkpoint-1", number, seq, hash, at, key]`` in UTF-8 without spaces, the hash in hexadecimal digits.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiflow_sdk.errors import ConfigurationError, MissingExtraError
from aiflow_sdk.stores import Store, open_store

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "aiflow-checkpoint-1"
_NAME = re.compile(r"checkpoint-([0-9]{12}|[1-9][0-9]{12,})\.json")
_KEY_NAME = re.compile(r"key-([0-9a-f]{16})\.pem")
_MOST_READ = 2_000
"""Any checkpoint speaks for all rows before it: of very many these are read, the newest and some between."""


class Checkpoint(NamedTuple):
    """What was signed, and the signature."""

    number: int
    seq: int
    hash: str
    at: str
    key: str
    """Which key signed it; see :func:`key_id`."""
    signature: str
    """In hexadecimal digits."""

    def to_bytes(self) -> bytes:
        """Return the checkpoint as its file holds it."""
        return json.dumps(self._asdict(), separators=(",", ":")).encode() + b"\n"


@dataclass
class Checkpoints:
    """What was found at a place where checkpoints are kept."""

    address: str
    found: list[Checkpoint] = field(default_factory=list)
    """Those whose signature is right, by number."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Kind and description of what is wrong with the others."""
    count: int = 0
    newest: int = 0
    """The greatest number that is taken; 0: none."""
    keys: list[str] = field(default_factory=list)
    """The keys that were believed."""


def signed_bytes(number: int, seq: int, hash_text: str, at: str, key: str) -> bytes:
    """Return the bytes that a checkpoint's signature is for."""
    return json.dumps([FORMAT, number, seq, hash_text, at, key], separators=(",", ":")).encode()


def checkpoint_key(number: int) -> str:
    """Return where the checkpoint of a number lies in its store."""
    return f"checkpoint-{number:012}.json"


def key_id(key: Ed25519PublicKey) -> str:
    """Return what a key is called: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def public_key_text(key: Ed25519PublicKey) -> bytes:
    """Return a public key as PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def open_checkpoints(
    address: str,
    *,
    root: Path | None = None,
    storage: Mapping[str, Any] | None = None,
    trusted: Iterable[Path] = (),
) -> Checkpoints:
    """Read and check the checkpoints at a folder or an object store's address.

    ``trusted``: files with the public keys that alone are believed; without any, those that lie beside the checkpoints
    are, which whoever can write there can exchange. Raises ``ConfigurationError`` (``audit-key``), and what stores do.
    """
    store = open_store(address, root=root, storage=storage)
    names = store.list()
    keys = [_read_key(_content(path), str(path)) for path in trusted]
    if not keys:
        keys = [_read_key(store.read(name) or b"", name) for name in names if _KEY_NAME.fullmatch(name)]
    by_id = {key_id(key): key for key in keys}
    numbers = sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))
    read = Checkpoints(address, count=len(numbers), newest=max(numbers, default=0), keys=sorted(by_id))
    if not names:  # who signs there leaves a key before the first checkpoint
        read.problems.append(("checkpoint-missing", f"there is neither a checkpoint nor a key at {address}"))
    for before, after in zip([0, *numbers], numbers, strict=False):
        if after != before + 1:
            several = f"{before + 1} to {after - 1} are" if after > before + 2 else f"{before + 1} is"
            read.problems.append(("checkpoint-missing", f"checkpoint {several} not there"))
    for number in _thinned(numbers):
        _take(read, store, number, by_id)
    return read


def newest_checkpoint(store: Store) -> tuple[int, Checkpoint | None]:
    """Return the greatest number that is taken (0: none), and that checkpoint as it lies there, unchecked."""
    number = max((int(match[1]) for name in store.list() if (match := _NAME.fullmatch(name))), default=0)
    try:
        return number, read_checkpoint(store.read(checkpoint_key(number)) or b"") if number else None
    except ValueError:
        return number, None


def read_checkpoint(data: bytes) -> Checkpoint:
    """Return the checkpoint that a file holds, its signature unchecked. Raises ``ValueError`` where it holds none."""
    try:
        one = Checkpoint(**json.loads(data))
    except TypeError as error:
        raise ValueError(str(error)) from error
    if [type(value) for value in one] != [int, int, str, str, str, str]:
        raise ValueError("a checkpoint has two numbers and four texts")
    return one


def _take(read: Checkpoints, store: Store, number: int, keys: Mapping[str, Ed25519PublicKey]) -> None:
    from cryptography.exceptions import InvalidSignature

    try:
        one = read_checkpoint(store.read(checkpoint_key(number)) or b"")
        signature = bytes.fromhex(one.signature)
        signed = signed_bytes(one.number, one.seq, one.hash, one.at, one.key)
    except ValueError:
        read.problems.append(("checkpoint-forged", f"checkpoint {number} cannot be read"))
        return
    key = keys.get(one.key)
    if key is None:
        read.problems.append(("checkpoint-unknown-key", f"checkpoint {number} is signed by the unknown key {one.key}"))
        return
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        read.problems.append(("checkpoint-forged", f"checkpoint {number} has a signature that is not of its key"))
        return
    if one.number != number:
        read.problems.append(("checkpoint-forged", f"checkpoint {number} is a copy of checkpoint {one.number}"))
    else:
        read.found.append(one)


def _thinned(numbers: list[int]) -> list[int]:
    if len(numbers) <= _MOST_READ:
        return numbers
    half = _MOST_READ // 2
    older = numbers[:-half]
    return [*older[:: len(older) // half + 1], *numbers[-half:]]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            "audit-key", f"{path} cannot be read: {error.strerror}", hint="name the key-….pem that the service wrote"
        ) from error


def _read_key(text: bytes, place: str) -> Ed25519PublicKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey as Key
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise MissingExtraError(
            "missing-extra", "signatures need the package cryptography", hint="pip install cryptography"
        ) from error
    try:
        key: object = load_pem_public_key(text)
    except ValueError:
        key = None
    if not isinstance(key, Key):
        raise ConfigurationError(
            "audit-key", f"{place} holds no public key of Ed25519", hint="name the key-….pem that the service wrote"
        )
    return key
