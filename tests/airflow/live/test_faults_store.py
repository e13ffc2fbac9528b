"""What is damaged in the bundle store, or a store that is away, harms whom it belongs to, until it is mended."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import polars as pl
import pytest

from aiflow_sdk.bundles import BundleStore, shard_of
from airflow_trial import LiveAirflow, Project

"""Whoever comes first waits for Airflow and for the user's environment too."""

PIPELINE = """
from aiflow_sdk import pipeline, sink, source

def made(name):
    @pipeline(id=name)
    def body(p):
        rows = p.read(source.onelake(id="rows", table="raw.rows"))
        p.write(rows.transform(id="work", engine="python", fn="etl:work"), sink.onelake(id="out", table=f"mart.{name}"))
    return body

"""
CODE = """
import pathlib, time
import polars as pl

def work(rows: pl.DataFrame) -> pl.DataFrame:
    pathlib.Path("BEGUN").touch()
    while pathlib.Path("HOLD").exists():
        time.sleep(0.05)
    return rows.with_columns(made=pl.lit("first"))
"""


@pytest.fixture
def names(project: Project) -> dict[str, str]:
    """What becomes of a pipeline → its id; all of them lie in one shard."""
    wanted = shard_of(f"{project.name}.good")
    cut, missing = (
        next(name for number in count() if shard_of(f"{project.name}.{(name := f'{fate}{number}')}") == wanted)
        for fate in ("cut", "missing")
    )
    return {"good": "good", "cut": cut, "missing": missing}


def is_broken(airflow: LiveAirflow, dag_id: str) -> bool:
    return [tag["name"] for tag in airflow.await_dag(dag_id)["tags"]] == ["aiflow-broken"]


def test_damaged_plans_harm_their_pipelines_alone_and_a_store_that_is_away_nobody(
    project: Project, names: dict[str, str], airflow: LiveAirflow, tmp_path: Path
):
    hold, begun = tmp_path / "hold", tmp_path / "begun"
    project.write("pipelines/made.py", PIPELINE + "\n".join(f'{name} = made("{name}")' for name in names.values()))
    project.write("etl.py", CODE.replace("HOLD", str(hold)).replace("BEGUN", str(begun)))
    rows = pl.DataFrame({"id": [1, 2, 3]})
    (project.lakes[0] / "raw" / "rows").mkdir(parents=True)
    rows.write_delta(project.lakes[0] / "raw" / "rows")
    project.deploy()
    good, cut, missing = dags = [f"{project.name}.{name}" for name in names.values()]
    for dag_id in dags:
        airflow.await_dag(dag_id)
    airflow.unpause(good)
    hold.touch()
    running = airflow.trigger(good)
    airflow.until(begun.exists, "its beginning", 180)

    # One plan is cut in half and another one is gone, in the store and in what this machine keeps.
    store = BundleStore.open(str(airflow.store), airflow.environment)
    newest = store.newest()
    assert newest is not None
    document = store.project(newest.project_version)
    entries = store.shard(document.shards[shard_of(good)])
    kept = airflow.home / "bundles" / "aiflow" / "objects"
    for folder in (airflow.store / airflow.environment / "objects", kept):
        plan = folder / entries[cut].plan[:2] / entries[cut].plan
        plan.write_bytes(plan.read_bytes()[: plan.stat().st_size // 2])
        (folder / entries[missing].plan[:2] / entries[missing].plan).unlink()
    shim = kept.parent / "current" / f"aiflow_{shard_of(good)}.py"
    shim.touch()
    airflow.until(lambda: is_broken(airflow, cut) and is_broken(airflow, missing), "the broken DAGs")
    assert not is_broken(airflow, good)
    told = {dag_id: airflow.call("GET", f"dags/{dag_id}/details")["doc_md"] for dag_id in (cut, missing)}
    assert "error[damaged-object]" in told[cut]
    assert "error[missing-object]" in told[missing]

    # The store is away: what runs goes on, what is known begins, nothing is lost.
    away = airflow.store.with_name("away")
    airflow.store.rename(away)
    another = airflow.trigger(good)
    hold.unlink()
    airflow.await_run(good, running)
    airflow.await_run(good, another)
    shim.touch()  # it is parsed while the store is away
    seen = airflow.call("GET", f"dags/{good}/details")["last_parsed_time"]
    airflow.until(lambda: airflow.call("GET", f"dags/{good}/details")["last_parsed_time"] != seen, "a parse")
    assert not is_broken(airflow, good)
    away.rename(airflow.store)
    assert airflow.call("GET", "monitor/health")["dag_processor"]["status"] == "healthy"

    # Repaired, they are as they were, and a later publish is seen.
    project.aiflow("deploy", "--env", airflow.environment, "--repair")
    airflow.until(lambda: not is_broken(airflow, cut) and not is_broken(airflow, missing), "the mended DAGs")
    before = airflow.version_of(good)
    project.write("etl.py", (project.root / "etl.py").read_text().replace('"first"', '"second"'))
    project.deploy()
    airflow.until(lambda: airflow.version_of(good) > before, "the new version")
    airflow.unpause(cut)
    airflow.await_run(cut, airflow.trigger(cut))
    assert set(pl.read_delta(str(project.lakes[0] / "mart" / names["cut"]))["made"]) == {"second"}
