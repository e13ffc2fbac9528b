"""Files for each day: one dataset with a partition for each, whose change makes that day stale and no other."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiflow_sdk.cli import main
from service_trial import Service, unique

PIPELINES = """
from aiflow_sdk import pipeline, sink, source

def same(rows):
    return rows.drop("dt")

@pipeline(id="first", schedule="@daily", owner="ana", start_date="{start}")
def first(p):
    rows = p.read(source.files(id="rows", path="{name}/in/dt={{{{ ds }}}}", format="csv"))
    p.write(rows.transform(id="same", fn="pipelines.flows:same"),
            sink.files(id="out", path="{name}/days/dt={{{{ ds }}}}", format="csv"))

@pipeline(id="second", schedule="@daily", owner="ana", start_date="{start}")
def second(p):
    rows = p.read(source.files(id="rows", root="lake", path="{name}/days/dt={{{{ ds }}}}", format="csv"))
    p.write(rows.sql("select sum(n) as n from {{rows}}", id="sums"),
            sink.files(id="out", path="{name}/sums-{{{{ ds_nodash }}}}.csv"))

@pipeline(id="third", schedule="@daily", owner="ana", start_date="{start}")
def third(p):
    rows = p.read(source.files(id="rows", root="lake", path="{name}/sums-{{{{ ds_nodash.offset(-1) }}}}.csv"))
    p.write(rows.sql("select n, {{{{ ds }}}} as dt from {{rows}}", id="dated"),
            sink.onelake(id="out", table="{name}.before", partition_by=["dt"]))
"""
DAYS = [str(datetime.now(UTC).date() - timedelta(days=days)) for days in (4, 3, 2, 1)]


@pytest.fixture(scope="module")
def service(_services: Any) -> Service:
    """One database is enough: the ledger is tried on both."""
    return _services("sqlite")


@pytest.fixture
def name() -> str:
    return unique("feed").replace("-", "_")


@pytest.fixture
def root(tmp_path: Path, service: Service, name: str, monkeypatch: Any) -> Path:
    """A project of three pipelines, each of which reads what the one before it writes; it is deployed."""
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path / "home"))
    root = tmp_path / "project"
    (root / "pipelines").mkdir(parents=True)
    (root / "requirements.txt").touch()
    (root / "aiflow.toml").write_text(
        f'project = "{name}"\nlock = "requirements.txt"\n\n[environments.dev]\nlake = ".aiflow/lake"\n'
        f'bundles = "bundles"\nservice = "{service.address}"\n'
    )
    (root / "pipelines" / "flows.py").write_text(PIPELINES.format(name=name, start=DAYS[0]))
    for day in DAYS:
        lay(root, name, day, "n\n1\n")
    return root


def lay(root: Path, name: str, day: str, text: str) -> None:
    folder = root / name / "in" / f"dt={day}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.csv").write_text(text)


def typed(capsys: Any, root: Path, *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["-C", str(root), *words, "--json"]) == 0, capsys.readouterr()
    out = capsys.readouterr().out
    return json.loads(out) if out.startswith("[") else [json.loads(line) for line in out.splitlines()]


def stale(capsys: Any, root: Path, dataset: str) -> list[tuple[str, str]]:
    """Return the partitions of a dataset that are not current, and why."""
    return [(one["partition"], one["reason"]) for one in typed(capsys, root, "status", dataset) if one["reason"]]


def due(capsys: Any, root: Path, pipeline: str) -> dict[str, str]:
    """Return the days that a backfill would make again, and why."""
    told, *_ = typed(capsys, root, "backfill", pipeline, "--from", DAYS[1], "--to", DAYS[-1], "--dry-run")
    return {one["partition"]: one["reason"] for one in told["partitions"] if one["reason"]}


def test_days_of_files_are_partitions_of_one_dataset_and_a_change_concerns_one_of_them(
    capsys: Any, root: Path, name: str, service: Service
) -> None:
    typed(capsys, root, "deploy")
    for pipeline, first in (("first", 0), ("second", 0), ("third", 1)):
        typed(capsys, root, "backfill", pipeline, "--from", DAYS[first], "--to", DAYS[-1])

    # One dataset for each node, which the release has declared and the runs have told of.
    days, sums, before = f"{name}.days", f"{name}/sums-{{{{ ds_nodash }}}}.csv", f"{name}.before"
    found = {one["name"]: one["namespace"] for one in service.pages("/api/v1/datasets", q=name)}
    assert found == {f"{name}/in": "file", days: "onelake", sums: "onelake", before: "onelake"}
    graph = service.get("/api/v1/lineage/tables", dataset=before, depth=9)
    assert len(graph["edges"]) == 6
    assert {(one["basis"], one["undeclared"]) for one in graph["edges"]} == {("both", False)}

    # A partition for each day, and the address of what was read and written.
    assert [stale(capsys, root, one) for one in (days, before)] == [[], []]
    made = {one["partition"]: one["made"] for one in typed(capsys, root, "status", sums)}
    assert [made[day]["written"] for day in DAYS] == [[day.replace("-", "")] for day in DAYS]
    assert [one["partitions"] for day in DAYS for one in made[day]["inputs"]] == [[f"dt={day}"] for day in DAYS]
    assert located(root, "first") == {(f"{name}/in/dt={day}", f"{name}/days/dt={day}") for day in DAYS}

    # A file that changed makes the day of it stale here, and what is made of it in the service: of that day alone.
    lay(root, name, DAYS[1], "n\n1\n2\n")
    assert due(capsys, root, "first") == {DAYS[1]: "input 'rows' was restated"}
    typed(capsys, root, "run", "first", "--date", DAYS[1])
    assert due(capsys, root, "first") == {}
    assert due(capsys, root, "second") == {DAYS[1]: "input 'rows' was restated"}
    assert stale(capsys, root, days) == []
    assert stale(capsys, root, sums) == [(DAYS[1], "input 'rows' was restated")]
    assert stale(capsys, root, before) == []
    planned = typed(capsys, root, "repair", days, "--down", "--dry-run")
    assert [(one["pipeline"], one["partition"]) for one in planned] == [("second", DAYS[1]), ("third", DAYS[2])]
    typed(capsys, root, "repair", days, "--down")
    assert [stale(capsys, root, one) for one in (days, sums, before)] == [[], [], []]


def located(root: Path, pipeline: str) -> set[tuple[str, str]]:
    """Return what the runs of a pipeline say that they read and wrote: the part of the dataset."""
    found = set()
    for path in (root / ".aiflow" / "runs").glob("*/events.jsonl"):
        event = json.loads(path.read_text().splitlines()[-1])
        if event["job"]["name"].endswith(f"/{pipeline}"):
            (read,), (written,) = event["inputs"], event["outputs"]
            locations = (
                read["inputFacets"]["subset"]["inputCondition"],
                written["outputFacets"]["subset"]["outputCondition"],
            )
            assert [one["type"] for one in locations] == ["location", "location"]
            found.add(tuple(one["locations"][0] for one in locations))
    return found
