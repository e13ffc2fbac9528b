"""Backup, restore, and the move from one kind of database to the other."""

import re
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from aiflow_sdk.errors import ConfigurationError, StoreError
from aiflow_service.__main__ import main
from aiflow_service.audit import verify_entries
from aiflow_service.database import open_database
from aiflow_service.database.migration import migrate
from aiflow_service.database.tables import METADATA
from aiflow_service.keeping import back_up, restore
from aiflow_service.keeping.archive import Archive
from filled_database import all_rows, fill, some_events, write_events

DOCS = Path(__file__).parents[2] / "docs"
DIES = """
import os, signal, sys
from pathlib import Path
from aiflow_service import keeping
from aiflow_service.keeping import archive, contents, transfer

def dying(blocks):
    for number, block in enumerate(blocks):
        if number == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        yield block

if sys.argv[1] == "restore":
    archive.Archive.blocks = lambda self, own=archive.Archive.blocks: dying(own(self))
    keeping.restore(Path(sys.argv[2]), sys.argv[3])
else:
    transfer.read_blocks = lambda *given: dying(contents.read_blocks(*given))
    keeping.back_up(sys.argv[3], Path(sys.argv[2]))
"""


@pytest.fixture
def target(request, database, tmp_path) -> str:
    """The address of an empty database of the other kind than ``database`` is."""
    if database.startswith("postgresql"):
        return f"sqlite:///{tmp_path / 'target.db'}"
    return request.getfixturevalue("postgres").database()


@pytest.fixture(scope="module")
def backup(tmp_path_factory) -> Path:
    """The backup of a database with some rows."""
    folder = tmp_path_factory.mktemp("backup")
    fill(f"sqlite:///{folder / 'service.db'}").close()
    back_up(f"sqlite:///{folder / 'service.db'}", folder / "kept")
    return folder / "kept"


def check_same(address: str, rows: dict, target: str) -> None:
    """Check that the target has every row, a sound audit with one more, and goes on counting."""
    database = open_database(target)
    found = all_rows(database)
    assert found["audit"][-1][3] == "database.filled"
    del found["audit"][-1]
    assert ("audit", len(rows["audit"]) + 1) in found.pop("counters")
    assert found == {name: some for name, some in rows.items() if name != "counters"}, address
    with database.reading() as connection:
        assert verify_entries(connection, ()).is_sound
        revision = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    last = max(row[0] for row in rows["events"])
    outcome = write_events(database, some_events(1))
    assert list(outcome.numbers.values()) == [last + 1]
    database.close()
    assert revision == head()


def head() -> str:
    return max(Path(migrate.__code__.co_filename).parent.glob("migrations/versions/0*.py")).name[:4]


def test_a_database_of_sqlite_is_made_for_its_owner_alone(tmp_path) -> None:
    file = tmp_path / "new" / "service.db"
    database = open_database(f"sqlite:///{file}")
    migrate(database)
    modes = {one.stat().st_mode & 0o777 for one in file.parent.glob("service.db*")}  # those that SQLite puts beside it
    assert modes == {0o600}


def test_a_backup_restores_every_row_into_either_kind(database: str, target: str, tmp_path, capsys) -> None:
    source = fill(database)
    rows = all_rows(source)
    tables = {name for name in METADATA.tables if rows.get(name)}
    assert tables >= {"events", "runs", "edges", "columns", "dataset_names", "usage", "audit", "tokens", "refusals"}
    assert main(["backup", str(tmp_path / "kept"), "--database", database]) == 0  # while it is open
    source.close()
    digest = capsys.readouterr().out.split()[-1]
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o600
    assert main(["restore", str(tmp_path / "kept"), "--digest", digest, "--database", target]) == 0
    check_same(database, rows, target)
    assert main(["restore", str(tmp_path / "kept"), "--database", target]) == 1
    assert "error[database-not-empty]" in capsys.readouterr().err


def test_a_move_brings_every_row_into_either_kind(database: str, target: str, capsys) -> None:
    source = fill(database)
    rows = all_rows(source)
    with source.reading() as connection:  # as a service has it open
        connection.execute(sa.text("SELECT 1"))
        assert main(["move", "--from", database, "--to", target]) == 1
    assert "error[database-in-use]" in capsys.readouterr().err
    source.close()
    assert main(["move", "--from", database, "--to", target]) == 0
    check_same(database, rows, target)
    source = open_database(database)
    assert all_rows(source) == rows
    source.close()
    assert main(["move", "--from", database, "--to", database]) == 1


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_backup_of_an_older_migration_is_migrated(database: str, target: str, tmp_path) -> None:
    source = fill(database, "0006")
    rows = all_rows(source)
    back_up(database, tmp_path / "kept")
    source.close()
    restore(tmp_path / "kept", target)
    rows["datasets"] = [(*row, int(row[3] != "raw")) for row in rows["datasets"]]  # whether it was written, since 0013
    check_same(database, rows, target)


def test_a_backup_while_the_service_writes_is_of_one_moment(database: str, tmp_path) -> None:
    source = fill(database)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            write_events(source, some_events(5))

    writing = threading.Thread(target=write)
    writing.start()
    try:
        done = back_up(database, tmp_path / "kept")
    finally:
        stop.set()
        writing.join()
    source.close()
    with closing(Archive(tmp_path / "kept")) as archive:
        rows = {block.table: block.rows for block in archive.blocks()}
    assert ["events", done.rows["events"]] in [list(row) for row in rows["counters"]]
    assert done.rows["events"] == len(rows["runs"]) == len(rows["usage"])


