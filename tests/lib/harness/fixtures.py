"""The harness as fixtures. Servers start when a test first asks, once for each process of the tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.azure import AzureServer, azure_server
from harness.place import FolderPlace, Kind, Place, StorePlace
from harness.postgres import PostgresServer, postgres_server
from harness.s3 import S3Server, s3_server
from harness.zygote import PRELOADED_FOR_SPARK, Zygote

MakePlace = Callable[[Kind], Place]


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server."""
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def azure() -> Iterator[AzureServer]:
    """An Azure Blob server: ``azure.plain`` and ``azure.onelake`` are its accounts."""
    with azure_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server: ``postgres.database()`` makes an empty database."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """A process that holds polars, pyarrow and delta-rs, for jobs that are killed over and over."""
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture(scope="session")
def spark_zygote() -> Iterator[Zygote]:
    """The same with Sail and its client; it starts more slowly."""
    zygote = Zygote(PRELOADED_FOR_SPARK)
    yield zygote
    zygote.close()


@pytest.fixture
def make_place(request: pytest.FixtureRequest, tmp_path: Path) -> MakePlace:
    """A function that makes an empty place of a kind (``folder``, ``s3``, ``azure``, ``onelake``)."""
    numbers = itertools.count()

    def make(kind: Kind) -> Place:
        if kind == "folder":
            root = tmp_path / f"lake-{next(numbers)}"
            root.mkdir()
            return FolderPlace(root)
        if kind == "s3":
            server: S3Server = request.getfixturevalue("s3")
            return StorePlace(kind, server, server.bucket())
        azure: AzureServer = request.getfixturevalue("azure")
        if kind == "azure":
            return StorePlace(kind, azure.plain, azure.plain.container())
        return StorePlace(kind, azure.onelake, azure.onelake.container(), "lh.Lakehouse/Tables")

    return make
