"""Where a task works on a worker: among the project's files, in a folder of its own."""

import fcntl
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from aiflow_airflow.supply import FolderSupply, _scratch

from aiflow_sdk.plan import Plan


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    (root / "data").mkdir(parents=True)
    (root / "data" / "rates.csv").write_text("eur,1.1\n")
    (root / "etl.py").write_text("x = 1\n")
    return root


def test_the_project_s_files_are_read_and_what_is_written_goes(project, tmp_path):
    before = sorted(path.name for path in project.rglob("*"))
    with _scratch(tmp_path / "home", project) as one, _scratch(tmp_path / "home", project) as other:
        assert (one / "data" / "rates.csv").read_text() == "eur,1.1\n"
        (one / "out.csv").write_text("mine")
        assert not (other / "out.csv").exists()
    assert sorted(path.name for path in project.rglob("*")) == before
    assert os.listdir(tmp_path / "home" / "scratch") == []


def test_one_in_use_is_locked_against_who_collects(project, tmp_path):
    with _scratch(tmp_path / "home", project) as folder:
        handle = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)


def test_a_home_that_may_not_be_written_is_no_hindrance(project, tmp_path):
    (tmp_path / "home").write_text("no folder")
    with _scratch(tmp_path / "home", project) as folder:
        assert (folder / "etl.py").read_text() == "x = 1\n"
    assert not folder.exists()


def test_a_plan_that_is_used_again_counts_as_used(tmp_path, monkeypatch):
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path / "home"))
    # Of a plan the supply takes no more than these two.
    plan = SimpleNamespace(fingerprint="sha256:abc", to_json=lambda: "{}")
    supply = FolderSupply(tmp_path, Path(sys.executable), cast(Plan, plan))
    with supply.ready() as ready:
        os.utime(ready.plan, (1, 1))
    with supply.ready() as ready:
        assert ready.plan.stat().st_mtime > 1
        assert ready.plan.read_text() == "{}"
