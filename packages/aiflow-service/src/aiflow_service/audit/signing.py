"""Writes signed checkpoints of the chain to a place of their own, and keeps the key that signs them.

The key is an Ed25519 key in PEM (PKCS 8), in a file that only the service's user may read. Whoever has it can sign any
history; whoever can write both to the database and to the checkpoints' place can cut both; so the place should be one
where the database's administrators cannot write, at best one that keeps what was written (object lock).
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from sqlalchemy.engine import Connection

from aiflow_sdk.audit import (
    Checkpoint,
    Checkpoints,
    checkpoint_key,
    key_id,
    newest_checkpoint,
    open_checkpoints,
    public_key_text,
    read_checkpoint,
    signed_bytes,
)
from aiflow_sdk.errors import ConfigurationError
from aiflow_sdk.stores import Store, open_store
from aiflow_sdk.stores.files import replace_private_file
from aiflow_service.database import moment_text, now
from aiflow_service.database.tables import audit, counters

EVERY_ROWS = 1_000
EVERY_SECONDS = 300
_TRIES = 20
"""How often another replica may be quicker; then it is left for the next time."""


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """Return the key in a file, which is made where there is none.

    Raises ``ConfigurationError`` (``audit-key``) where the file holds no such key, or others may read it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Ed25519PrivateKey.generate()
        text = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return made
    except FileExistsError:
        pass
    except OSError as error:
        raise _no_key(f"the audit's key cannot be written to {path}: {error.strerror}") from error
    try:
        if path.stat().st_mode & 0o077:
            raise _no_key(f"others than its owner may read the audit's key {path}", hint=f"chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise _no_key(f"{path} holds no key that can be read") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(f"{path} holds a key that is not of Ed25519")
    return key


class CheckpointMemory:
    """Remembers the newest checkpoint beside the key, where whoever empties the checkpoints' place may not write.

    A file for each place: one key may sign several databases' checkpoints.
    """

    def __init__(self, key_file: Path, address: str) -> None:
        place = hashlib.sha256(address.encode()).hexdigest()[:8]
        self._path = key_file.with_name(f"{key_file.name}.newest-{place}")

    def read(self) -> Checkpoint | None:
        """Return it; None where there is none, or nothing that can be read."""
        try:
            return read_checkpoint(self._path.read_bytes())
        except (OSError, ValueError):
            return None

    def write(self, checkpoint: Checkpoint) -> None:
        """Remember it. A folder that cannot be written to (a key that was mounted) leaves the chain's own rows."""
        with suppress(OSError):
            replace_private_file(self._path, checkpoint.to_bytes().decode())


class CheckpointWriter:
    """Signs the chain's end now and then. Several replicas may do so at one place: each number is written once."""

    def __init__(
        self,
        address: str,
        key: Ed25519PrivateKey,
        *,
        every_rows: int = EVERY_ROWS,
        every_seconds: float = EVERY_SECONDS,
        memory: CheckpointMemory | None = None,
    ) -> None:
        """``address``: a folder or an object store's address. Raises what stores raise, and ``audit-key``."""
        self.address = address
        self._key = key
        self._every_rows = every_rows
        self._every_seconds = every_seconds
        self._store: Store = open_store(address)
        public = key.public_key()
        self._key_id = key_id(public)
        self._store.put_if_absent(f"key-{self._key_id}.pem", public_key_text(public))
        self.last: Checkpoint | None = None
        """The newest that is there."""
        self._memory = memory
        self._signed = memory.read() if memory else None
        """The newest of which it is known that this service signed it."""
        self._number = 0
        self._least_number = self._signed.number if self._signed else 0
        self._look()

    def go_on_behind(self, number: int) -> bool:
        """Give no number again up to this one, and tell whether the place holds the newest that was ever signed.

        So a place that was emptied keeps a gap, which whoever reads the checkpoints finds.
        """
        self._least_number = max(self._least_number, number)
        is_whole = self._number >= self._least_number
        self._number = max(self._number, self._least_number)
        return is_whole

    def read(self) -> Checkpoints:
        """Return the checkpoints that are there, checked by those keys that lie beside them, and what is missed."""
        read = open_checkpoints(self.address)
        known = self._signed
        if known is not None and self._is_gone(known):
            says = f"checkpoint {known.number}, which the service signed at {known.at}, is not at {self.address}"
            read.problems.append(("checkpoint-missing", says))
            read.found.append(known)  # it speaks for the rows all the same
        return read

    def is_due(self, last_seq: int) -> bool:
        """Tell whether the chain has grown, and enough or long ago."""
        if self.last is None:
            return last_seq > 0
        grown = last_seq - self.last.seq
        return grown >= self._every_rows or (grown > 0 and now() - self._looked_at >= self._every_seconds * 1e6)

    def write(self, connection: Connection) -> Checkpoint | None:
        """Sign the chain's end; None where it has not grown since the last one."""
        # A row that was put far ahead of all would be the last for ever, and nothing that comes be signed.
        counted = sa.select(counters.c.value).where(counters.c.name == "audit").scalar_subquery()
        recorded = sa.select(audit.c.seq, audit.c.hash).where(audit.c.seq <= counted)
        row = connection.execute(recorded.order_by(audit.c.seq.desc()).limit(1)).first()
        for _ in range(_TRIES):
            if row is None or (self.last is not None and row.seq <= self.last.seq):
                break
            hash_text = row.hash.hex() if isinstance(row.hash, bytes) else ""  # else somebody has put a text there
            told = (self._number + 1, int(row.seq), hash_text, moment_text(now()) or "", self._key_id)
            made = Checkpoint(*told, self._key.sign(signed_bytes(*told)).hex())
            if self._store.put_if_absent(checkpoint_key(made.number), made.to_bytes()):
                self._number, self.last, self._looked_at = made.number, made, now()
                self._remember(made)
                return made
            self._look()  # another replica was quicker
        return None

    def _remember(self, made: Checkpoint) -> None:
        if self._signed is not None and self._is_gone(self._signed):
            return  # what is known of the history that was lost is kept
        self._signed = made
        if self._memory:
            self._memory.write(made)

    def _is_gone(self, known: Checkpoint) -> bool:
        return self._store.read(checkpoint_key(known.number)) != known.to_bytes()

    def _look(self) -> None:
        number, self.last = newest_checkpoint(self._store)
        self._number = max(number, self._least_number)
        self._looked_at = now()


def _no_key(
    message: str, hint: str = "name another file with --audit-key, or remove this one for a new key"
) -> ConfigurationError:
    return ConfigurationError("audit-key", message, hint=hint)
