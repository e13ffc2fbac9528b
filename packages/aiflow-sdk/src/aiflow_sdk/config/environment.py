"""One environment: where its pipelines read and write, on what they run, and where its secrets are looked up."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiflow_sdk.config.address import FABRIC, Address, parse_address
from aiflow_sdk.config.overlap import overlap
from aiflow_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from aiflow_sdk.config.configuration import ConfigurationItem

COPY_KEEP_DAYS = 14.0
"""How long a copy of ``dev`` (``dev-ana``, ``pr-123``) is kept where ``dev`` does not say otherwise."""

SERVICE = "service"
"""What the listener is called that the setting ``service`` stands for."""

ENVIRONMENTS = "_environments"
"""Below a lake that is a whole bucket: where the lakes of the environment's copies lie."""
GENERATIONS = "_generations"
"""Below a lake: who has written to it. Its folders are environments."""
LEDGER = "_ledger"
"""Below a lake: of what its partitions were made."""


@dataclass(frozen=True)
class LakeRoot:
    """The root of one environment's lake, and how its store is opened."""

    environment: str
    address: Address
    storage: Mapping[str, Any] = field(default_factory=dict)
    """Options of the store, secret references unresolved."""

    def collides(self, other: LakeRoot) -> bool:
        """Whether one of the two lies in the other; that of a bucket leaves room for the copies in it."""
        mine, theirs = self.address, other.address
        if mine.joined(ENVIRONMENTS).contains(theirs) or theirs.joined(ENVIRONMENTS).contains(mine):
            return False
        return overlap(mine, theirs)


def shared_lake(one: LakeRoot, other: LakeRoot, what: str = "lake") -> ConfigurationError:
    """Return the error for an environment whose lake (or staging) is, or lies in, the place of another one."""
    return ConfigurationError(
        "shared-lake",
        f"the {what} of environment '{one.environment}' ({one.address.uri}) and the lake of '{other.environment}' "
        f"({other.address.uri}) lie in one another",
        hint=f"give each environment a {what} of its own",
    )


