"""These tests import Airflow and run in ``.venv-airflow``; those of ``live`` talk to one and run in ``.venv``."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

collect_ignore_glob = ["test_*.py"] if find_spec("airflow") is None else ["live/*"]


@pytest.fixture
def order(tmp_path: Path) -> dict[str, Any]:
    """An order for a task's process that ends at once: there is no such plan."""
    return {
        "plan": str(tmp_path / "plan.json"),
        "task": "t",
        "run": {},
        "project": str(tmp_path),
        "folder": str(tmp_path),
    }