@pytest.mark.parametrize("damage", ["cut", "cut short", "changed", "longer", "no backup", "empty", "of a later form"])
def test_a_damaged_file_is_found_before_anything_is_changed(backup: Path, tmp_path, damage: str) -> None:
    whole = backup.read_bytes()
    middle = len(whole) // 2
    made = {
        "cut": whole[:middle],
        "cut short": whole[:20],
        "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "longer": whole + b"\0",
        "no backup": b"SQLite format 3\0" + whole,
        "empty": b"",
        "of a later form": whole.replace(b"backup-1", b"backup-2"),
    }
    (tmp_path / "kept").write_bytes(made[damage])
    with pytest.raises(ConfigurationError) as caught:
        restore(tmp_path / "kept", f"sqlite:///{tmp_path / 'new.db'}")
    assert caught.value.code == ("backup-newer" if damage == "of a later form" else "backup-damaged")
    assert not (tmp_path / "new.db").exists()


def test_a_file_that_was_made_anew_is_found_by_its_digest(backup: Path, tmp_path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        restore(backup, f"sqlite:///{tmp_path / 'new.db'}", "0" * 64)
    assert caught.value.code == "backup-damaged"


def test_a_backup_of_a_newer_service_is_left_alone(tmp_path) -> None:
    address = f"sqlite:///{tmp_path / 'service.db'}"
    fill(address).close()
    with closing(sqlite3.connect(tmp_path / "service.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError) as caught:
        back_up(address, tmp_path / "kept")
    assert caught.value.code == "database-newer"
    assert list(tmp_path.glob("kept*")) == []


def test_what_cannot_be_read_or_written_is_said(backup: Path, tmp_path) -> None:
    address = f"sqlite:///{tmp_path / 'service.db'}"
    for act, code in (
        (lambda: restore(tmp_path / "none", address), "backup-absent"),
        (lambda: back_up(address, tmp_path / "kept"), "database-empty"),
        (lambda: back_up(f"sqlite:///{backup.parent / 'service.db'}", backup), "backup-exists"),
        (lambda: back_up(f"sqlite:///{backup.parent / 'service.db'}", Path("/proc/none/kept")), "backup-unwritable"),
    ):
        with pytest.raises((ConfigurationError, StoreError)) as caught:
            act()
        assert caught.value.code == code
        assert ".part" not in str(caught.value)


def killed(action: str, file: Path, address: str) -> None:
    """Do something in a process that is killed in the middle of the rows."""
    ended = subprocess.run([sys.executable, "-c", DIES, action, str(file), address], timeout=300)
    assert ended.returncode == -signal.SIGKILL


def test_a_restore_that_is_killed_leaves_nothing(backup: Path, database: str) -> None:
    killed("restore", backup, database)
    opened = open_database(database)
    assert sa.inspect(opened.engine).get_table_names() == []
    migrate(opened)  # tables without rows are nothing either
    opened.close()
    assert restore(backup, database).rows["events"] == 6


def test_a_backup_that_is_killed_leaves_no_file_of_its_name(backup: Path, tmp_path) -> None:
    killed("backup", tmp_path / "kept", f"sqlite:///{backup.parent / 'service.db'}")
    assert not (tmp_path / "kept").exists()


def test_interrupted_it_leaves_nothing_half(backup: Path, tmp_path, monkeypatch, capsys) -> None:
    def interrupted(archive):
        yield next(blocks(archive))
        raise KeyboardInterrupt

    blocks = Archive.blocks
    monkeypatch.setattr(Archive, "blocks", interrupted)  # Ctrl-C in the middle, always at the same place
    assert main(["restore", str(backup), "--database", f"sqlite:///{tmp_path / 'new.db'}"]) == 130
    assert capsys.readouterr().err == "interrupted: nothing was changed\n"
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


@pytest.mark.parametrize(
    "words", [("backup", "{kept}", "--database", "{typo}"), ("move", "--from", "{typo}", "--to", "{new}")]
)
def test_a_database_that_is_not_there_is_told_and_none_is_made(tmp_path, words) -> None:
    places = {
        "kept": tmp_path / "kept",
        "typo": f"sqlite:///{tmp_path}/a/servce.db",
        "new": f"sqlite:///{tmp_path}/new.db",
    }
    command = [sys.executable, "-m", "aiflow_service", *(word.format(**places) for word in words)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert f"there is no database at {tmp_path}/a/servce.db" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_move_to_the_same_file_under_another_path_is_refused(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    fill("sqlite:///service.db").close()
    assert main(["move", "--from", "sqlite:///service.db", "--to", f"sqlite:///{tmp_path}/./service.db"]) == 1
    assert "both addresses are the same database's" in capsys.readouterr().err


class Interrupting:
    """A finder of modules during which Ctrl-C is pressed, always at the same place."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "aiflow_service.app.command_line":
            raise KeyboardInterrupt


def test_ctrl_c_while_the_command_loads_is_no_traceback(monkeypatch, capsys) -> None:
    monkeypatch.delitem(sys.modules, "aiflow_service.app.command_line", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])  # a real import, broken off
    assert main(["backup", "kept"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_every_way_to_end_is_told(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told, _, _ = (DOCS / "service.md").read_text("utf-8").partition("**Exit codes**")[2].partition("\n\n")
    helped = capsys.readouterr().out.rpartition("It ends with")[2]
    for code in ("0", "1", "2", "130"):
        assert re.search(rf"\b{code}\b", helped)
        assert f" {code}: " in told
