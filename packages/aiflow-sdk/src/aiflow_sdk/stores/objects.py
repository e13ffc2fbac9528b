"""A store in a bucket or container: S3 and its like, Azure Blob, Fabric OneLake; by obstore."""

from __future__ import annotations

import builtins
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any

from aiflow_sdk.config import Address
from aiflow_sdk.errors import AiflowError, DataError, MissingExtraError, StoreError
from aiflow_sdk.stores.usage import Usage

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Driver

_DELETED_AT_ONCE = 500


class ObjectStore:
    """Keys below one address of an object store. A connection is opened by the first call that needs one."""

    def __init__(self, address: Address, options: Mapping[str, str]) -> None:
        """``options`` are the store's as drivers take them; see :func:`aiflow_sdk.stores.driver_options`."""
        self.address = address
        self._options = options
        self._opened: Driver | None = None

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Store ``data`` unless the key is there, by a conditional put."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with store_failures(self.address.uri):
            try:
                self._driver.put(_checked(key), data, mode="create")
            except (AlreadyExistsError, PreconditionError):
                # A put whose answer was lost is tried again by the driver, and then finds itself.
                return self.read(key) == data
        return True

    def put(self, key: str, data: bytes) -> None:
        """Store ``data``, in place of what was there."""
        with store_failures(self.address.uri):
            self._driver.put(_checked(key), data)

    def read(self, key: str) -> bytes | None:
        """Return what lies at the key, or None."""
        with store_failures(self.address.uri):
            try:
                return bytes(self._driver.get(_checked(key)).bytes())
            except FileNotFoundError:
                return None

    def list(self, prefix: str = "") -> builtins.list[str]:
        """Return the keys at or below ``prefix``, sorted."""
        return sorted(key for key, _ in self.sizes(prefix))

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield key and bytes of what lies at or below ``prefix``."""
        with store_failures(self.address.uri):
            for page in self._driver.list(prefix=_checked(prefix) if prefix else None):
                yield from ((str(one["path"]), int(one["size"])) for one in page)

    def moments(self, prefix: str = "") -> Iterator[tuple[str, float]]:
        """Yield key and moment of the last write of what lies at or below ``prefix``."""
        with store_failures(self.address.uri):
            for page in self._driver.list(prefix=_checked(prefix) if prefix else None):
                yield from ((str(one["path"]), one["last_modified"].timestamp()) for one in page)

    def changed(self, prefix: str) -> float:
        """Return the moment (seconds since 1970) at which something at or below ``prefix`` was written last; else 0."""
        with store_failures(self.address.uri):
            pages = self._driver.list(prefix=_checked(prefix))
            return max((one["last_modified"].timestamp() for page in pages for one in page), default=0.0)

    def usage(self, prefix: str = "") -> Usage:
        """Return how much lies at or below ``prefix``."""
        with store_failures(self.address.uri):
            pages = self._driver.list(prefix=_checked(prefix) if prefix else None)
            return Usage.of((int(one["size"]), one["last_modified"].timestamp()) for page in pages for one in page)

    def folders(self, prefix: str = "") -> builtins.list[str]:
        """Return the names right below ``prefix`` that have keys below them, sorted."""
        with store_failures(self.address.uri):
            found = self._driver.list_with_delimiter(prefix=_checked(prefix) if prefix else None)
            return sorted(str(one).rstrip("/").rpartition("/")[2] for one in found["common_prefixes"])

    def delete_prefix(self, prefix: str) -> None:
        """Remove what lies at or below ``prefix``; of none, all."""
        self.delete(self.list(prefix))

    def delete(self, keys: Sequence[str]) -> None:
        """Remove these keys; one that is not there is no error."""
        with store_failures(self.address.uri):
            for first in range(0, len(keys), _DELETED_AT_ONCE):
                self._driver.delete(keys[first : first + _DELETED_AT_ONCE])

    def mark(self, key: str) -> tuple[Any, ...] | None:
        """Return what tells the object at the key from another one there, or None where there is none."""
        with store_failures(self.address.uri):
            try:
                found = self._driver.head(_checked(key))
            except FileNotFoundError:
                return None
            return found["e_tag"], found["last_modified"], found["size"]

    def upload(self, key: str, file: IO[bytes]) -> None:
        """Store what the file holds, in parts where it is large."""
        with store_failures(self.address.uri):
            self._driver.put(_checked(key), file)

    def open(self, key: str) -> IO[bytes]:
        """Return a file-like reader of what lies at the key, which fetches what is read of it."""
        import obstore

        with store_failures(self.address.uri):
            return io.BufferedReader(_Reader(obstore.open_reader(self._driver, _checked(key)), self.address.uri))

    @property
    def _driver(self) -> Driver:
        if self._opened is None:
            try:
                from obstore.store import from_url
            except ImportError as error:
                raise MissingExtraError(
                    "missing-extra",
                    f"the store at {self.address.uri} needs the package obstore",
                    hint="pip install 'aiflow-sdk[python]'",
                ) from error
            with store_failures(self.address.uri):
                self._opened = from_url(self.address.uri, **_driver_arguments(self._options))
        return self._opened


class _Reader(io.RawIOBase):
    """obstore's reader, which lacks what Python's own files have and PyArrow asks for."""

    def __init__(self, reader: Any, where: str) -> None:
        self._reader, self._where = reader, where

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with store_failures(self._where):
            return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())

    def readinto(self, buffer: Any) -> int:
        with store_failures(self._where):
            read = bytes(self._reader.read(len(buffer)))
        buffer[: len(read)] = read
        return len(read)


def _driver_arguments(options: Mapping[str, str]) -> dict[str, Any]:
    """Return the options as obstore takes them: those of its HTTP client apart."""
    config: dict[str, Any] = dict(options)
    client: dict[str, Any] = {name: config.pop(name) for name in ("timeout", "connect_timeout") if name in config}
    if config.pop("allow_http", "false") == "true":
        client["allow_http"] = True
    tried = config.pop("retry_timeout", None)
    retry = {"retry_timeout": timedelta(seconds=float(tried.removesuffix("s")))} if tried else None
    return {"config": config, "client_options": client or None, "retry_config": retry}


@contextmanager
def store_failures(where: str) -> Iterator[None]:
    """Turn what a driver raises into an ``AiflowError``; see :func:`store_error`."""
    try:
        yield
    except AiflowError:
        raise
    except Exception as error:
        if (told := store_error(error, where)) is None:
            raise
        raise told from error


_DENIED = ("forbidden", "unauthorized", "permission denied", "accessdenied", "authenticationfailed")
_SKEWED = ("requesttimetooskewed",)
_EXPIRED = ("expiredtoken", "token has expired", "signature not valid in the specified time frame")
_BUSY = ("slowdown", "serverbusy", "internalerror", "operationtimedout", "service unavailable", "too many requests")
_LOST = (
    "timed out",
    "operation timeout",
    "connection refused",
    "connection closed",
    "connection reset",
    "connection error",
    "connect error",
    "incomplete message",
    "error sending request",
    "error decoding response body",
    "end of file before message length",
    "kernel error -> generic s3 error",
    "kernel error -> generic microsoftazure error",
    "dns error",
    "broken pipe",
    "reset by peer",
)
"""What begins with "kernel error" is all that delta-rs tells of an answer that broke off."""
_STATUS = re.compile(
    r"\b(?:status|code)(?: code)?\W{0,3}(401|403|5\d\d)\b"
    r"|\b(401|403|5\d\d) (?:[a-z]+ )?(?:unauthorized|forbidden|error|gateway|timeout|unavailable)\b"
)
"""An HTTP status as drivers tell it; a number alone may be a version or a part of a name."""
_FULL = ("no space left", "disk quota exceeded", "storage full")
_DAMAGED = ("file out of specification", "not a parquet file", "parquet magic bytes not found")
_IO = "underlying io error"
"""So polars says of a Parquet file that it could not write or read for a reason of the disk's."""
_READ_ONLY = ("read-only file system", "permission denied (os error 13)", "operation not permitted")