@dataclass(frozen=True)
class ReadThrough:
    """An environment that another one reads from, as a plan holds it."""

    environment: str
    lake: str
    storage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Environment:
    """Where pipelines read and write: the lake, staging, clusters and secrets of one environment."""

    name: str = "dev"
    lake: str = ".aiflow/lake"
    """Root of the lake: a folder (relative to the project) or an address."""
    staging: str = ""
    """Where frames lie between tasks; empty: ``_staging`` below the lake."""
    staging_keep_days: float = 7
    storage: Mapping[str, Any] = field(default_factory=dict)
    """How the lake's store is opened: endpoint, region, keys; see ``aiflow_sdk.stores.storage``. References to secrets
    are looked up where a task runs."""
    reads_from: str | None = None
    """The environment whose tables stand for those that this one lacks."""
    reads_storage: Mapping[str, Any] | None = None
    """How the store of ``reads_from`` is opened from here: with a key that only reads. None: as that one says."""
    reads: tuple[ReadThrough, ...] = ()
    """Where a table is looked for that is absent here, nearest first; follows from ``reads_from``."""
    keep_days: float | None = None
    spark: str | None = None
    """``sc://`` address of a Spark Connect server; None: an embedded one."""
    clusters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name of a cluster → its ``kind`` and options; one that is not named here is local."""
    listeners: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name of a listener → its ``kind`` and options; each hears of every event after it lies in the spool."""
    service: str | None = None
    """Address of the metadata service, which hears of every event too."""
    service_token: str | None = None
    """A reference to the token that it is called with."""
    service_over_http: bool = False
    """Whether tokens may go to another machine over plain http."""
    grants_keep_hours: float = 72
    """How long what the service said of grants is gone by while it is silent."""
    configuration_from_service: bool = False
    """Whether the service hands out settings that are not stated here; see ``aiflow_sdk.config.configuration``."""
    configuration_keep_hours: float = 72
    """How long what the service handed out is gone by while it is silent."""
    secrets: Mapping[str, Any] = field(default_factory=dict)
    """Where ``secret://name`` is looked up: ``provider`` (``env`` or ``file``) and its options."""
    bundles: str = ".aiflow/bundles"
    """Where ``aiflow deploy`` publishes: a folder (relative to the project) or an address; see ``aiflow_sdk.bundles``.
    Environments may share it."""
    bundles_storage: Mapping[str, Any] | None = None
    """How that store is opened. None: as the lake's, where it is the same kind of store."""
    bundles_keep: int = 20
    """How many of a project's newest releases are kept whatever their age."""
    bundles_keep_days: float = 30
    """How long a release is kept after it was the current one."""
    airflow: str | None = None
    """Address of the Airflow that runs what is deployed here, as a browser opens it."""
    airflow_token: str | None = None
    """A reference to the token that its REST API is called with."""
    airflow_user: str | None = None
    """Who logs in for a token, where none is given; or a reference to the name."""
    airflow_password: str | None = None
    """A reference to that user's password."""
    handed_out: tuple[ConfigurationItem, ...] = ()
    """The connections and variables that the service handed out and that this one goes by, without their values."""
    root: Path | None = None
    """The project's folder, known where something runs; relative addresses start there."""

    @property
    def hearers(self) -> Mapping[str, Mapping[str, Any]]:
        """All listeners: those that are named, and one for the metadata service."""
        if self.service is None:
            return self.listeners
        token = {"api_key": self.service_token} if self.service_token else {}
        return {**self.listeners, SERVICE: {"kind": "openlineage", "url": self.service, **token}}

    @cached_property
    def lake_root(self) -> LakeRoot:
        """The lake's root. Raises ``ConfigurationError`` (``unsupported-store``)."""
        return LakeRoot(self.name, parse_address(self.lake, root=self.root, storage=self.storage), self.storage)

    @cached_property
    def own_root(self) -> LakeRoot:
        """The lake's root as the one place that a run may write to.

        Raises ``ConfigurationError`` (``shared-lake``) where it is, by whatever spelling, link or mount, one that the
        environment only reads.
        """
        root = self.lake_root
        for other in self.read_roots:
            if root.collides(other):
                raise shared_lake(root, other)
        return root

    @cached_property
    def staging_root(self) -> Address:
        """Where frames lie between tasks, to be written to.

        Raises ``ConfigurationError``: ``shared-lake`` where it lies in a lake that is only read, ``outside-lake`` where
        it lies below the environment's own lake and a link leads out of it.
        """
        own = self.own_root.address
        address = parse_address(self.staging_address, storage=self.storage)
        place = LakeRoot(self.name, address, self.storage)
        for other in self.read_roots:
            if place.collides(other):
                raise shared_lake(place, other, "staging")
        stated = self.staging or f"{self.lake_address}/_staging"
        if own.is_folder and address.is_folder and "://" not in stated and not own.contains(address):
            path = os.path.normpath((self.root or Path.cwd()) / stated)
            lakes = (own.path, os.path.normpath((self.root or Path.cwd()) / self.lake))
            if any(Path(path).is_relative_to(lake) for lake in lakes):
                raise ConfigurationError(
                    "outside-lake",
                    f"'{stated}' leads out of the environment's lake by a link, to {address.uri}",
                    hint="remove the link, or set 'staging' to another folder",
                )
        return address

    @cached_property
    def read_roots(self) -> tuple[LakeRoot, ...]:
        """The lakes that are read where a table is absent here, nearest first."""
        return tuple(
            LakeRoot(one.environment, parse_address(one.lake, root=self.root, storage=one.storage), one.storage)
            for one in self.reads
        )

    @cached_property
    def bundles_root(self) -> LakeRoot:
        """Where deployments of all environments lie that say so. Raises ``ConfigurationError``."""
        if self.bundles_storage is not None:
            address = parse_address(self.bundles, root=self.root, storage=self.bundles_storage)
            return LakeRoot(self.name, address, self.bundles_storage)
        address = parse_address(self.bundles, root=self.root, storage=self.storage)
        is_alike = address.kind == self.lake_root.address.kind
        return LakeRoot(self.name, address, self.storage if is_alike else {})

    @property
    def lake_address(self) -> str:
        """The lake's root: an absolute folder, or an address without a slash at its end."""
        return self.lake_root.address.uri

    @property
    def lake_folder(self) -> Path | None:
        """The lake's root as an absolute folder; None where it is an address (``s3://`` …)."""
        return _as_folder(self.lake_address)

    @property
    def staging_address(self) -> str:
        """Where frames lie between tasks: an absolute folder, or an address, without a slash at its end."""
        return self.resolve(self.staging) if self.staging else f"{self.lake_address}/_staging"

    def resolve(self, address: str) -> str:
        """Return ``address`` as an absolute folder, starting at the project's root, or as the address of a store."""
        return parse_address(address, root=self.root, storage=self.storage).uri

    def anchored(self) -> Environment:
        """Return this environment with its folders absolute: for who runs elsewhere than in the project's folder."""

        def placed(text: str) -> str:
            return text if not text or "://" in text else self.resolve(text)

        path = self.secrets.get("path")
        return replace(
            self,
            lake=placed(self.lake),
            staging=placed(self.staging),
            secrets={**self.secrets, "path": placed(path)} if isinstance(path, str) else self.secrets,
            reads=tuple(replace(one, lake=placed(one.lake)) for one in self.reads),
        )

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
    """Return ``<address>-<name>``; below the address where that would name another bucket or leave a Fabric item."""
    address = address.rstrip("/")
    parts = urlsplit(address)
    if "://" not in address or parts.scheme == "file":
        return f"{address}-{name}"
    if (parts.hostname or "").endswith(FABRIC):  # an item has the folders Tables and Files, and no other
        item = address.removesuffix("/Tables").removesuffix("/Files")
        return f"{item}/Files/{ENVIRONMENTS}/{name}"
    return f"{address}-{name}" if parts.path else f"{address}/{ENVIRONMENTS}/{name}"
