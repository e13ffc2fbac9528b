"""What the examples compile to, and that documents of older versions are still read and still run.

``plans/`` holds what the present compiler makes of the examples; facts of the machine are left out.
``documents/<version>/`` is a project with the ``ir.json`` and ``plan.json`` that aiflow of that version made of it, the
tables that it reads and the rows that it gives. Folders of older versions never change. ``UPDATE_GOLDEN=1`` writes the
examples' plans anew, and the documents of the version that is being made; read the difference.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aiflow_sdk import __version__
from aiflow_sdk.compiler import compile_pipeline
from aiflow_sdk.config import load_project
from aiflow_sdk.deployment import compile_project
from aiflow_sdk.ir import read_pipeline
from aiflow_sdk.plan import Plan, make_run, read_plan
from aiflow_sdk.plugins import installed_registry
from aiflow_sdk.runtime import execute_task

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
NAMES = ("flights", "user_features", "hourly_daily")
DOCUMENTS = HERE / "documents"
VERSIONS = sorted(path.name for path in DOCUMENTS.iterdir() if path.is_dir())
UPDATE = bool(os.environ.get("UPDATE_GOLDEN"))
DAY = "2026-11-20"


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(".aiflow", "__pycache__"))
    return to


def compiled(root: Path, environment: str | None = None) -> dict[str, dict[str, Any]]:
    """Return what ``aiflow compile`` writes: file below the folder of plans → document."""
    project = load_project(root)
    report = compile_project(project, project.environment(environment), installed_registry())
    assert not report.problems, report.problems
    return {
        str(path.relative_to(report.folder)): json.loads(path.read_text("utf-8"))
        for path in sorted(report.folder.rglob("*.json"))
    }


def compare(found: Mapping[str, Any], expected: Path) -> None:
    text = json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if UPDATE:
        expected.parent.mkdir(parents=True, exist_ok=True)
        expected.write_text(text, "utf-8")
    assert text == expected.read_text("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_an_example_compiles_to_what_it_did(tmp_path, name):
    documents = compiled(copied(EXAMPLES / name, tmp_path / name))
    for document in documents.values():
        if "plan_version" in document:
            # They tell which packages are installed here.
            assert {document.pop("lock")[:3], document.pop("version")[:3]} == {"v1:"}
    expected = HERE / "plans" / name
    for file, document in documents.items():
        compare(document, expected / file)
    assert {str(path.relative_to(expected)) for path in expected.rglob("*.json")} == set(documents)


def test_every_example_has_a_golden_plan():
    assert sorted(path.parent.name for path in EXAMPLES.glob("*/aiflow.toml")) == sorted(NAMES)


def test_the_version_that_is_being_made_has_its_documents(tmp_path):
    """A new version begins with a copy of the last one's folder, made anew with ``UPDATE_GOLDEN=1``."""
    mine = DOCUMENTS / __version__
    if UPDATE and not mine.exists():
        copied(DOCUMENTS / VERSIONS[-1], mine)
    documents = compiled(copied(mine, tmp_path / "project"), "prod")
    assert sorted(documents) == ["shop/sales/ir.json", "shop/sales/plan.json"]
    for file, document in documents.items():
        compare(document, mine / Path(file).name)


@pytest.fixture(params=VERSIONS)
def old(request, tmp_path, monkeypatch) -> Path:
    """A project as a former version left it, with its documents and with real tables in its lake."""
    root = copied(DOCUMENTS / request.param, tmp_path / "elsewhere")
    for name, rows in json.loads((root / "tables.json").read_text()).items():
        place = root.joinpath("lake", *name.split("."))
        place.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows).write_delta(str(place), delta_write_options={"partition_by": ["dt"]})
    monkeypatch.setenv("AIFLOW_SECRET_SHOP_TOKEN", "sesame")
    return root


def run(plan: Plan, root: Path) -> None:
    one = make_run(plan, partition=DAY)
    for task in plan.tasks:
        execute_task(plan, task.id, one, root=root)


def rows_in(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of everything that the pipeline wrote, each sorted."""
    found = {}
    for name in json.loads((root / "rows.json").read_text()):
        place = root.joinpath("lake", *name.replace("/", ".").split("."))
        is_table = (place / "_delta_log").exists()
        frame = pl.read_delta(str(place)) if is_table else pl.read_parquet(place / "**/*.parquet")
        found[name] = sorted(frame.select(sorted(frame.columns)).to_dicts(), key=repr)
    return found


def test_an_older_plan_still_runs(old):
    plan = read_plan((old / "plan.json").read_text("utf-8"))
    assert len(plan.tasks) == 4
    run(plan, old)
    assert rows_in(old) == json.loads((old / "rows.json").read_text())


def test_an_older_pipeline_still_compiles_and_runs(old):
    ir = read_pipeline((old / "ir.json").read_text("utf-8"))
    project = load_project(old)
    plan = compile_pipeline(ir, project=project, environment=project.environment("prod"), registry=installed_registry())
    run(plan, old)
    assert rows_in(old) == json.loads((old / "rows.json").read_text())


def test_an_older_pipeline_keeps_its_fingerprint(old):
    """Else every pipeline would be another one after an upgrade, and every backfill would begin from its beginning."""
    ir = read_pipeline((old / "ir.json").read_text("utf-8"))
    plan = read_plan((old / "plan.json").read_text("utf-8"))
    assert ir.fingerprint == plan.definition
    assert json.loads(ir.to_json()) == json.loads((old / "ir.json").read_text("utf-8"))


def known_to(document: Any, again: Any) -> Any:
    """Return what ``again`` says of the fields that the document has; later versions may have added others."""
    if isinstance(document, dict):
        return {name: known_to(value, again[name]) for name, value in document.items() if name in again}
    if isinstance(document, list) and len(document) == len(again):
        return [known_to(one, other) for one, other in zip(document, again, strict=True)]
    return again


def test_an_older_plan_keeps_its_meaning_when_it_is_read_and_written(old):
    document = json.loads((old / "plan.json").read_text("utf-8"))
    assert known_to(document, json.loads(read_plan(document).to_json())) == document


def test_the_code_of_an_older_plan_is_still_the_same_code(old):
    """What a plan was made of is told by fingerprints of the user's files, which no upgrade may change."""
    documents = compiled(old, "prod")
    plan, before = documents["shop/sales/plan.json"], json.loads((old / "plan.json").read_text("utf-8"))
    codes, codes_before = ({node["id"]: node["code"] for node in one["nodes"]} for one in (plan, before))
    assert codes == codes_before
    assert (plan["version"], plan["lock"]) == (before["version"], before["lock"])
