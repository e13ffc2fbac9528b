"""A run that was killed together with whoever would have told of it does not stay running in the service."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

from aiflow_sdk.cli import main
from service_trial import running_service, wait_until

SLEEPS = """
import time
from pathlib import Path

import polars as pl
from aiflow_sdk import pipeline, sink, source

def main(numbers: pl.DataFrame) -> pl.DataFrame:
    Path("sleeping").touch()
    while not Path("go").exists():
        time.sleep(0.1)
    return numbers

@pipeline(id="p", schedule=None, owner="o")
def p(p):
    numbers = p.read(source.files(id="numbers", path="numbers.csv"))
    p.write(numbers.transform(id="main", fn="pipelines.p:main"), sink.onelake(id="out", table="a.b"))
"""


def test_a_run_that_was_killed_with_all_its_processes_ends_for_the_service(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path / "home"))
    project = tmp_path / "project"
    (project / "pipelines").mkdir(parents=True)
    (project / "pipelines" / "p.py").write_text(SLEEPS)
    (project / "numbers.csv").write_text("n\n1\n")
    with running_service(tmp_path, f"sqlite:///{tmp_path / 'service.db'}") as service:
        (project / "aiflow.toml").write_text(f'[environments.dev]\nservice = "{service.address}"\n')
        command = [sys.executable, "-m", "aiflow_sdk.cli", "-C", str(project), "run", "p"]
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
        wait_until(lambda: (project / "sleeping").exists() and service.get("/api/v1/runs", state="running")["items"])
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        (run,) = service.get("/api/v1/runs", state="running")["items"]

        def events_sent() -> int:
            capsys.readouterr()
            assert main(["-C", str(project), "sync", "--json"]) == 0
            (account,) = json.loads(capsys.readouterr().out)["listeners"]
            return int(account["events"])

        def told() -> dict[str, Any]:
            return service.get(f"/api/v1/runs/{run['run_id']}")

        # Its worker is a session of its own, which ends once it finds itself alone; until then the run goes on.
        wait_until(lambda: events_sent() and told()["state"] == "failed")
        assert events_sent() == 0  # it is told once
        assert told()["error"]["code"] == "worker-died"
        assert service.get("/api/v1/runs", state="running", parts="true")["items"] == []
        # It stays one that may be gone on with.
        (project / "go").touch()
        assert main(["-C", str(project), "runs", "--json"]) == 0
        (local,) = json.loads(capsys.readouterr().out)
        assert local["state"] == "interrupted"
        assert main(["-C", str(project), "run", "p", "--resume", local["run"]["run_id"]]) == 0
        wait_until(lambda: service.get(f"/api/v1/runs/{run['run_id']}")["state"] == "succeeded")
