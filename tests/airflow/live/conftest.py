"""One live Airflow for the tests here, on PostgreSQL; ``test_sqlite`` has one on SQLite too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_trial import LiveAirflow, Project
from harness.postgres import PostgresServer

_SETTINGS = {
    # A task whose supervisor was killed is noticed in a minute, not in five; a busy machine is slow to beat.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIFLOW_SECRET_SHOP_TOKEN": "sesame",
}


@pytest.fixture(scope="session")
def airflow_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What all Airflows here are started with; users' environments are made once for all of them."""
    home = os.environ.get("AIFLOW_HOME") or str(tmp_path_factory.mktemp("workers") / "aiflow")
    return {"AIFLOW_HOME": home, **_SETTINGS}


@pytest.fixture(scope="session")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, airflow_settings: dict[str, str]
) -> Iterator[LiveAirflow]:
    """An Airflow on PostgreSQL. At the end it is asked who imported user code."""
    folder = tmp_path_factory.mktemp("airflow")
    settings = airflow_settings
    live = LiveAirflow(folder / "home", folder / "bundles", settings=settings, database=postgres.database())
    yield live
    live.stop()
    live.check_imports()


@pytest.fixture
def project(tmp_path: Path, airflow: LiveAirflow, request: pytest.FixtureRequest) -> Project:
    """A project whose name is the test's, so that tests do not meet."""
    return Project(tmp_path / "project", airflow, request.node.name.split("[")[0].removeprefix("test_")[:60])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all here time: the first one waits until Airflow is up and the user's environment is made."""
    for item in items:
        item.add_marker(pytest.mark.timeout(900))
