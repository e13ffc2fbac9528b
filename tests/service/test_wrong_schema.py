"""A database that lacks a table or a column, or whose file was replaced, is told as such: by backups, by starts, by a
service that runs on it.
"""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from aiflow_sdk.errors import ConfigurationError
from aiflow_service.__main__ import main
from aiflow_service.database import open_database
from aiflow_service.database.migration import migrate
from aiflow_service.keeping import back_up, move, restore
from filled_database import fill
from service_trial import facet, run_event, running_service

TABLE = "makings"


def change(address: str, statement: str) -> None:
    """Do to a database what no service does."""
    with closing(open_database(address)) as database, database.engine.begin() as connection:
        connection.exec_driver_sql(statement)


@pytest.fixture
def lacking(database: str) -> str:
    """The address of a database with rows that lacks a table."""
    fill(database).close()
    change(database, f"DROP TABLE {TABLE}")
    return database


def test_a_backup_or_move_of_it_names_the_table_and_leaves_nothing(lacking: str, tmp_path: Path, capsys) -> None:
    assert main(["backup", str(tmp_path / "kept"), "--database", lacking]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error[database-schema]: the database lacks the table {TABLE}, which its migration")
    assert "restore a backup into an empty database" in said
    assert list(tmp_path.glob("kept*")) == []
    with pytest.raises(ConfigurationError, match=f"the table {TABLE}"):
        move(lacking, f"sqlite:///{tmp_path / 'new.db'}")


def test_a_backup_of_an_older_migration_needs_no_more_than_that_one_has(database: str, tmp_path: Path) -> None:
    with closing(fill(database)) as opened:
        migrate(opened, "0004")
    assert "usage" not in back_up(database, tmp_path / "kept").rows
    change(database, f"DROP TABLE {TABLE}")
    with pytest.raises(ConfigurationError, match="the table makings, which its migration '0004' has"):
        back_up(database, tmp_path / "another")


def test_a_backup_that_lacks_a_table_is_not_restored(lacking: str, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        # As earlier versions wrote it, which passed over what is absent.
        patch.setattr("aiflow_service.keeping.contents.lacking", lambda *_: [])  # as an earlier release wrote it
        back_up(lacking, tmp_path / "kept")
    with pytest.raises(ConfigurationError, match=f"of a database that lacked the table {TABLE}") as told:
        restore(tmp_path / "kept", f"sqlite:///{tmp_path / 'new.db'}")
    assert told.value.code == "backup-damaged"


def test_a_service_does_not_start_on_it_and_nobody_gets_in(lacking: str, capsys) -> None:
    for words in (["--port", "0"], ["--admin-token"]):
        assert main([*words, "--database", lacking]) == 1
        said = capsys.readouterr().err
        assert f"error[database-schema]: the database lacks the table {TABLE}" in said, said


@pytest.mark.parametrize(
    ("change_of", "back", "named", "asked"),
    [
        ("usage RENAME TO gone", "gone RENAME TO usage", "the table usage", "/api/v1/cost?by=node"),
        (
            "runs RENAME COLUMN trace_id TO gone",
            "runs RENAME COLUMN gone TO trace_id",
            "the column runs.trace_id",
            "/api/v1/runs",
        ),
    ],
)
def test_a_service_that_runs_on_it_says_so_and_refuses_no_event(
    database: str, tmp_path: Path, change_of: str, back: str, named: str, asked: str
) -> None:
    about: dict[str, dict[str, Any]] = {
        "run": {"task_id": "t", "attempt": 1, "environment": "dev"},
        "usage": {"cpu_seconds": 1, "seconds": 1},
    }
    event = run_event(run_facets={f"aiflow_{name}": facet(name, **facts) for name, facts in about.items()})
    with running_service(tmp_path, database) as service:
        assert service.request("GET", "/readyz").status == 200
        change(database, f"ALTER TABLE {change_of}")
        asking = [service.request("GET", path) for path in ("/readyz", "/api/v1/service", asked)]
        answers = [*asking, service.send(event), service.send_batch([event])]
        for answer in answers:
            told = answer.json()
            assert (answer.status, told["code"], told["status"]) == (503, "database-schema", 503), answer
            assert answer.headers["content-type"] == "application/problem+json"
            assert (
                told["detail"].startswith(f"the database lacks {named}, which"),
                "retry-after" in answer.headers,
            ) == (
                True,
                True,
            )
            assert told["detail"].endswith("once that is mended, ask or send again")
            assert "sqlalche" not in told["detail"]
        assert service.request("GET", "/healthz").status == 200
        assert service.get("/api/v1/lineage/refused")["items"] == []
        change(database, f"ALTER TABLE {back}")
        assert service.request("GET", "/readyz").status == 200
        assert service.send(event).status == 201
        assert service.get("/api/v1/lineage/refused")["items"] == []


def test_what_fails_otherwise_is_no_matter_of_the_schema(database: str) -> None:
    wrong = sa.text("SELECT 1 FROM nowhere")
    with closing(open_database(database)) as opened:
        migrate(opened)
        with pytest.raises(sa.exc.DBAPIError), opened.reading() as connection:
            connection.execute(wrong)
        with pytest.raises(sa.exc.DBAPIError), opened.writing() as writing:
            writing.connection.execute(wrong)


def test_a_service_whose_file_of_sqlite_was_replaced_acknowledges_nothing(tmp_path: Path) -> None:
    file, aside = tmp_path / "service.db", tmp_path / "aside.db"
    with running_service(tmp_path, f"sqlite:///{file}") as service:
        assert service.send(run_event()).status == 201
        file.rename(aside)
        for replace in (lambda: None, file.touch):
            replace()
            event = run_event()
            for answer in (service.request("GET", "/readyz"), service.send(event), service.send_batch([event])):
                assert (answer.status, answer.json()["code"]) == (503, "database-replaced"), answer
        aside.replace(file)
        assert service.request("GET", "/readyz").status == 200
        assert service.send(event).json()["status"] == "accepted"
        file.rename(aside)
        assert service.stop() == 1
        assert "error[database-replaced]" in service.log.read_text()
