"""A worker that is killed with -9 in any phase of a task is followed by one who makes the same table, once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import polars as pl
import pytest

from airflow_trial import LiveAirflow, Project, is_alive, parent_of, watcher_of

"""Whoever comes first waits for Airflow and for the user's environment too."""

PHASES = ("supervised", "read", "user", "write", "before_commit", "after_commit")
PIPELINES = f"""
from aiflow_sdk import pipeline, sink, source
import held

def made(phase):
    @pipeline(id=phase, retries=1, retry_delay_minutes=0.02)
    def body(p):
        rows = p.read(source.held(id="rows", phase=phase))
        p.write(rows.transform(id="work", engine="python", fn="etl:work", phase=phase),
                sink.onelake(id="out", table=f"mart.{{phase}}", mode="append"))
    return body

{"; ".join(f'{phase} = made("{phase}")' for phase in PHASES)}
"""
HELD = """
import os, pathlib, time
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plugins import Source
from aiflow_sdk import register_source

def hold(phase):
    \"\"\"Tell who is here, and stay until the end: the first time.\"\"\"
    mark = pathlib.Path("SIGNALS", phase)
    if not mark.exists():
        beside = mark.with_suffix(".part")
        beside.write_text(str(os.getpid()))
        beside.rename(mark)
        time.sleep(600)

@register_source("held")
class Held(Source):
    phase: str = ""

    def dataset(self):
        return DatasetName("held", self.phase)

    def arrow_schema(self):
        import pyarrow as pa
        return pa.schema({"id": pa.int64()})

    def scan(self, request):
        import pyarrow as pa
        if self.phase == "read":
            hold("read")
        yield pa.record_batch({"id": [1, 2, 3]})
"""
CODE = """
import polars as pl
from held import hold

def work(rows: pl.DataFrame, phase: str) -> pl.LazyFrame:
    if phase in ("user", "supervised"):
        hold(phase)
    if phase.endswith("commit"):
        hold_commit(phase)
    return rows.lazy().map_batches(lambda frame: held(frame, phase))

def held(frame, phase):
    if phase == "write":
        hold(phase)
    return frame

def hold_commit(phase):
    from aiflow_sdk.connectors.onelake import sink
    commit = sink.commit
    def held_commit(change):
        if phase == "before_commit":
            hold(phase)
        done = commit(change)
        if phase == "after_commit":
            hold(phase)
        return done
    sink.commit = held_commit
"""


@pytest.fixture
def signals(project: Project, tmp_path: Path) -> Path:
    """The folder where the held tasks say that they are held, each with the number of its process."""
    folder = tmp_path / "signals"
    folder.mkdir()
    project.write("pipelines/held_ones.py", PIPELINES)
    project.write("held.py", HELD.replace("SIGNALS", str(folder)))
    project.write("etl.py", CODE)
    project.deploy()
    return folder


def test_killed_in_any_phase_and_tried_again_it_makes_the_same_table_once(
    project: Project, signals: Path, airflow: LiveAirflow
):
    def dag_of(phase: str) -> str:
        return f"{project.name}.{phase}"

    def kill(phase: str) -> None:
        child = int(
            airflow.until((signals / phase).exists, f"the phase {phase}", 180) and (signals / phase).read_text()
        )
        runner = watcher_of(child)
        os.kill(parent_of(runner) if phase == "supervised" else runner, signal.SIGKILL)
        airflow.until(lambda: not is_alive(child), f"the end of the child in phase {phase}", 20)

    runs = {}
    for first, *others in (PHASES[:3], PHASES[3:]):  # no more at once than there are workers
        for phase in (first, *others):
            airflow.await_dag(dag_of(phase))
            airflow.unpause(dag_of(phase))
            runs[phase] = airflow.trigger(dag_of(phase))
        for phase in (first, *others):
            kill(phase)
    for phase in reversed(PHASES):  # who lost its supervisor is missed last
        airflow.await_run(dag_of(phase), runs[phase])
        assert airflow.task(dag_of(phase), runs[phase], "work")["try_number"] == 2
        assert pl.read_delta(str(project.lakes[0] / "mart" / phase))["id"].sort().to_list() == [1, 2, 3]
