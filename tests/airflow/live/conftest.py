"""One live Airflow for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_trial import LiveAirflow, Project


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveAirflow]:
    folder = tmp_path_factory.mktemp("airflow")
    live = LiveAirflow(folder / "home", folder / "bundles")
    yield live
    live.stop()


@pytest.fixture
def project(tmp_path: Path, airflow: LiveAirflow, request: pytest.FixtureRequest) -> Project:
    """A project whose name is the test's, so that tests do not meet."""
    return Project(tmp_path / "project", airflow, request.node.name.split("[")[0].removeprefix("test_")[:60])
