"""Starting and ending the service, and what it says where it cannot start."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from aiflow_sdk.errors import AiflowError, StoreError
from aiflow_service.__main__ import main
from aiflow_service.app import Settings, serve
from aiflow_service.app.folder import claimed_folder
from aiflow_service.app.settings import FILES_LIE
from aiflow_service.database import open_database
from aiflow_service.database.connection import told_failures
from aiflow_service.database.migration import migrate
from aiflow_service.database.tables import METADATA
from service_trial import run_event, running_service, start_service, wait_until

DOCS = Path(__file__).parents[2] / "docs"
AIFLOW = Path(sys.executable).parent / "aiflow"


def test_aiflow_serve_starts_it_and_ctrl_c_ends_it_having_written_everything(tmp_path) -> None:
    command = [AIFLOW, "-C", tmp_path, "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        address = json.loads(process.stdout.readline())["address"]
        port = int(address.rpartition(":")[2])
        with closing(socket.create_connection(("127.0.0.1", port))) as connection:
            raw = json.dumps(run_event()).encode()
            connection.sendall(
                b"POST /api/v1/lineage HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(raw), raw)
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 201")
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
    with closing(sqlite3.connect(tmp_path / ".aiflow/service.db")) as database:
        assert database.execute("SELECT count(*) FROM events").fetchone() == (1,)


def test_a_listener_to_live_runs_does_not_keep_it_from_ending(tmp_path) -> None:
    service = start_service(tmp_path, f"sqlite:///{tmp_path / 'service.db'}")
    with closing(socket.create_connection((service.host, service.port))) as connection:
        connection.sendall(b"GET /api/v1/runs/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert service.stop() == 0


def refused(**settings) -> AiflowError:
    with pytest.raises(AiflowError) as caught:
        serve(Settings(**{"port": 0, "database": "nonsense", **settings}), lambda address: pytest.fail(address))
    return caught.value


def test_a_port_that_is_taken_is_said() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        error = refused(port=taken.getsockname()[1])
    assert (error.code, "is taken" in error.message) == ("service-port", True)


def test_a_folder_serves_one_database_at_a_time_and_its_replicas(tmp_path) -> None:
    first, other = (f"sqlite:///{tmp_path / name}.db" for name in ("one", "two"))
    for database in (first, other):
        with claimed_folder(tmp_path, database), claimed_folder(tmp_path, database):
            with pytest.raises(AiflowError) as caught, claimed_folder(tmp_path, other if database == first else first):
                pytest.fail("it is another's")
            assert caught.value.code == "service-folder"
            assert str(os.getpid()) in caught.value.message
            assert database in caught.value.message


def test_where_its_own_files_lie_is_told_in_the_same_words_everywhere(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings("sqlite:///db/service.db").folder == tmp_path / "db"
    assert Settings("postgresql://db.example/aiflow").folder == tmp_path / ".aiflow"
    with pytest.raises(SystemExit):
        main(["--help"])
    for told in (capsys.readouterr().out, *((DOCS / name).read_text("utf-8") for name in ("errors.md", "audit.md"))):
        words = " ".join(told.replace("`", "").split())
        assert FILES_LIE in words
        assert "beside the database" not in words


def test_a_folder_that_cannot_be_written_to_is_said() -> None:
    with pytest.raises(AiflowError) as caught, claimed_folder(Path("/proc/none"), "sqlite:////x.db"):
        pytest.fail("nothing can be written there")
    assert caught.value.code == "service-folder"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])
def test_it_listens_on_loopback_alone(host: str) -> None:
    assert refused(host=host).code == "service-host"


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("nonsense", "database-address"),
        ("mysql://root:geheim@localhost/x", "database-address"),
        ("sqlite://", "database-address"),
        ("sqlite:////proc/none/service.db", "database-unreachable"),
        ("postgresql://aiflow:geheim@127.0.0.1:1/x", "database-unreachable"),
    ],
)
def test_a_database_that_cannot_be_opened_is_said_without_its_password(address: str, code: str) -> None:
    with pytest.raises(AiflowError) as caught:
        open_database(address)
    assert caught.value.code == code
    assert "geheim" not in str(caught.value)


def test_a_user_of_the_database_that_may_make_no_tables_is_told_what_it_lacks(postgres, tmp_path, capsys) -> None:
    address = postgres.database()
    database = open_database(address)
    with database.engine.begin() as connection:
        connection.execute(sa.text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))  # as PostgreSQL is from 15 on
        connection.execute(sa.text("DROP ROLE IF EXISTS guest"))
        connection.execute(sa.text("CREATE ROLE guest LOGIN"))
    database.close()
    as_guest = address.replace("//aiflow@", "//guest@")
    told = refused(database=as_guest, home=tmp_path)
    assert told.code == "database-refused"
    assert "permission denied for schema public" in str(told)
    assert main(["--admin-token", "--database", as_guest]) == 1
    assert "error[database-refused]: " in capsys.readouterr().err


def test_a_statement_that_is_wrong_is_no_database_that_is_away(database: str) -> None:
    with closing(open_database(database)) as opened:
        migrate(opened)
        for statement in ("SELECT 1 FROM nowhere", "SELECT :nothing"):  # no such table; a parameter without a value
            with pytest.raises(SQLAlchemyError), told_failures(), opened.reading() as connection:
                connection.execute(sa.text(statement))


def test_an_audit_that_is_shorter_than_what_was_signed_may_be_another_databases(tmp_path) -> None:
    home = tmp_path / "home"
    with running_service(tmp_path, f"sqlite:///{home / 'first.db'}") as first:
        for number in range(4):
            team = json.dumps({"name": f"team{number}"}).encode()
            assert first.request("POST", "/api/v1/teams", team, {"Content-Type": "application/json"}).status == 201
        assert first.stop() == 0
    with running_service(tmp_path, f"sqlite:///{home / 'second.db'}") as second:
        wait_until(lambda: f"{home / 'audit-checkpoints'} are those of another database" in second.log.read_text())


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OperationalError(None, None, sqlite3.OperationalError("disk\nI/O")), "disk"),
        (InterfaceError(None, None, sqlite3.InterfaceError("")), "InterfaceError"),
        (PoolTimeoutError("all are taken"), "all are taken"),
    ],
)
def test_a_database_that_gives_up_is_told_in_a_line(error: SQLAlchemyError, why: str) -> None:
    with pytest.raises(StoreError) as caught, told_failures():
        raise error
    assert (caught.value.code, caught.value.retryable) == ("database-unreachable", True)
    assert caught.value.message == f"the database gave up: {why}; what was being changed is likely not"


def test_a_schema_of_a_newer_service_is_left_alone(tmp_path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'service.db'}")
    migrate(database)
    with closing(sqlite3.connect(tmp_path / "service.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(AiflowError) as caught:
        migrate(database)
    database.close()
    assert caught.value.code == "database-newer"


def test_the_command_of_the_package_says_what_is_wrong(tmp_path) -> None:
    command = [sys.executable, "-m", "aiflow_service", "--host", "0.0.0.0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error[service-host]: ")


@pytest.mark.parametrize("port", ["-1", "89170", "x", "٣"])
def test_a_port_that_is_none_is_said_with_its_range(port: str) -> None:
    command = [sys.executable, "-m", "aiflow_service", "--port", port]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "a port from 1 to 65535, or 0 for a free one" in ended.stderr


def test_migrations_make_what_the_tables_say_and_go_back(database: str) -> None:
    opened = open_database(database)
    migrate(opened)
    migrate(opened)
    found = sa.inspect(opened.engine)
    for table in METADATA.sorted_tables:
        assert {column["name"] for column in found.get_columns(table.name)} == {column.name for column in table.c}
        wanted = {index.name for index in table.indexes}
        assert wanted <= {index["name"] for index in found.get_indexes(table.name)}
    migrate(opened, "base")
    assert set(sa.inspect(opened.engine).get_table_names()) <= {"alembic_version"}
    opened.close()


def test_it_knows_what_it_was_told_when_it_starts_again(database: str, tmp_path) -> None:
    event = run_event()
    with running_service(tmp_path, database) as service:
        assert service.send(event).status == 201
        service.stop()
    with running_service(tmp_path, database) as service:
        assert service.send(event).json()["status"] == "duplicate"
        assert service.get(f"/api/v1/runs/{event['run']['runId']}")["state"] == "succeeded"


def test_files_of_sqlite_that_others_may_read_are_told_with_what_to_type(tmp_path) -> None:
    file = tmp_path / "of ours.db"
    told = []
    for mode in (None, 0o644, 0o640):
        if mode is not None:
            file.chmod(mode)
        with running_service(tmp_path, f"sqlite:///{file}") as service:
            service.stop()
        lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
        told.append([(line["level"], line["message"]) for line in lines if "chmod" in line["message"]])
        if mode is not None:
            assert file.stat().st_mode & 0o777 == mode  # somebody may have meant it
    files = f"'{file}' '{file}-wal' '{file}-shm'"
    words = f"others than the owner may read the database's files; if they are not meant to: chmod 600 {files}"
    assert told == [[], [("warning", words)], [("warning", words)]]


def test_logs_are_json_with_the_senders_trace(tmp_path) -> None:
    with running_service(tmp_path, f"sqlite:///{tmp_path / 'service.db'}") as service:
        trace = os.urandom(16).hex()
        headers = {"traceparent": f"00-{trace}-{'1' * 16}-01"}
        assert service.request("GET", "/api/v1/nothing", headers=headers).headers["x-trace-id"] == trace
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
            assert service.request("GET", path).status == 200
        assert b"aiflow_request_seconds" in service.request("GET", "/metrics").body
        service.stop()
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert [line["status"] for line in lines if line.get("trace_id") == trace] == [404]
