"""What a store is, and opening one by its address."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from aiflow_sdk.config import Address, parse_address
from aiflow_sdk.stores.folder import FolderStore
from aiflow_sdk.stores.objects import ObjectStore
from aiflow_sdk.stores.storage import driver_options
from aiflow_sdk.stores.usage import Usage


class Store(Protocol):
    """Keys (``a/b/c``) and the bytes behind them."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Store ``data`` unless the key is there. Of many who try at once, exactly one is answered True.

        ``data`` must tell who it is from: whose answer was lost is answered True if its own data lies there.
        """

    def put(self, key: str, data: bytes) -> None:
        """Store ``data``, in place of what was there; whoever reads it finds all of the one or all of the other."""

    def read(self, key: str) -> bytes | None:
        """Return what lies at the key, whole, or None where nothing does."""

    def upload(self, key: str, file: IO[bytes]) -> None:
        """Store what the file holds; for what need not be in memory at once."""

    def open(self, key: str) -> IO[bytes]:
        """Return a file-like reader of what lies at the key, which fetches what is read of it."""

    def list(self, prefix: str = "") -> builtins.list[str]:
        """Return the keys at or below ``prefix``, sorted."""

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield key and bytes of what lies at or below ``prefix``."""

    def changed(self, prefix: str) -> float:
        """Return the moment (seconds since 1970) at which something at or below ``prefix`` was written last; else 0."""

    def moments(self, prefix: str = "") -> Iterator[tuple[str, float]]:
        """Yield key and moment of the last write (seconds since 1970) of what lies at or below ``prefix``."""

    def mark(self, key: str) -> tuple[Any, ...] | None:
        """Return what tells the object at the key from another one there, or None where there is none."""

    def usage(self, prefix: str = "") -> Usage:
        """Return how much lies at or below ``prefix``, from one look at every key."""

    def folders(self, prefix: str = "") -> builtins.list[str]:
        """Return the names right below ``prefix`` that have keys below them, sorted."""

    def delete(self, keys: Sequence[str]) -> None:
        """Remove these keys; one that is not there is no error."""

    def delete_prefix(self, prefix: str) -> None:
        """Remove what lies at or below ``prefix``; nothing there is no error."""


def open_store(address: str | Address, *, root: Path | None = None, storage: Mapping[str, Any] | None = None) -> Store:
    """Return the store at ``address``: a folder (relative to ``root``, else to the current one) or an object store.

    ``storage`` are its options, secrets looked up; see :mod:`aiflow_sdk.stores.storage`. Raises ``ConfigurationError``
    (``unsupported-store``, ``bad-storage``). Nothing is created yet, and nobody is asked.
    """
    place = parse_address(address, root=root, storage=storage) if isinstance(address, str) else address
    return _opened(place, driver_options(place, storage or {}))


def open_folder(uri: str, options: Mapping[str, str]) -> Store:
    """Return what lies below an address as a store, its options as drivers take them."""
    return _opened(parse_address(uri), options)


def discard_folder(uri: str, options: Mapping[str, str], root: str = "") -> None:
    """Remove what lies below an address; of a folder below ``root`` also those between them that are empty then."""
    open_folder(uri, options).delete_prefix("")
    place = parse_address(uri)
    if root and place.is_folder:
        store = FolderStore(Path(parse_address(root).path))
        if Path(place.path).is_relative_to(store.root):
            store.prune(Path(place.path).relative_to(store.root).as_posix())


def _opened(place: Address, options: Mapping[str, str]) -> Store:
    return FolderStore(Path(place.path)) if place.is_folder else ObjectStore(place, options)
