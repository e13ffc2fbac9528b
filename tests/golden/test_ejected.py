"""What the examples, and a project of every kind, are ejected to: files that people keep, so each change is read.

``UPDATE_GOLDEN=1`` writes them anew.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aiflow_sdk.code import CodeIndex
from aiflow_sdk.config import load_project
from aiflow_sdk.discovery import discover
from aiflow_sdk.eject import eject_pipeline
from aiflow_sdk.plugins import installed_registry
from aiflow_sdk.workspace import Workspace
from plain_projects import lay_shop

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
EJECTED = HERE / "ejected"
PIPELINES = {
    "flights": ("flights_daily",),
    "hourly_daily": ("clicks_hourly", "clicks_daily"),
    "user_features": ("daily_user_feature_pipeline",),
    "shop": ("shop", "monthly", "store", "odd"),
}
ALL = [(project, pipeline) for project, pipelines in PIPELINES.items() for pipeline in pipelines]
UPDATE = bool(os.environ.get("UPDATE_GOLDEN"))


def ejected(root: Path, pipeline: str, environment: str | None = None) -> str:
    project = load_project(root)
    found = discover(project)
    one = found.pipeline(pipeline)
    plan = Workspace(project, installed_registry(), found.marked).compile(one.ir, project.environment(environment))
    code = found.code or CodeIndex(project.root)
    return eject_pipeline(plan, project.environment(environment), code, one.locations).text


def laid(project: str, tmp_path: Path) -> Path:
    if project == "shop":
        return lay_shop(tmp_path / project)
    root = tmp_path / project
    shutil.copytree(EXAMPLES / project, root, ignore=shutil.ignore_patterns(".aiflow", "__pycache__"))
    return root


@pytest.mark.parametrize(("project", "pipeline"), ALL)
def test_a_pipeline_is_ejected_to_what_it_was(tmp_path, project, pipeline):
    environment = {"store": "prod", "odd": "odd"}.get(pipeline)
    text = ejected(laid(project, tmp_path), pipeline, environment)
    golden = EJECTED / f"{pipeline}.py.txt"
    if UPDATE:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, "utf-8")
    assert text == golden.read_text("utf-8")


def test_each_golden_file_is_one_of_a_pipeline():
    assert {path.name for path in EJECTED.iterdir()} == {f"{pipeline}.py.txt" for _, pipeline in ALL}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for path in EJECTED.iterdir():
        shutil.copy(path, tmp_path / path.name.removesuffix(".txt"))
    return tmp_path


def ruff(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ruff")), *words, "--isolated", "."],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_are_formatted_as_ruff_formats(files):
    ruff(files, "format", "--diff")


def test_ruff_finds_nothing_wrong_with_them(files):
    ruff(files, "check", "--extend-select=I,UP,B,SIM,RUF,DTZ,PERF,PLW,N,C4")


def test_they_import_no_aiflow():
    for path in EJECTED.iterdir():
        lines = [line.split() for line in path.read_text("utf-8").splitlines()]
        imported = [words[1] for words in lines if words[:1] in (["import"], ["from"])]
        assert imported
        assert not [name for name in imported if name.startswith("aiflow")]


def test_the_text_hangs_on_no_hash_seed(tmp_path):
    root = lay_shop(tmp_path / "shop")
    texts = {
        subprocess.run(
            [sys.executable, "-m", "aiflow_sdk.cli", "eject", "shop"],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1
