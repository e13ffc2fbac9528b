"""Reads what is deployed to one environment; see :mod:`aiflow_sdk.bundles` for how it lies."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from aiflow_sdk.bundles.model import (
    BundleDocument,
    Entry,
    Places,
    ProjectDocument,
    Release,
    digest,
    read_places,
    read_shard,
)
from aiflow_sdk.errors import DocumentError, StoreError
from aiflow_sdk.stores import Store, open_store

_THREADS = 16
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RELEASE = re.compile(r"releases/(\d{20})")
_T = TypeVar("_T")
_R = TypeVar("_R")


class ObjectReader(ABC):
    """Reads the documents of a bundle store, wherever its objects come from."""

    @abstractmethod
    def read(self, sha: str) -> bytes:
        """Return an object, which is what its digest says. Raises ``AiflowError``."""

    def bundle(self, version: str) -> BundleDocument:
        """Return a bundle by its version. Raises as :meth:`read`, and ``DocumentError``."""
        return BundleDocument.read(self.read(version))

    def project(self, version: str) -> ProjectDocument:
        """Return a project by its version. Raises as :meth:`read`, and ``DocumentError``."""
        return ProjectDocument.read(self.read(version))

    def shard(self, sha: str) -> Mapping[str, Entry]:
        """Return the pipelines of a shard by DAG id. Raises as :meth:`read`, and ``DocumentError``."""
        return read_shard(self.read(sha))

    def places(self, sha: str) -> Mapping[str, Places]:
        """Return, by DAG id, where the pipelines of a shard and their nodes are written. Raises as :meth:`read`."""
        return read_places(self.read(sha))


@dataclass(frozen=True)
class BundleReader(ObjectReader):
    """What is deployed to one environment, of all projects that are deployed there.

    Objects never change, so that whoever holds a version may read all of it at leisure; a release appears when all that
    it needs is there. Every method may raise ``StoreError`` as its store does (``store-unavailable`` is retryable).
    """

    store: Store
    environment: str
    address: str = ""
    """Where it lies, for messages."""

    @classmethod
    def open(
        cls, address: str, environment: str, *, root: Path | None = None, storage: Mapping[str, Any] | None = None
    ) -> Self:
        """Return the bundles of an environment; nothing is created yet and nobody is asked.

        ``root`` is where a relative folder begins, ``storage`` the options of the store, secrets looked up. Raises
        ``ConfigurationError`` (``unsupported-store``, ``bad-storage``).
        """
        place = f"{address.rstrip('/')}/{environment}"
        return cls(open_store(place, root=root, storage=storage), environment, place)

    def newest(self) -> Release | None:
        """Return the release that counts, or None where nothing was deployed yet."""
        numbers = self._numbers()
        while numbers:
            if (found := self._release(numbers.pop())) is not None:
                return found
        return None

    def releases(self) -> tuple[Release, ...]:
        """Return all releases that are kept, the newest first."""
        found = side_by_side(self._release, reversed(self._numbers()))
        return tuple(release for release in found if release is not None)

    def read(self, sha: str) -> bytes:
        """Return an object. Raises ``StoreError``: ``missing-object``, or ``damaged-object`` where it is another.

        Where nothing at all is there, the store is away (a folder that is not mounted): ``store-unavailable``.
        """
        key = object_key(sha)
        content = self._try_read(key)
        if content is None:
            if not self._numbers():  # whoever knows of an object knows of a release
                raise StoreError(
                    "store-unavailable",
                    f"the bundle store {self.address} is empty, or away",
                    hint="run it again once it can be read",
                    retryable=True,
                )
            raise StoreError(
                "missing-object",
                f"the object {sha} is not in the bundle store {self.address}",
                hint="deploy the project again with --repair, or clear the run so that it takes the current version",
            )
        if digest(content) != sha:
            raise StoreError(
                "damaged-object",
                f"{key} in the bundle store {self.address} is not what its name says",
                hint="deploy the project again with --repair",
                notes=[f"{len(content)} bytes, whose SHA-256 is {digest(content)}"],
            )
        return content

    def _numbers(self) -> list[int]:
        with _reading(self.address):
            keys = self.store.list("releases")
        return sorted(int(found[1]) for key in keys if (found := _RELEASE.fullmatch(key)))

    def _release(self, number: int) -> Release | None:
        content = self._try_read(release_key(number))
        return None if content is None else Release.read(number, content)

    def _try_read(self, key: str) -> bytes | None:
        with _reading(self.address):
            return self.store.read(key)


def side_by_side(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Return what the function makes of each item, in their order; the first error ends it."""
    listed = list(items)
    if len(listed) < 2:
        return [function(item) for item in listed]
    with ThreadPoolExecutor(min(_THREADS, len(listed)), "bundles") as pool:
        return list(pool.map(function, listed))


def object_key(sha: str) -> str:
    """Return where an object lies. Raises ``StoreError`` (``bad-key``)."""
    if not _DIGEST.fullmatch(sha):
        raise StoreError("bad-key", f"{sha!r} is no digest of an object", hint="64 hexadecimal digits")
    return f"objects/{sha[:2]}/{sha}"


def release_key(number: int) -> str:
    """Return where a release lies."""
    return f"releases/{number:020}"


@contextmanager
def _reading(address: str) -> Iterator[None]:
    """Turn what a file system says against reading into a ``StoreError``."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            "store-unavailable",
            f"the bundle store {address} cannot be read: {error.strerror or error}",
            hint="run it again once it can be read",
            retryable=True,
        ) from error


def if_there(read: Callable[[str], _R], *codes: str) -> Callable[[str], _R | None]:
    """Return the reader that answers None where an object is gone, or cannot be read for another of these ``codes``."""

    def read_or_none(sha: str) -> _R | None:
        try:
            return read(sha)
        except (StoreError, DocumentError) as error:
            if error.code not in ("missing-object", *codes):
                raise
            return None

    return read_or_none