def store_error(error: BaseException, where: str) -> AiflowError | None:
    """Return what a driver's exception says of the store at ``where``; None where it is about something else.

    A ``StoreError``, or ``DataError`` (``unreadable-file``) for a data file that is none. The drivers tell the store's
    own code in their text alone. ``retryable`` where a later attempt may succeed.
    """
    text = " ".join(str(error).split())
    low = text.lower()
    if any(word in low for word in _FULL):
        return StoreError(
            "store-full",
            f"the store at {where} is full",
            hint="free some space, then run it again",
            notes=[_short(text)],
        )
    if any(word in low for word in _READ_ONLY):
        return StoreError(
            "store-not-writable", f"{where} cannot be written", hint="let it be written to", notes=[_short(text)]
        )
    if any(word in low for word in _DAMAGED) and _IO not in low:
        return DataError(
            "unreadable-file",
            f"a data file in {where} is no whole Parquet file",
            hint="restore the file, or write its rows anew",
            notes=[_short(text)],
        )
    if any(word in low for word in _EXPIRED):
        return StoreError(
            "credentials-expired",
            f"the store at {where} says that the credentials have expired",
            hint="renew what [environments.NAME.storage] refers to, then run it again",
            notes=[_short(text)],
        )
    if any(word in low for word in _SKEWED):
        return StoreError(
            "store-denied",
            f"the store at {where} says that this machine's clock is wrong",
            hint="set the clock, then run it again",
            notes=[_short(text)],
        )
    status = next((found[1] or found[2] for found in _STATUS.finditer(low)), "")
    if status.startswith("4") or any(word in low for word in _DENIED):
        return StoreError(
            "store-denied",
            f"the store at {where} does not let these credentials do that",
            hint="see what [environments.NAME.storage] refers to, and what it may read and write",
            notes=[_short(text)],
        )
    if status or any(word in low for word in (*_BUSY, *_LOST)):
        return StoreError(
            "store-unavailable",
            f"the store at {where} cannot be reached or does not answer as it should",
            hint="run it again once it answers; nothing was half done",
            retryable=True,
            notes=[_short(text)],
        )
    return None


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]} …"


def _checked(key: str) -> str:
    if any(part in ("", ".", "..") or "\0" in part for part in key.split("/")):
        raise StoreError("bad-key", f"{key!r} is no key of a store", hint="write names joined by '/'")
    return key
