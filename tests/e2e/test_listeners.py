"""A listener of another package hears of every event after it lies in the spool, and may fail without harm."""

import json
import os
import subprocess
import sys

import pytest

from aiflow_sdk.local import list_runs

LISTENER = '''
import json, time
from aiflow_sdk.plugins import Listener


class Recorder(Listener, kind="recorder"):
    """Appends events to a file."""

    path: str
    fails: bool = False
    token: str = ""

    sleeps: float = 0
    down: bool = False

    def on_event(self, event):
        time.sleep(self.sleeps)
        if self.down:
            raise ConnectionError("nobody is there")
        if self.fails:
            raise RuntimeError("nobody listens")
        with open(self.path, "a") as file:
            file.write(json.dumps({"token": self.token, **event}) + "\\n")

    def close(self):
        with open(self.path, "a") as file:
            file.write(json.dumps({"closed": True}) + "\\n")
'''

PIPELINE = """
import polars as pl
from aiflow_sdk import pipeline, sink, source

def main(numbers: pl.DataFrame) -> pl.DataFrame:
    return numbers

@pipeline(id="p", schedule=None, owner="o")
def p(p):
    numbers = p.read(source.files(id="numbers", path="numbers.csv"))
    p.write(numbers.transform(id="main", fn="pipelines.p:main"), sink.onelake(id="out", table="a.b"))
"""


@pytest.fixture
def project(tmp_path):
    package = tmp_path / "site"
    (package / "recorder_plugin-1.0.dist-info").mkdir(parents=True)
    (package / "recorder_plugin.py").write_text(LISTENER)
    (package / "recorder_plugin-1.0.dist-info" / "METADATA").write_text("Name: recorder-plugin\nVersion: 1.0\n")
    (package / "recorder_plugin-1.0.dist-info" / "entry_points.txt").write_text(
        "[aiflow.listeners]\nrecorder = recorder_plugin:Recorder\n"
    )
    root = tmp_path / "project"
    (root / "pipelines").mkdir(parents=True)
    (root / "pipelines" / "p.py").write_text(PIPELINE)
    (root / "numbers.csv").write_text("n\n1\n2\n")
    return root


def run(root, **listener):
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in listener.items())
    (root / "aiflow.toml").write_text(f"[environments.dev.listeners.mine]\n{lines}")
    variables = {**os.environ, "PYTHONPATH": str(root.parent / "site"), "AIFLOW_SECRET_RECORDER_TOKEN": "sesame"}
    command = [sys.executable, "-m", "aiflow_sdk.cli", "run", "p"]
    return subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True)


def spooled(root):
    (spool,) = root.glob(".aiflow/runs/*/events.jsonl")
    return [json.loads(line) for line in spool.read_text().splitlines()]


def test_a_listener_hears_what_the_spool_holds(project):
    done = run(project, kind="recorder", path="heard.jsonl", token="secret://recorder_token")
    assert done.returncode == 0, done.stderr
    *heard, closed = [json.loads(line) for line in (project / "heard.jsonl").read_text().splitlines()]
    assert closed == {"closed": True}
    assert {event.pop("token") for event in heard} == {"sesame"}
    assert heard == spooled(project)
    assert [event["eventType"] for event in heard] == ["START", "START", "COMPLETE", "COMPLETE"]


def test_a_listener_that_fails_stops_nobody(project):
    done = run(project, kind="recorder", path="heard.jsonl", fails=True)
    assert done.returncode == 0, done.stderr
    assert len(spooled(project)) == 4


@pytest.mark.parametrize(
    ("options", "text"),
    [({"kind": "recordr", "path": "x"}, "did you mean 'recorder'"), ({"kind": "recorder"}, "needs the option 'path'")],
)
def test_a_wrong_listener_is_told_before_anything_runs(project, options, text):
    done = run(project, **options)
    assert done.returncode == 1
    assert text in done.stdout + done.stderr
    assert "aiflow.toml:1" in done.stdout + done.stderr
    assert not (project / ".aiflow/runs").exists()


def test_a_slow_listener_keeps_no_run_waiting(project):
    done = run(project, kind="recorder", path="heard.jsonl", sleeps=2)
    assert done.returncode == 0, done.stderr
    (record,) = list_runs(project)
    assert record.seconds < 6  # one that waited for the five events would take ten
    assert len((project / "heard.jsonl").read_text().splitlines()) == 5


def test_what_a_listener_could_not_hear_is_said_and_sent_first_next_time(project):
    done = run(project, kind="recorder", path="heard.jsonl", down=True)
    assert done.returncode == 0, done.stderr
    assert "4 events are kept and sent with the next run" in done.stdout + done.stderr
    done = run(project, kind="recorder", path="heard.jsonl")
    *heard, _closed = [json.loads(line) for line in (project / "heard.jsonl").read_text().splitlines()]
    spools = sorted(project.glob(".aiflow/runs/*/events.jsonl"))
    every = [json.loads(line) for spool in spools for line in spool.read_text().splitlines()]
    assert [{k: v for k, v in event.items() if k != "token"} for event in heard] == every
    run(project, kind="recorder", path="heard.jsonl")
    assert len((project / "heard.jsonl").read_text().splitlines()) == 8 + 1 + 4 + 1


def test_a_listener_that_is_new_hears_of_no_old_run(project):
    run(project, kind="recorder", path="heard.jsonl")
    (project / "heard.jsonl").unlink()
    (project / "aiflow.toml").write_text("")
    for path in project.glob(".aiflow/runs/*/*.position"):
        path.unlink()
    run(project, kind="recorder", path="heard.jsonl")
    assert len((project / "heard.jsonl").read_text().splitlines()) == 5
