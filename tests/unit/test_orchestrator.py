"""An Airflow that is away, refuses, or answers what no Airflow answers; and what is read of what it tells."""

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aiflow_sdk.bundles.airflow import REQUIRED
from aiflow_sdk.cli import airflow_doctor, main
from aiflow_sdk.cli.airflow_doctor import _ours, _settings
from aiflow_sdk.config import load_project
from aiflow_sdk.errors import AiflowError, OrchestratorError, UnknownNameError
from aiflow_sdk.local.store import RunRecord, short_run_id
from aiflow_sdk.orchestrator import AirflowClient, DeployedPipeline
from aiflow_sdk.orchestrator.airflow import Airflow
from aiflow_sdk.orchestrator.deployed import read_details
from aiflow_sdk.orchestrator.logs import read_error, watch_log
from aiflow_sdk.orchestrator.watching import _delay

VERSION = (200, {"version": "3.3.2"})
ABOUT = {
    "project": "shop",
    "pipeline": "orders",
    "version": "ab12",
    "partition": "day",
    "timezone": "Europe/Berlin",
    "tasks": {},
}


class Server(ThreadingHTTPServer):
    """Answers by path what it was told to; everything else is not found."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, tuple[int, Any]] = {"GET /api/v2/version": VERSION}
        self.asked: list[tuple[str, str, str | None]] = []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size).decode()
        path = self.path.partition("?")[0]
        self.server.asked.append((f"{self.command} {self.path}", body, self.headers.get("Authorization")))
        status, answer = self.server.answers.get(f"{self.command} {path}", (404, {"detail": "Not Found"}))
        if callable(answer):
            status, answer = answer(self)
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 as the class has it

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    thread = threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()
    thread.join()


@pytest.fixture
def project(tmp_path: Path, server: Server) -> Path:
    write(tmp_path, f'airflow = "{server.address}"')
    return tmp_path


def write(folder: Path, *lines: str) -> None:
    (folder / "aiflow.toml").write_text("\n".join(['project = "shop"', "[environments.prod]", *lines]), "utf-8")


def error_of(capsys: pytest.CaptureFixture[str], project: Path, *arguments: str, expected: int = 1) -> dict[str, Any]:
    assert main(["-C", str(project), "--env", "prod", "--json", *arguments]) == expected
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["error"]
    return found


def details(environment: str = "prod", **fields: Any) -> dict[str, Any]:
    about = {"owner": "o", "aiflow": {**ABOUT, "environment": environment}}
    return {"dag_id": "shop.orders", "default_args": about, "is_paused": False, "params": {}, **fields}


# What may be at the address.


@pytest.mark.parametrize(
    ("version", "code", "said"),
    [
        ((401, {"detail": "Not authenticated"}), "airflow-login", "wants a login"),
        ((403, {"detail": "Forbidden"}), "airflow-forbidden", "does not let"),
        ((404, {"detail": "Not Found"}), "airflow-answer", "no version"),
        ((500, "<html>Internal Server Error</html>"), "airflow-answer", "answers 500"),
        ((503, {"detail": "starting"}), "airflow-answer", "answers 503"),
        ((200, "<html>Welcome to nginx</html>"), "airflow-answer", "no JSON"),
        ((200, ["what"]), "airflow-answer", "no version"),
        ((302, ""), "airflow-answer", "leads elsewhere"),
        ((200, {"version": "3.2.1"}), "airflow-too-old", "is 3.2.1"),
        ((200, {"version": "2.11.0"}), "airflow-too-old", "is 2.11.0"),
    ],
)
def test_what_is_no_airflow_for_us_is_told(project, server, capsys, version, code, said):
    server.answers["GET /api/v2/version"] = version
    error = error_of(capsys, project, "trigger", "orders")
    assert (error["code"], said in error["message"]) == (code, True), error
    assert error["hint"]
    assert len(server.asked) == 1


def test_nobody_at_the_address(tmp_path, capsys):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        write(tmp_path, f'airflow = "http://127.0.0.1:{one.getsockname()[1]}"')
    error = error_of(capsys, tmp_path, "runs", "orders", "--on", "airflow")
    assert (error["code"], error["retryable"]) == ("airflow-unreachable", True)


def test_an_environment_must_say_where_its_airflow_is_but_dev(tmp_path, capsys, monkeypatch):
    write(tmp_path)
    assert error_of(capsys, tmp_path, "pause", "orders")["code"] == "no-airflow"
    monkeypatch.setattr("aiflow_sdk.orchestrator.client.DEFAULT_ADDRESS", "http://127.0.0.1:1")  # nobody's
    with pytest.raises(OrchestratorError) as caught:
        AirflowClient.open(load_project(tmp_path).environment("dev"))
    assert caught.value.code == "airflow-unreachable"
    with pytest.raises(AiflowError) as caught_copy:
        AirflowClient.open(load_project(tmp_path).environment("dev-ana"))
    assert caught_copy.value.code == "no-airflow"


# Logins.


def test_a_token_is_sent_and_a_user_gets_one(tmp_path, server, monkeypatch):
    monkeypatch.setenv("AIFLOW_SECRET_AIRFLOW", "open-sesame")
    write(tmp_path, f'airflow = "{server.address}"', 'airflow_token = "secret://airflow"')
    AirflowClient.open(load_project(tmp_path).environment("prod"))
    assert server.asked[-1][2] == "Bearer open-sesame"

    write(tmp_path, f'airflow = "{server.address}"', 'airflow_user = "ana"', 'airflow_password = "secret://airflow"')
    tokens = iter(["token-of-morning", "token-of-evening"])
    server.answers["POST /auth/token"] = (0, lambda _: (201, {"access_token": next(tokens)}))
    client = AirflowClient.open(load_project(tmp_path).environment("prod"))
    assert json.loads(server.asked[-2][1]) == {"username": "ana", "password": "open-sesame"}
    server.answers["GET /api/v2/pools"] = (
        0,
        lambda asked: (
            (200, {"pools": []}) if asked.headers["Authorization"] == "Bearer token-of-evening" else (401, {})
        ),
    )
    assert client.get("pools") == {"pools": []}  # the first token has had its time


def test_a_wrong_password_is_told_and_shown_nowhere(tmp_path, server, capsys, monkeypatch):
    monkeypatch.setenv("AIFLOW_SECRET_AIRFLOW", "swordfish-7")
    write(tmp_path, f'airflow = "{server.address}"', 'airflow_user = "ana"', 'airflow_password = "secret://airflow"')
    server.answers["POST /auth/token"] = (401, {"detail": "Invalid credentials swordfish-7"})
    error = error_of(capsys, tmp_path, "trigger", "orders")
    assert error["code"] == "airflow-login"
    assert "swordfish" not in json.dumps(error)


@pytest.mark.parametrize(
    "lines",
    [
        ['airflow = "airflow.company"'],
        ['airflow = "http://ana:pass@airflow"'],
        ['airflow_token = "abcdef"'],
        ['airflow_token = "secret://t"', 'airflow_user = "ana"', 'airflow_password = "secret://p"'],
        ['airflow_user = "ana"'],
    ],
)
def test_settings_that_cannot_be_meant(tmp_path, lines):
    write(tmp_path, *lines)
    with pytest.raises(AiflowError) as caught:
        load_project(tmp_path)
    assert "environments.prod.airflow" in str(caught.value)


# Pipelines that cannot be told to run.


def test_a_pipeline_that_is_not_there(project, server, capsys):
    known = {"dags": [{"dag_id": "shop.order"}, {"dag_id": "shop.revenue"}], "total_entries": 2}
    server.answers["GET /api/v2/dags"] = (200, known)
    error = error_of(capsys, project, "trigger", "orders", expected=2)
    assert (error["code"], error["hint"]) == ("not-in-airflow", "did you mean 'order'?")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"is_paused": True}, "dag-paused"),
        ({"default_args": {"owner": "mine"}}, "foreign-dag"),
        ({"default_args": {"aiflow": {"error": "error[x]: y"}}}, "broken-dag"),
        ({"environment": "dev"}, "other-environment"),
    ],
)
def test_a_pipeline_that_is_not_to_be_run(project, server, capsys, fields, code):
    server.answers["GET /api/v2/dags/shop.orders/details"] = (200, details(**fields))
    assert error_of(capsys, project, "trigger", "orders")["code"] == code


def test_what_airflow_refuses_it_says_itself(project, server, capsys):
    server.answers["GET /api/v2/dags/shop.orders/details"] = (200, details())
    server.answers["POST /api/v2/dags/shop.orders/dagRuns"] = (400, {"detail": "no, not on a Sunday"})
    error = error_of(capsys, project, "trigger", "orders", "--date", "2026-11-20")
    assert (error["code"], error["message"]) == ("airflow-refused", "Airflow refused: no, not on a Sunday")
    sent = json.loads(server.asked[-1][1])
    assert sent == {"logical_date": None, "partition_key": "2026-11-20", "conf": {}}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["trigger", "orders", "--date", "2026-11-20T05"], "bad-date"),
        (["trigger", "orders", "--date", "2026-11-20..2026-11-19"], "reversed-range"),
        (["trigger", "orders", "--param", "least=1"], "unknown-param"),
        (["backfill", "orders", "--from", "2026-11-20", "--to", "2026-11-19", "--on", "airflow"], "reversed-range"),
        (["backfill", "orders", "--from", "x", "--to", "2026-11-19", "--on", "airflow"], "bad-date"),
        (["backfill", "orders", "--from", "2026-11-19", "--to", "2026-11-19", "--no-wait"], "bad-usage"),
        (
            ["backfill", "orders", "--from", "2026-11-19", "--to", "2026-11-19", "--on", "airflow", "--force"],
            "bad-usage",
        ),
        (["logs", "orders", "--follow"], "bad-usage"),
        (["doctor", "--airflow-python", "python"], "bad-usage"),
    ],
)
def test_what_is_typed_wrongly_is_2(project, server, capsys, arguments, code):
    server.answers["GET /api/v2/dags/shop.orders/details"] = (200, details())
    assert error_of(capsys, project, *arguments, expected=2)["code"] == code


# What is read.


def test_a_listing_is_read_page_by_page(server):
    def page(asked: Any) -> tuple[int, Any]:
        offset = int(asked.path.rpartition("offset=")[2])
        return 200, {"pools": [{"name": number} for number in range(offset, min(offset + 2, 5))], "total_entries": 5}

    server.answers["GET /api/v2/pools"] = (0, page)
    assert [one["name"] for one in AirflowClient(server.address).pages("pools", "pools")] == [0, 1, 2, 3, 4]
    assert len(server.asked) == 3


def test_dates_become_the_keys_of_partitions():
    day = read_details(details())
    assert day.keys("20261120") == "2026-11-20"
    assert day.keys("2026-11-01..2026-11-03") == "2026-11-01..2026-11-03"
    assert day.keys("2026-11-01..2026-11-01") == "2026-11-01"
    assert day.keys(None) < datetime.now(UTC).isoformat()
    hour = DeployedPipeline("d", "shop", "orders", "prod", "v", "hour", "Europe/Berlin", is_paused=False)
    assert hour.keys("2026-11-20T05") == "2026-11-20T05"
    assert hour.keys("2026-10-25..2026-10-25").startswith("2026-10-25T00..2026-10-25T23")


@pytest.mark.parametrize(
    ("run_id", "short"),
    [
        ("manual__2026-11-29T17:43:06.085809+00:00__d514938f", "d514938f"),
        ("manual__2026-11-29T17:53:48.556884+00:00", "2026-11-29T17:53:48.556884+00:00"),
        ("scheduled__2026-11-29T08:00:00+00:00", "2026-11-29T08:00:00+00:00"),
        ("0193c000-0000-7000-8000-0123456789ab", "456789ab"),
    ],
)
def test_a_run_is_known_by_the_end_of_its_id_that_tells_it_from_others(run_id: str, short: str):
    assert short_run_id(run_id) == short


RUN = RunRecord(
    {"run_id": "r", "partition_key": "2026-11-20"}, "failed", 0, 0, None, "", "", {}, (), "http://airflow/r"
)


def test_the_error_of_a_task_is_read_from_its_log():
    log = [
        {"event": "::group::Pre Execute"},
        {"event": "Traceback (most recent call last):", "logger": "aiflow.task", "level": "error"},
        {"event": "RuntimeError: no luck", "logger": "aiflow.task", "level": "error"},
        {
            "event": "error[user-code-failed]: it raised (etl.py:5, pipeline 'a', node 'b' of x.py:1); mend it",
            "logger": "aiflow.task",
            "level": "error",
        },
        {"event": "Task failed with exception", "level": "error", "logger": "task"},
    ]
    error = read_error(log, RUN, "total")
    assert (error["code"], error["message"], error["hint"]) == ("user-code-failed", "it raised", "mend it")
    assert error["where"]["about"] == "etl.py:5, pipeline 'a', node 'b' of x.py:1"
    assert error["notes"] == ["Traceback (most recent call last):", "RuntimeError: no luck"]
    killed = read_error([{"event": "Process terminated", "level": "critical"}, "plain text"], RUN, "total")
    assert (killed["code"], "Process terminated" in killed["message"]) == ("task-failed-in-airflow", True)


def test_a_log_that_is_followed_tells_each_line_once_whatever_stands_around_it(project, server, monkeypatch):
    monkeypatch.setattr("aiflow_sdk.orchestrator.logs.pause_seconds", lambda began: 0.0)  # nothing is worth waiting for

    def line(second: int, event: str) -> dict[str, Any]:
        at = f"2026-11-29T01:00:{second:02}.000000Z"
        return {"timestamp": at, "event": event, "level": "info", "logger": "aiflow.task"}

    def heading(*sources: str) -> list[dict[str, Any]]:
        events = ["::group::Log message source details", *sources, "::endgroup::"]
        return [{"event": event} for event in events]

    early, twice, late, last = line(1, "early"), line(2, "twice"), line(3, "late"), line(4, "last")
    half = {"event": '{"timestamp": "2026-11-29T01', "timestamp": None}
    logs = [
        [*heading("a", "could not read b"), early, twice, twice, half],  # it runs: two sources, a line being written
        [*heading("a", "could not read b"), early, late, twice, twice],  # out of another source: one that was before
        [*heading("a"), early, twice, twice, late, last],  # it has ended: one source
    ]
    states = iter(["running", "success"])
    run = {"dag_id": "shop.orders", "dag_run_id": "r", "run_type": "manual", "queued_at": "2026-11-29T01:00:00Z"}
    at = "/api/v2/dags/shop.orders/dagRuns/r"
    server.answers |= {
        f"GET {at}": (200, lambda _: (200, {**run, "state": next(states)})),
        f"GET {at}/taskInstances": (200, {"task_instances": [{"task_id": "t", "try_number": 1}], "total_entries": 1}),
        f"GET {at}/taskInstances/t/logs/1": (200, lambda _: (200, {"content": logs.pop(0)})),
    }
    airflow = Airflow.open(load_project(project).environment("prod"))
    told = list(watch_log(airflow, airflow.record({**run, "state": "running"}), is_followed=True))
    assert [one["message"] for one in told] == ["early", "twice", "twice", "late", "last"]
    assert logs == []


def test_a_run_id_that_pipelines_share_is_said_and_none_of_them_is_picked(server: Server, project: Path):
    run = {"dag_run_id": "manual__2026-11-29T01:00:00+00:00", "run_type": "manual", "state": "success"}
    found = [{**run, "dag_id": dag_id, "queued_at": "2026-11-29T01:00:00Z"} for dag_id in ("shop.orders", "shop.users")]
    server.answers["GET /api/v2/dags/~/dagRuns"] = (200, {"dag_runs": found, "total_entries": 2})
    with pytest.raises(UnknownNameError, match="2 runs end with") as caught:
        Airflow.open(load_project(project).environment("prod")).find_run(run["dag_run_id"])
    assert "several pipelines have a run of this id: name the pipeline" in (caught.value.hint or "")
    assert [note.rpartition(" of ")[2].split()[0] for note in caught.value.notes] == ["shop.orders", "shop.users"]


def test_a_setting_is_judged_by_what_it_is_for():
    by_name = {one.name: one for one in REQUIRED}
    assert by_name["refresh_interval"].accepts("1")
    assert not by_name["refresh_interval"].accepts("300")
    assert by_name["min_file_process_interval"].accepts("7200")
    assert not by_name["min_file_process_interval"].accepts("30")
    assert not by_name["min_file_process_interval"].accepts("often")


# The doctor.


def test_the_doctor_names_each_thing_that_is_wrong(project, server, capsys):
    server.answers |= {
        "GET /api/v2/dags": (200, {"dags": [], "total_entries": 0}),
        "GET /api/v2/monitor/health": (
            200,
            {
                "metadatabase": {"status": "healthy"},
                "scheduler": {"status": "unhealthy"},
                "triggerer": {"status": None},
            },
        ),
        "GET /api/v2/plugins": (200, {"plugins": [], "total_entries": 0}),
        "GET /api/v2/plugins/importErrors": (200, {"import_errors": [{"source": "aiflow-airflow", "error": "no"}]}),
        "GET /api/v2/importErrors": (
            200,
            {
                "import_errors": [
                    {"bundle_name": bundle, "filename": "aiflow_03.py", "stack_trace": f"File {file!r}\nKeyError: x"}
                    for bundle, file in (("aiflow", "/x/aiflow_airflow/shims.py"), ("dags", "/dags/aiflow_03.py"))
                ],
                "total_entries": 2,
            },
        ),
        "GET /api/v2/pools": (403, {"detail": "Forbidden"}),
        "GET /api/v2/config": (
            200,
            {
                "sections": [
                    {"name": "core", "options": [{"key": "min_serialized_dag_update_interval", "value": "30"}]},
                    {"name": "dag_processor", "options": [{"key": "refresh_interval", "value": "2"}]},
                ]
            },
        ),
    }
    assert main(["-C", str(project), "--env", "prod", "doctor", "--airflow", "--json"]) == 1
    found = {(one["what"], one["state"]): one["said"] for one in json.loads(capsys.readouterr().out)}
    assert {what for what, state in found if state == "fail"} >= {
        "scheduler",
        "triggerer",
        "dag-processor",
        "plugin",
        "import error",
        "setting",
    }
    assert found["pools", "warn"].startswith("the Airflow at")
    assert found["bundle", "warn"] == "Airflow has no DAG of aiflow's"
    assert found["import error", "fail"] == "aiflow/aiflow_03.py: KeyError: x"
    assert found["import error", "warn"] == "dags/aiflow_03.py: KeyError: x"


def test_the_doctor_counts_the_dags_of_aiflow_s_bundles_alone(server):
    files = (("shop.orders", "aiflow", "aiflow_03.py"), ("shop.more", "aiflow", "aiflow_0f.py"))
    others = (("mine", "dags", "aiflow_ab.py"), ("other", "dags", "aiflow_it.py"), ("third", "third", "dag.py"))
    listed = [
        {"dag_id": dag_id, "bundle_name": bundle, "relative_fileloc": file} for dag_id, bundle, file in files + others
    ]
    server.answers |= {
        "GET /api/v2/dags": (200, {"dags": listed, "total_entries": len(listed)}),
        "GET /api/v2/dags/shop.orders/details": (200, details()),
        "GET /api/v2/dags/mine/details": (200, {"dag_id": "mine", "default_args": {}}),
    }
    assert [dag["dag_id"] for dag in _ours(AirflowClient(server.address))] == ["shop.orders", "shop.more"]


def test_the_doctor_names_a_client_of_kubernetes_that_pods_need_and_is_missing(server, monkeypatch):
    values = {f"{one.section}.{one.name}": one.value for one in REQUIRED}
    for executor, told in (("KubernetesExecutor", ["kubernetes"]), ("LocalExecutor", [])):
        asked = {**values, "core.executor": executor, "kubernetes": "missing"}
        # What other installations would answer: this one has one answer.
        monkeypatch.setattr(airflow_doctor, "ask_python", lambda python, asked=asked: asked)
        found = list(_settings(AirflowClient(server.address), "python"))
        assert [one.what for one in found if one.state == "fail"] == told


@pytest.mark.parametrize(
    ("factor", "attempt", "seconds"),
    [(0.0, 1, 90.0), (0.0, 3, 90.0), (2.0, 1, 90.0), (2.0, 3, 360.0), (9.0, 999, 86_400.0)],
)
def test_the_pause_before_the_next_attempt_is_as_airflow_makes_it(factor: float, attempt: int, seconds: float):
    task = {"retry_delay": {"days": 0, "seconds": 90}, "retry_exponential_backoff": factor}
    assert _delay(task, attempt) == seconds
