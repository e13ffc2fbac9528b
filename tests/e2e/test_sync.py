"""The metadata service hears of runs by a setting alone, and of what it missed by `aiflow sync`."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiflow_sdk import events
from aiflow_sdk.cli import main
from aiflow_sdk.lineage import RunSpool
from receiver import running

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
TOKEN = "open-sesame-42"


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def aiflow(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "aiflow_sdk.cli", "-C", str(root), *arguments]


def run(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(aiflow(root, "run", "p", "--json"), capture_output=True, text=True)


def spooled(root: Path) -> list[dict]:
    spools = sorted(root.glob(".aiflow/runs/*/events.jsonl"))
    return [json.loads(line) for spool in spools for line in spool.read_text().splitlines()]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIFLOW_SECRET_SERVICE", TOKEN)
    root = tmp_path / "project"
    (root / "pipelines").mkdir(parents=True)
    (root / "pipelines" / "p.py").write_text(PIPELINE)
    (root / "numbers.csv").write_text("n\n1\n2\n")
    return root


def settle_on(root: Path, port: int, more: str = "") -> None:
    (root / "aiflow.toml").write_text(
        f'[environments.dev]\nservice = "http://127.0.0.1:{port}"\nservice_token = "secret://service"\n{more}'
    )


def sync(root: Path, capsys, *arguments: str) -> tuple[int, dict]:
    capsys.readouterr()
    code = main(["-C", str(root), "sync", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def spool_by_hand(folder: Path, environment: str, count: int, first: int = 0) -> None:
    folder.mkdir(parents=True)
    with (folder / "events.jsonl").open("w") as file:
        for number in range(first, first + count):
            facet = events.own_facet("run", {"environment": environment})
            run_id = events.job_run_id("0193c000-0000-7000-8000-000000000000", number)
            event = events.run_event(
                "START",
                run_id=run_id,
                job_namespace=f"aiflow/{environment}",
                job_name=f"job {number}",
                run_facets={"aiflow_run": facet},
            )
            file.write(json.dumps(event) + "\n")


def test_a_service_that_was_down_is_sent_all_and_an_emptied_one_is_sent_it_again(root, capsys):
    port = free_port()
    settle_on(root, port)
    with running(port):  # once it has to say what may be touched
        assert run(root).returncode == 0
    shutil.rmtree(root / ".aiflow/runs")
    done = run(root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 events are kept and sent with the next run, or by: aiflow sync" in done.stdout
    code, told = sync(root, capsys)
    (account,) = told["listeners"]
    assert code == 1
    assert (account["listener"], account["events"], account["waiting"], account["waiting_runs"]) == ("service", 0, 4, 1)
    assert account["why"]["code"] == "receiver-unreachable"
    assert main(["-C", str(root), "sync"]) == 1
    words = capsys.readouterr().out
    assert "4 events of 1 run wait: " in words
    assert f"http://127.0.0.1:{port} cannot be reached" in words

    with running(port) as receiver:
        code, told = sync(root, capsys)
        (account,) = told["listeners"]
        assert (code, account["events"], account["runs"], account["waiting"]) == (0, 4, 1, 0)
        assert receiver.heard == spooled(root)
        assert {headers["authorization"] for _, headers, _ in receiver.requests} == {f"Bearer {TOKEN}"}
        assert main(["-C", str(root), "sync"]) == 0
        assert "has heard everything" in capsys.readouterr().out
        assert len(receiver.heard) == 4
        assert main(["-C", str(root), "sync", "--all"]) == 0
        assert "4 events of 1 run sent" in capsys.readouterr().out
        assert receiver.heard == spooled(root) * 2
        code, told = sync(root, capsys, "--env", "dev-ana", "--all")
        assert (code, told["listeners"][0]["events"]) == (0, 0)

    written = [path for path in root.rglob("*") if path.is_file()]
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []
    assert TOKEN not in done.stdout + done.stderr


def test_a_service_hears_of_a_run_as_it_happens_with_what_its_tasks_used(root):
    with running() as receiver:
        receiver.judge = lambda event: (422, {}, {"detail": "no"}) if event["job"]["name"].endswith("/main") else None
        settle_on(root, receiver.server_address[1])
        done = run(root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [event["eventType"] for event in receiver.heard] == ["START", "COMPLETE"]
    assert "it refuses an event, which is kept in" in done.stdout
    (kept,) = root.glob(".aiflow/runs/*/events.dev.service.refused.jsonl")
    assert len(kept.read_text().splitlines()) == 2
    usage = spooled(root)[2]["run"]["facets"]["aiflow_usage"]
    assert usage["_schemaURL"] == "urn:aiflow:facets:1:usage"
    assert 0 < usage["cpu_seconds"] < 60
    assert 10_000_000 < usage["peak_memory_bytes"] < 10**10
    assert usage["memory_byte_seconds"] > 0
    assert usage["attempts_at_once"] == 1
    assert "server" not in usage
    (finished,) = [
        record for line in done.stdout.splitlines() if (record := json.loads(line))["record"] == "task-finished"
    ]
    assert finished["usage"]["cpu_seconds"] == usage["cpu_seconds"]


def test_a_task_that_fails_tells_what_it_used(root):
    path = root / "pipelines" / "p.py"
    path.write_text(path.read_text().replace("return numbers", "raise ValueError('no luck')"))
    assert run(root).returncode == 1
    (failed,) = [
        event for event in spooled(root) if event["eventType"] == "FAIL" and "parent" in event["run"]["facets"]
    ]
    assert failed["run"]["facets"]["aiflow_usage"]["cpu_seconds"] > 0


def test_runs_from_before_the_service_was_named_are_sent_when_all_are_asked_for(root, capsys):
    for number in range(3):
        spool_by_hand(root / ".aiflow" / "runs" / f"run-{number}", "dev", 2, number * 10)
    spool_by_hand(root / ".aiflow" / "runs" / "other", "prod", 2)
    with running() as receiver:
        settle_on(root, receiver.server_address[1])
        code, told = sync(root, capsys)
        assert (code, told["listeners"][0]["events"], told["listeners"][0]["earlier_runs"]) == (0, 0, 3)
        assert main(["-C", str(root), "sync"]) == 0
        assert "3 runs before it was named" in capsys.readouterr().out
        code, told = sync(root, capsys, "--all")
        assert (code, told["listeners"][0]["events"], told["listeners"][0]["runs"]) == (0, 6, 3)
    assert [event["job"]["name"] for event in receiver.heard] == [f"job {n}" for n in (0, 1, 10, 11, 20, 21)]


def test_what_airflow_did_on_this_machine_is_sent_too_and_an_attempt_that_died_is_ended(root, capsys):
    folder = root.parent / "home" / "events" / "dev" / "default"
    spool_by_hand(folder / "run", "dev", 2)
    spool = RunSpool(folder, "run")
    spool.begin("dev", ["service"])
    program = (
        "import json, os, sys\nfrom pathlib import Path\nfrom aiflow_sdk.lineage import AttemptMark, RunSpool\n"
        "AttemptMark(RunSpool(Path(sys.argv[1]), 'run'), json.loads(sys.argv[2]))\nos._exit(9)"
    )
    start = json.loads(spool.path.read_text().splitlines()[1])
    subprocess.run([sys.executable, "-c", program, str(folder), json.dumps(start)])
    with running() as receiver:
        settle_on(root, receiver.server_address[1])
        code, told = sync(root, capsys)
    assert (code, told["listeners"][0]["events"]) == (0, 3)
    assert [event["eventType"] for event in receiver.heard] == ["START", "START", "FAIL"]
    assert receiver.heard[-1]["run"]["facets"]["aiflow_error"]["code"] == "worker-died"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_one_that_is_broken_off_goes_on_where_it_was(root, capsys, number):
    for run_number in range(30):
        folder = root / ".aiflow" / "runs" / f"run-{run_number:02}"
        spool_by_hand(folder, "dev", 4, run_number * 10)
    with running(is_strict=False) as receiver:
        settle_on(root, receiver.server_address[1])
        receiver.pause_seconds = 0.3
        process = subprocess.Popen(aiflow(root, "sync", "--all"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while len(receiver.heard) < 20 and process.poll() is None:
            time.sleep(0.001)
        os.kill(process.pid, number)
        said = process.communicate()[0].decode()
        assert process.returncode in (130, -9)
        assert "Traceback" not in said
        receiver.pause_seconds = 0
        code, told = sync(root, capsys)
    assert code == 0
    assert told["listeners"][0]["waiting"] == 0
    names = [event["job"]["name"] for event in receiver.heard]
    assert sorted(set(names)) == sorted(f"job {run * 10 + n}" for run in range(30) for n in range(4))
    assert len(names) <= 120 + 4


def test_a_service_that_asks_for_a_pause_is_waited_for(root, capsys):
    spool_by_hand(root / ".aiflow" / "runs" / "run", "dev", 3)
    with running() as receiver:
        receiver.answers = [(503, {"Retry-After": "1"}, {"detail": "in a moment"})]
        settle_on(root, receiver.server_address[1])
        code, told = sync(root, capsys, "--all")
    assert (code, told["listeners"][0]["events"], told["listeners"][0]["why"]) == (0, 3, None)


def test_a_refused_event_is_told_with_where_it_is_kept(root, capsys):
    spool_by_hand(root / ".aiflow" / "runs" / "run", "dev", 3)
    with running() as receiver:
        receiver.judge = lambda event: (422, {}, {"detail": "not one"}) if event["job"]["name"] == "job 1" else None
        settle_on(root, receiver.server_address[1])
        assert main(["-C", str(root), "sync", "--all"]) == 1
        words = capsys.readouterr().out
        assert "2 events of 1 run sent" in words
        assert "refused: not one" in words
        assert "events.dev.service.refused.jsonl" in words
        code, told = sync(root, capsys)
        assert (code, len(told["listeners"][0]["refusals"])) == (0, 1)
        receiver.judge = lambda event: None
        code, told = sync(root, capsys, "--all")
        assert (code, told["listeners"][0]["events"], told["listeners"][0]["refusals"]) == (0, 3, [])


def test_one_listener_that_cannot_be_made_keeps_none_of_the_others(root, capsys, monkeypatch):
    spool_by_hand(root / ".aiflow" / "runs" / "run", "dev", 1)
    with running() as receiver:
        monkeypatch.delenv("AIFLOW_SECRET_SERVICE")
        also = f'listeners.also = {{ kind = "openlineage", url = "{receiver.url}" }}\n'
        settle_on(root, receiver.server_address[1], also)
        code, told = sync(root, capsys, "--all")
    also, service = told["listeners"]
    assert (code, also["events"], service["events"], service["waiting"]) == (1, 1, 0, 1)
    assert service["why"]["code"] == "unknown-secret"


def test_without_anybody_who_hears_there_is_nothing_to_send_to(root, capsys):
    (root / "aiflow.toml").write_text("[environments.dev]\n")
    code = main(["-C", str(root), "sync", "--json"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert (code, error["code"]) == (1, "no-listener")
    assert 'service = "http://…"' in error["hint"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('service = "127.0.0.1:8470"', "holds an address http://… or https://…"),
        ('servise = "http://x"', "did you mean 'service'?"),
        ('service = "http://x/api/v1/lineage"', 'service = "http://x"'),
        ('service_token = "secret://x"', "service_token stands without service"),
        ('service = "http://x"\nservice_token = "abc"', "plain text is given for 'environments.dev.service_token'"),
        ('service = "http://x"\nservice_token = "secret://x"', "in plain text"),
        ('service = "http://127.0.0.1.x.example"\nservice_token = "secret://x"', "in plain text"),
        ('service = "http://x"\nservice_over_http = "yes"', "holds true or false"),
        ('service = "http://ana:pass1234@x"', "a password or key stands in the text"),
        ('service = "http://x"\nlisteners.service = { kind = "openlineage", url = "http://y" }', "stands for"),
        ('listeners.one = { kind = "openlinage", url = "http://y" }', "did you mean 'openlineage'?"),
        ('listeners.one = { kind = "openlineage" }', "needs the option 'url'"),
    ],
)
def test_wrong_settings_are_told(root, capsys, settings, words):
    (root / "aiflow.toml").write_text(f"[environments.dev]\n{settings}\n")
    assert main(["-C", str(root), "sync"]) == 1
    said = capsys.readouterr()
    assert words in said.out + said.err
