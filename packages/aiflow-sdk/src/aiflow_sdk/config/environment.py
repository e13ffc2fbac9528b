"""One environment: where its pipelines read and write, on what they run, and where its secrets are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COPY_KEEP_DAYS = 14.0
"""How long a copy of ``dev`` (``dev-ana``, ``pr-123``) is kept where ``dev`` does not say otherwise."""


@dataclass(frozen=True)
class Environment:
    """Where pipelines read and write: the lake, staging, clusters and secrets of one environment."""

    name: str = "dev"
    lake: str = ".aiflow/lake"
    """Root of the lake: a folder (relative to the project) or an address."""
    staging: str = ""
    """Where frames lie between tasks; empty: ``_staging`` below the lake."""
    staging_keep_days: float = 7
    reads_from: str | None = None
    keep_days: float | None = None
    spark: str | None = None
    """``sc://`` address of a Spark Connect server; None: an embedded one."""
    clusters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name of a cluster → its ``kind`` and options; one that is not named here is local."""
    listeners: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name of a listener → its ``kind`` and options; each hears of every event after it lies in the spool."""
    secrets: Mapping[str, Any] = field(default_factory=dict)
    """Where ``secret://name`` is looked up: ``provider`` (``env`` or ``file``) and its options."""
    root: Path | None = None
    """The project's folder, known where something runs; relative addresses start there."""

    @property
    def lake_address(self) -> str:
        """The lake's root: an absolute folder, or the address as it is, without a slash at its end."""
        return self.resolve(self.lake)

    @property
    def lake_folder(self) -> Path | None:
        """The lake's root as an absolute folder; None where it is an address (``s3://`` …)."""
        return _as_folder(self.lake_address)

    @property
    def staging_address(self) -> str:
        """Where frames lie between tasks: an absolute folder, or an address, without a slash at its end."""
        return self.resolve(self.staging) if self.staging else f"{self.lake_address}/_staging"

    def resolve(self, address: str) -> str:
        """Return ``address`` as an absolute folder, starting at the project's root; one with a scheme as it is."""
        parts = urlsplit(address)
        if parts.scheme == "file":
            address = unquote(parts.path)
        elif "://" in address:
            return address.rstrip("/")
        return ((self.root or Path.cwd()) / Path(address).expanduser()).resolve().as_posix()

    def copy_as(self, name: str) -> Environment:
        """Return a copy of this environment with a lake root of its own beside this one's, which expires."""
        return replace(
            self,
            name=name,
            lake=_sibling(self.lake, name),
            staging=_sibling(self.staging, name) if self.staging else "",
            keep_days=COPY_KEEP_DAYS if self.keep_days is None else self.keep_days,
        )


def _as_folder(address: str) -> Path | None:
    return None if "://" in address else Path(address)


def _sibling(address: str, name: str) -> str:
    """Return ``<address>-<name>``; below the address where that would name another bucket."""
    address = address.rstrip("/")
    parts = urlsplit(address)
    if "://" in address and parts.scheme != "file" and not parts.path:
        return f"{address}/_environments/{name}"
    return f"{address}-{name}"
