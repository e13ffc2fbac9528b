"""Settings that every test shares."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy two-core machine is slow without anything being wrong; the same examples every time keep a green run green.
settings.register_profile(
    "aiflow",
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("aiflow")

pytest.register_assert_rewrite("cells.claims", "cells.kill_claims")
pytest_plugins = ["harness.fixtures", "cells.fixtures", "cells.matrix"]

# The longest first: files go to the workers of xdist whole, and a long one that begins last leaves all others idle.
LONGEST = (
    "e2e/test_eject_airflow.py",
    "e2e/test_local_runner.py",
    "e2e/test_backfill_interrupted.py",
    "e2e/test_bad_input.py",
    "lake/test_kills_folder.py",
    "service/test_faults.py",
    "e2e/test_cli.py",
    "lake/test_any_order.py",
    "lake/test_store_faults.py",
    "lake/test_conflicts.py",
    "service/test_sent.py",
    "unit/test_runtime_child.py",
    "unit/test_typing.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; the others stay in their order."""
    ranks = {str(Path(__file__).parent / path): rank for rank, path in enumerate(LONGEST)}
    assert all(Path(path).is_file() for path in ranks), f"one of {LONGEST} has another name now"
    items.sort(key=lambda item: ranks.get(str(item.path), len(LONGEST)))


@pytest.fixture(autouse=True)
def _no_handler_stays() -> Iterator[None]:
    """Take away what a test has let a program of ours put on the root logger: its stream is closed after the test."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in [one for one in root.handlers if type(one) is logging.StreamHandler and one not in before]:
        root.removeHandler(handler)
