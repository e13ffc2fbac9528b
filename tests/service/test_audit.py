"""The audit: what is recorded, and that whatever is done to it is found, at the row where that can be told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from aiflow_sdk.audit import AuditRow, canonical_details, chained_hash, export_line, open_checkpoints, read_line
from aiflow_sdk.errors import ConfigurationError
from aiflow_sdk.redaction import REDACTOR
from aiflow_service.access import EVERYTHING, Scope
from aiflow_service.api import audit as exports
from aiflow_service.audit import (
    AuditFilter,
    AuditKeeper,
    Caller,
    CheckpointWriter,
    Entry,
    export_entries,
    list_entries,
    read_signing_key,
    record,
    verify_entries,
)
from aiflow_service.audit.reading import row_of
from aiflow_service.database import Database, open_database
from aiflow_service.database.migration import migrate
from aiflow_service.database.tables import audit
from aiflow_service.events import write_refusals
from aiflow_service.ingest.writer import refusal_of
from aiflow_service.keeping import back_up, restore
from aiflow_service.openlineage import Refusal
from service_trial import Service, run_event, running_service, start_service, unique, wait_until

ANA = Caller("ana", "10.0.0.7", "0" * 32)
ROWS = 60
EVERY = 20


class Trial:
    """A database of sixty rows, of which the 20th, the 40th and the 60th are signed. Each test gets it as it was."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.folder = folder
        self.place = str(folder / "checkpoints")
        self.database = open_database(address)
        migrate(self.database)
        self.writer = self.signer()
        for end in range(EVERY, ROWS + 1, EVERY):
            self.add(*(f"thing {number}" for number in range(end - EVERY + 1, end + 1)))
            self.sign()
        with self.database.reading() as connection:
            self._rows = [dict(row._mapping) for row in connection.execute(sa.select(audit))]
            triggers = "SELECT sql FROM sqlite_master WHERE type = 'trigger'"
            self._triggers = [] if self.database.is_postgres else list(connection.exec_driver_sql(triggers).scalars())
        shutil.copytree(self.place, folder / "as it was")

    def signer(self) -> CheckpointWriter:
        return CheckpointWriter(self.place, read_signing_key(self.folder / "audit.key"))

    def restore(self) -> None:
        shutil.rmtree(self.place)
        shutil.copytree(self.folder / "as it was", self.place)
        self.writer = self.signer()
        with self.tampering() as connection:
            connection.execute(audit.delete())
            connection.execute(audit.insert(), self._rows)
            connection.exec_driver_sql(f"UPDATE counters SET value = {ROWS} WHERE name = 'audit'")
            for statement in self._triggers:
                connection.exec_driver_sql(statement)

    def add(self, *names: str) -> None:
        with self.database.writing() as writing:
            record(writing, *(Entry(ANA, "thing.made", "thing", name, team_id=1) for name in names))

    def sign(self) -> None:
        with self.database.reading() as connection:
            assert self.writer.write(connection) is not None

    def verify(self, *, signed: bool = True):
        checkpoints = open_checkpoints(self.place).found if signed else ()
        with self.database.reading() as connection:
            return verify_entries(connection, checkpoints)

    def found(self, **how: bool) -> list[tuple[str, int | None, int | None]]:
        return [one[:3] for one in self.verify(**how).findings]

    @contextmanager
    def tampering(self) -> Iterator[sa.Connection]:
        """A connection of a superuser, with triggers off."""
        with self.database.engine.connect() as connection:
            if self.database.is_postgres:
                connection.exec_driver_sql("SET session_replication_role = replica")
                yield connection
                connection.exec_driver_sql("SET session_replication_role = DEFAULT")
                connection.commit()
            else:
                for name in ("audit_unchanged", "audit_kept", "audit_not_replaced"):
                    connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
                yield connection

    def rewrite(self, first: int, change: str = "eve") -> None:
        """Give every row from the first on another actor, and hashes that fit."""
        with self.tampering() as connection:
            rows = [row_of(one) for one in connection.execute(sa.select(audit).order_by(audit.c.seq))]
            previous = rows[first - 2].hash if first > 1 else bytes(32)
            for row in rows[first - 1 :]:
                row = row._replace(actor=change, previous=previous)
                previous = chained_hash(row)
                values = {"actor": change, "previous": row.previous, "hash": previous}
                connection.execute(audit.update().where(audit.c.seq == row.seq).values(values))


@pytest.fixture(scope="module")
def _trials(request, tmp_path_factory) -> Iterator[Callable[[str], Trial]]:
    made: dict[str, Trial] = {}

    def give(kind: str) -> Trial:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            address = f"sqlite:///{folder}/service.db"
            if kind == "postgres":
                address = request.getfixturevalue("postgres").database()
            made[kind] = Trial(address, folder)
        return made[kind]

    yield give
    for one in made.values():
        one.database.close()


@pytest.fixture(params=["sqlite", "postgres"])
def trial(request, _trials) -> Trial:
    found: Trial = _trials(request.param)
    found.restore()
    return found


def test_a_chain_that_nobody_touched_is_sound(trial: Trial) -> None:
    verdict = trial.verify()
    assert verdict.is_sound
    assert (verdict.rows, verdict.last_seq, verdict.signed_seq, verdict.checkpoints) == (ROWS, ROWS, ROWS, 3)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'eve' WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 3",
        "INSERT INTO audit SELECT * FROM audit WHERE seq = 3 ON CONFLICT (seq) DO UPDATE SET actor = 'eve'",
    ],
)
def test_the_database_refuses_every_change(trial: Trial, statement: str) -> None:
    with trial.database.engine.connect() as connection, pytest.raises(DBAPIError):
        connection.exec_driver_sql(statement)
    assert trial.verify().is_sound


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE seq = 33", [("altered", 33, 33)]),
        ("UPDATE audit SET moment = moment + 1 WHERE seq = 60", [("altered", 60, 60)]),
        ("UPDATE audit SET details = '{\"a\":1}' WHERE seq = 1", [("altered", 1, 1)]),
        ("UPDATE audit SET team_id = 2 WHERE seq IN (7, 8, 30)", [("altered", 7, 8), ("altered", 30, 30)]),
        ("UPDATE audit SET hash = previous WHERE seq = 33", [("altered", 33, 33)]),
        ("UPDATE audit SET previous = hash WHERE seq = 33", [("altered", 33, 33)]),
        ("DELETE FROM audit WHERE seq = 33", [("missing", 33, 33)]),
        ("DELETE FROM audit WHERE seq < 5", [("missing", 1, 4)]),
        ("DELETE FROM audit WHERE seq > 50", [("missing", 51, 60)]),
        ("DELETE FROM audit", [("missing", 1, 60)]),
    ],
)
def test_what_a_superuser_changed_is_found_at_its_row(trial: Trial, statement: str, found: list) -> None:
    with trial.tampering() as connection:
        connection.exec_driver_sql(statement)
    assert trial.found() == found


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("UPDATE audit SET moment = 9223372036854775807 WHERE seq = 33", 33),
        ("UPDATE audit SET moment = -9000000000000000000 WHERE seq = 60", 60),
        ("INSERT INTO audit SELECT 0, {others} FROM audit WHERE seq = 5", 0),
        ("INSERT INTO audit SELECT -7, {others} FROM audit WHERE seq = 5", -7),
    ],
)
def test_what_no_row_can_be_is_found_and_stops_no_check(trial: Trial, statement: str, row: int) -> None:
    others = ", ".join(column.name for column in audit.c if column.name != "seq")
    with trial.tampering() as connection:
        connection.exec_driver_sql(statement.format(others=others))
    assert trial.found() == [("altered", row, row)]
    with trial.database.reading() as connection:
        assert len(list_entries(connection, EVERYTHING, AuditFilter(), behind=None, limit=100)[0]) >= ROWS


def _connections_in_use(database: Database) -> int:
    pool = database.engine.pool
    assert isinstance(pool, sa.QueuePool)
    return pool.checkedout()


@pytest.mark.parametrize(
    "change",
    [
        "moment = 'x'",
        "moment = x'ff'",
        "actor = CAST('ana' AS BLOB)",
        "actor = CAST(x'ff' AS TEXT)",
        "actor = x'ff', hash = x''",
        "details = x'ff'",
        "team_id = 'x'",
        "hash = 'x'",
        "previous = 'x'",
    ],
)
def test_values_of_another_kind_are_found_and_what_comes_is_signed(tmp_path, change: str) -> None:
    trial = Trial(f"sqlite:///{tmp_path}/service.db", tmp_path)
    trial.add("last")
    with trial.tampering() as connection:
        connection.exec_driver_sql(f"UPDATE audit SET {change} WHERE seq IN (33, {ROWS + 1})")
    keeper = AuditKeeper(trial.database, trial.writer)
    keeper.record(Entry(ANA, "thing.made", "thing", "later"))
    keeper._sign()
    assert not keeper.is_sound
    keeper.close()
    assert trial.writer.last is not None
    assert trial.writer.last.seq > ROWS + 1
    found = trial.found()
    assert found[0] == ("altered", 33, 33)
    assert ("altered", ROWS + 1, ROWS + 1) in found
    trial.database.close()


def test_a_counter_that_is_no_number_does_not_end_who_keeps_the_audit(tmp_path) -> None:
    trial = Trial(f"sqlite:///{tmp_path}/service.db", tmp_path)
    with trial.database.engine.connect() as connection:
        connection.exec_driver_sql("UPDATE counters SET value = 'x' WHERE name = 'audit'")
    keeper = AuditKeeper(trial.database, trial.writer)
    keeper._attempt(keeper._sign_if_due)
    keeper.close()
    trial.database.close()


def test_whoever_reads_an_export_slowly_holds_no_connection(trial: Trial, monkeypatch) -> None:
    monkeypatch.setattr(exports, "_BLOCK_LINES", 7)  # several blocks of few rows
    lines = exports._lines(SimpleNamespace(database=trial.database), EVERYTHING, AuditFilter())  # type: ignore[arg-type]  # all that is asked of it
    before = _connections_in_use(trial.database)
    told = next(lines)
    assert _connections_in_use(trial.database) == before
    seqs = [row.seq for line in (told + b"".join(lines)).decode().splitlines() if (row := read_line(line))]
    assert seqs == list(range(1, ROWS + 1))


def test_rows_that_changed_places_are_found(trial: Trial) -> None:
    with trial.tampering() as connection:
        for before, after in ((30, 1000), (35, 30), (1000, 35)):
            connection.exec_driver_sql(f"UPDATE audit SET seq = {after} WHERE seq = {before}")
    assert trial.found() == [("altered", 30, 30), ("altered", 35, 35)]


def test_a_row_that_was_slipped_in_is_found(trial: Trial) -> None:
    with trial.tampering() as connection:
        connection.exec_driver_sql("UPDATE audit SET seq = seq + 1000 WHERE seq > 30")
        connection.exec_driver_sql("UPDATE audit SET seq = seq - 999 WHERE seq > 1000")
        names = ", ".join(column.name for column in audit.c if column.name != "seq")
        connection.exec_driver_sql(f"INSERT INTO audit (seq, {names}) SELECT 31, {names} FROM audit WHERE seq = 5")
    assert trial.found()[0][:2] == ("altered", 31)


def test_a_row_that_was_rewritten_with_its_hash_is_found_by_the_next(trial: Trial) -> None:
    with trial.tampering() as connection:
        row = row_of(connection.execute(sa.select(audit).where(audit.c.seq == 33)).one())._replace(actor="eve")
        values = {"actor": "eve", "hash": chained_hash(row)}
        connection.execute(audit.update().where(audit.c.seq == 33).values(values))
    assert trial.found() == [("rewritten", 33, 33)]
    assert "rows from 21 on" in trial.verify().findings[0].says


@pytest.mark.parametrize(
    ("first", "found"), [(1, ("rewritten", 1, 60)), (33, ("rewritten", 21, 60)), (60, ("rewritten", 41, 60))]
)
def test_a_chain_that_was_rewritten_is_found_by_the_checkpoints(trial: Trial, first: int, found: tuple) -> None:
    trial.rewrite(first)
    assert trial.found(signed=False) == []
    assert trial.found() == [found]


def test_a_tail_that_was_cut_with_the_counter_is_found_by_the_checkpoints(trial: Trial) -> None:
    with trial.tampering() as connection:
        connection.exec_driver_sql("DELETE FROM audit WHERE seq > 50")
        connection.exec_driver_sql("UPDATE counters SET value = 50 WHERE name = 'audit'")
    assert trial.found(signed=False) == []
    assert trial.found() == [("missing", 51, 60)]
    trial.add(*("again" for _ in range(20)))
    assert trial.found() == [("rewritten", 41, 60)]


def test_a_tail_that_was_cut_stays_seen_while_the_work_goes_on(trial: Trial) -> None:
    with trial.tampering() as connection:
        connection.exec_driver_sql("DELETE FROM audit WHERE seq > 50")
    trial.add("later")
    assert trial.found(signed=False) == [("missing", 51, 60)]


def test_checkpoints_that_were_changed_or_removed_are_found(trial: Trial, tmp_path) -> None:
    place = Path(trial.place)
    assert open_checkpoints(trial.place).problems == []
    first, second = (place / f"checkpoint-{number:012}.json" for number in (1, 2))
    told = json.loads(first.read_text())
    first.write_text(json.dumps({**told, "hash": "00" * 32}))
    assert [kind for kind, _ in open_checkpoints(trial.place).problems] == ["checkpoint-forged"]
    first.write_text(second.read_text())
    assert open_checkpoints(trial.place).problems == [("checkpoint-forged", "checkpoint 1 is a copy of checkpoint 2")]
    for text in (
        "",
        "{",
        "[]",
        '{"number": 1}',
        json.dumps({**told, "seq": "1"}),
        "\0",
    ):
        first.write_text(text, "utf-8")
        assert open_checkpoints(trial.place).problems == [("checkpoint-forged", "checkpoint 1 cannot be read")]
    first.unlink()
    assert open_checkpoints(trial.place).problems == [("checkpoint-missing", "checkpoint 1 is not there")]
    other = CheckpointWriter(str(tmp_path / "other"), read_signing_key(tmp_path / "other.key"))
    (public,) = Path(other.address).glob("key-*.pem")
    kinds = [kind for kind, _ in open_checkpoints(trial.place, trusted=[public]).problems]
    assert kinds == ["checkpoint-missing", *["checkpoint-unknown-key"] * 2]


def test_a_row_that_was_put_far_ahead_keeps_nobody_from_signing(trial: Trial) -> None:
    others = ", ".join(column.name for column in audit.c if column.name != "seq")
    with trial.tampering() as connection:
        connection.exec_driver_sql(f"INSERT INTO audit SELECT {2**62}, {others} FROM audit WHERE seq = 5")
    for _ in range(2):
        trial.add("later")
        trial.sign()
    assert trial.writer.last is not None
    assert trial.writer.last.seq == ROWS + 2
    assert trial.found()[-1] == ("altered", 2**62, 2**62)


@pytest.mark.parametrize("number", ["999999999999", "9" * 40])
def test_a_number_that_was_put_far_ahead_keeps_nobody_from_signing(trial: Trial, number: str) -> None:
    Path(trial.place, f"checkpoint-{number}.json").write_text("no checkpoint")
    for _ in range(3):  # a service that starts again
        trial.writer = trial.signer()
        trial.add("later")
        trial.sign()
    kinds = [kind for kind, _ in open_checkpoints(trial.place).problems]
    assert kinds == ["checkpoint-missing", "checkpoint-forged"]
    assert len(open_checkpoints(trial.place).found) == 3 + ROWS // EVERY


def test_a_new_key_goes_on_where_the_old_one_ended(trial: Trial, tmp_path) -> None:
    trial.writer = CheckpointWriter(trial.place, read_signing_key(tmp_path / "second.key"))
    trial.add("later")
    trial.sign()
    read = open_checkpoints(trial.place)
    assert ([one.number for one in read.found], len(read.keys), read.problems) == ([1, 2, 3, 4], 2, [])


def test_two_replicas_sign_each_number_once(trial: Trial, tmp_path) -> None:
    other = CheckpointWriter(trial.place, read_signing_key(tmp_path / "audit.key"))
    trial.add("later")
    trial.sign()
    with trial.database.reading() as connection:
        assert other.write(connection) is None
    trial.add("later still")
    with trial.database.reading() as connection:
        assert other.write(connection).number == 5
    assert open_checkpoints(trial.place).problems == []


def test_what_is_undone_is_not_recorded(trial: Trial) -> None:
    with suppress(RuntimeError), trial.database.writing() as writing:
        record(writing, Entry(ANA, "thing.made", "thing", "never"))
        raise RuntimeError
    assert trial.verify().rows == ROWS
    trial.add("after")
    assert trial.verify().is_sound


def test_several_writers_make_one_chain(trial: Trial) -> None:
    other = open_database(trial.address)
    databases = (trial.database, other)

    def write(mine: Database) -> None:
        for number in range(25):
            with mine.writing() as writing:
                record(writing, Entry(ANA, "thing.made", "thing", str(number)))

    threads = [threading.Thread(target=write, args=(databases[number % 2],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdict = trial.verify()
    assert (verdict.findings, verdict.rows) == ([], ROWS + 100)
    other.close()


WRITER = """
import sys
from aiflow_service.audit import Caller, Entry, record
from aiflow_service.database import open_database
database = open_database(sys.argv[1])
while True:
    with database.writing() as writing:
        last = record(writing, *[Entry(Caller("ana"), "thing.made", "thing", "x")] * 3)
    print(last, flush=True)
"""


def test_what_was_recorded_survives_kill_9(trial: Trial) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, trial.address], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(40)]
    process.kill()
    told += [int(line) for line in process.communicate()[0].splitlines() if line]
    verdict = trial.verify()
    assert verdict.is_sound
    assert verdict.last_seq in (told[-1], told[-1] + 3)
    assert (verdict.rows - ROWS) % 3 == 0


def test_secrets_are_recorded_nowhere(trial: Trial) -> None:
    REDACTOR.add("hunter2-hunter2")
    details = {
        "password": "swordfish",
        "nested": [{"api_key": "swordfish", "kept": "secret://lake"}, "says hunter2-hunter2"],
        "password_reference": "secret://lake/password",
        "host": "db.example",
        "ratio": 0.5,
        "odd": "a\0b\ud800",
    }
    with trial.database.writing() as writing:
        record(writing, Entry(ANA, "connection.made", "connection", "lake hunter2-hunter2", details=details))
        record(writing, Entry(ANA, "thing.made", "thing", "big", details={"text": "x" * 50_000, "token": "swordfish"}))
    with trial.database.reading() as connection:
        rows = [row_of(one) for one in connection.execute(sa.select(audit).where(audit.c.seq > ROWS))]
    text = repr(rows)
    assert "swordfish" not in text
    assert "hunter2" not in text
    told = json.loads(rows[0].details)
    assert told["nested"] == [{"api_key": "***", "kept": "secret://lake"}, "says ***"]
    assert (told["password_reference"], told["ratio"], told["odd"]) == ("secret://lake/password", "0.5", "a�b?")
    assert json.loads(rows[1].details)["is_cut"] is True
    assert trial.verify().is_sound


def test_a_team_sees_its_own_rows_alone(trial: Trial) -> None:
    with trial.database.writing() as writing:
        record(
            writing, Entry(ANA, "thing.made", "thing", "theirs", team_id=2), Entry(ANA, "service.made", "service", "s")
        )
    with trial.database.reading() as connection:

        def seen(scope: Scope) -> set[str]:
            found, _ = list_entries(connection, scope, AuditFilter(), behind=None, limit=500)
            exported = [row.object_name for row in export_entries(connection, scope, AuditFilter())]
            assert sorted(exported) == sorted(one["object_name"] for one in found)
            return set(exported)

        assert seen(Scope(frozenset({2}))) == {"theirs"}
        assert {"theirs", "s"}.isdisjoint(seen(Scope(frozenset({1}))))
        assert seen(Scope(frozenset())) == set()
        assert {"theirs", "s"} <= seen(EVERYTHING)


def test_an_export_holds_every_row_and_each_line_in_one_way_only(trial: Trial) -> None:
    with trial.database.reading() as connection:
        lines = [export_line(row) for row in export_entries(connection, EVERYTHING, AuditFilter())]
    rows = [read_line(line) for line in lines]
    assert [row.seq for row in rows] == list(range(1, ROWS + 1))
    assert all(row is not None and chained_hash(row) == row.hash for row in rows)
    for changed in (
        lines[0].replace('"ana"', '"ana" '),
        lines[0].replace('"details":{}', '"details":{},"details":{}'),
        lines[0].replace('{"seq"', '{"note":"x","seq"'),
        lines[0][:-1],
        "[]",
        "null",
        "[" * 100_000,
    ):
        assert read_line(changed) is None


texts = st.text(max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(texts, st.dictionaries(texts, plain, max_size=4), st.integers(0, 2**60))
def test_any_row_survives_its_line(actor: str, details: dict, team_id: int) -> None:
    given = (1, "2026-01-01T00:00:00.000000Z", actor, "a.b", "c", actor, team_id, None, None, "done", None, None)
    row = AuditRow(*given, canonical_details(details), bytes(32), b"")
    try:
        actor.encode()
    except UnicodeEncodeError:
        return
    row = row._replace(hash=chained_hash(row))
    assert row.hash
    assert read_line(export_line(row)) == row


@pytest.mark.parametrize("text", [b"", b"nothing", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_refused(tmp_path, text: bytes) -> None:
    path = tmp_path / "audit.key"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="no key"):
        read_signing_key(path)


def test_a_key_that_others_may_read_is_refused(tmp_path) -> None:
    path = tmp_path / "deep" / "audit.key"
    made = read_signing_key(path)
    assert read_signing_key(path).public_key() == made.public_key()
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="others"):
        read_signing_key(path)


def test_a_denial_that_is_repeated_is_one_row_with_a_count(trial: Trial) -> None:
    keeper = AuditKeeper(trial.database, trial.writer, window_seconds=1000)
    for _ in range(7):
        keeper.deny(Entry(Caller("eve", "10.0.0.9"), "request.denied", "host", "evil.example", result="denied"))
    for number in range(300):
        keeper.deny(Entry(Caller("eve", "10.0.0.9"), "request.denied", "host", f"{number}.example", result="denied"))
    assert trial.verify().rows == ROWS + 201
    keeper.close()
    with trial.database.reading() as connection:
        found, _ = list_entries(connection, EVERYTHING, AuditFilter(result="denied"), behind=None, limit=500)
    times = [json.loads(bytes(one["details"])).get("times", 1) for one in found]
    assert (sum(times), len(found)) == (307, 203)
    verdict = trial.verify()
    assert verdict.is_sound
    assert verdict.signed_seq == verdict.last_seq  # the keeper signs the end


def test_the_api_searches_pages_and_verifies(service: Service) -> None:
    # The last row that the service adds by itself: then those that are listed are those that are exported.
    wait_until(lambda: service.get("/api/v1/audit", action="checkpoint.signed")["items"])
    host = unique("evil") + ".example"
    assert service.request("GET", "/api/v1/runs", headers={"Host": host}).status == 403
    (found,) = service.get("/api/v1/audit", object_name=host)["items"]
    assert (found["actor"], found["action"], found["result"]) == ("stranger", "request.denied", "denied")
    assert found["details"] == {"method": "GET", "path": "/api/v1/runs"}
    assert (found["origin"], len(found["trace_id"])) == ("127.0.0.1", 32)
    (started,) = service.get("/api/v1/audit", action="service.started")["items"]
    assert service.get("/api/v1/audit", action="service", since=started["at"])["items"] == [started]
    assert service.get("/api/v1/audit", action="servic")["items"] == []
    for number in range(5):
        service.request("GET", "/", headers={"Host": f"{number}.{host}"})
    numbers = [one["seq"] for one in service.pages("/api/v1/audit", limit=2)]
    assert numbers == list(range(numbers[0], 0, -1))
    verdict = service.get("/api/v1/audit/verify")
    assert (verdict["is_sound"], verdict["rows"]) == (True, numbers[0])
    wait_until(lambda: service.get("/api/v1/audit/checkpoints")["count"] >= 1)
    answer = service.request("GET", "/api/v1/audit/export")
    rows = [read_line(line) for line in answer.body.decode().splitlines()]
    assert [row.seq for row in rows] == sorted(numbers)
    assert answer.headers["x-audit-partial"] == "false"
    answer = service.request("GET", f"/api/v1/audit/export?object_name={host}")
    assert (len(answer.body.splitlines()), answer.headers["x-audit-partial"]) == (1, "true")


def test_a_replay_is_recorded_with_it(trial: Trial, tmp_path) -> None:
    """What was refused by older rules is taken by newer ones."""
    raw = json.dumps(run_event()).encode()
    with trial.database.writing() as writing:
        refused = refusal_of(raw, Refusal("event-invalid", "by older rules"), 1)
        (number,) = write_refusals(writing, [refused]).values()
    with running_service(tmp_path, trial.address) as service:
        assert service.request("POST", f"/api/v1/lineage/refused/{number}/replay").status == 200
        (found,) = service.get("/api/v1/audit", action="refusal.replayed", object_name=number)["items"]
        assert (found["actor"], found["team_id"], found["details"]) == ("local", 1, {"events": 1})
        assert service.get("/api/v1/audit/verify")["is_sound"]


@pytest.mark.parametrize(
    "query", ["since=yesterday", "limit=0", "cursor=x", "actor=%00", "result=odd", "action=" + "x" * 501]
)
@pytest.mark.parametrize("path", ["/api/v1/audit", "/api/v1/audit/export"])
def test_a_wrong_question_is_answered_with_its_reason(service: Service, path: str, query: str) -> None:
    if path.endswith("export") and query[:5] in ("limit", "curso"):
        return
    answer = service.request("GET", f"{path}?{query}")
    assert answer.status == 422
    assert answer.json()["place"].startswith("query/")


def test_start_and_end_are_recorded_and_signed(database, tmp_path) -> None:
    options = ("--audit-checkpoints", str(tmp_path / "elsewhere"), "--audit-key", str(tmp_path / "own.key"))
    for _ in range(2):
        assert start_service(tmp_path, database, *options).stop() == 0
    opened = open_database(database)
    with opened.reading() as connection:
        found, _ = list_entries(connection, EVERYTHING, AuditFilter(), behind=None, limit=10)
        verdict = verify_entries(connection, open_checkpoints(str(tmp_path / "elsewhere")).found)
    opened.close()
    told = [one["action"] for one in found if one["action"] != "checkpoint.signed"]  # of one that took a second to end
    assert told == ["service.stopped", "service.started"] * 2
    assert (verdict.is_sound, verdict.signed_seq, verdict.rows) == (True, len(found), len(found))


def test_a_migration_down_and_up_leaves_an_empty_chain(trial: Trial) -> None:
    migrate(trial.database, "0003")
    migrate(trial.database)
    with trial.database.reading() as connection:
        assert connection.execute(sa.select(audit)).first() is None
    trial.add("first")
    assert trial.verify(signed=False).rows == 1


def test_checkpoints_that_were_all_removed_are_missed(database, tmp_path) -> None:
    place, key = tmp_path / "elsewhere", tmp_path / "keys" / "own.key"
    options = ("--audit-checkpoints", str(place), "--audit-key", str(key))

    def kinds(running: Service) -> list[str]:
        return [one["kind"] for one in running.get("/api/v1/audit/verify")["findings"]]

    with running_service(tmp_path, database, *options) as running:
        wait_until(lambda: running.get("/api/v1/audit", action="checkpoint.signed")["items"])
        assert kinds(running) == []
        shutil.rmtree(place, ignore_errors=True)
        assert "checkpoint-missing" in kinds(running)
    # Whoever empties the place and starts the service again: what is signed now does not fill the gap.
    for remembers in (True, False):  # beside the key; or, where that cannot be written to, by the chain alone
        shutil.rmtree(place, ignore_errors=True)
        if not remembers:
            for file in key.parent.glob("*.newest-*"):
                file.unlink()
        with running_service(tmp_path, database, *options) as running:
            wait_until(lambda: list(place.glob("checkpoint-*")))
            assert "checkpoint-missing" in kinds(running)
            (finding, *_) = running.get("/api/v1/audit/verify")["findings"]
            assert "not there" in finding["says"] or "is not at" in finding["says"]
    assert "see aiflow audit verify" in running.log.read_text()


def test_a_history_that_was_written_anew_is_found_by_what_lies_beside_the_key(database, tmp_path) -> None:
    place, key = tmp_path / "elsewhere", tmp_path / "keys" / "own.key"
    options = ("--audit-checkpoints", str(place), "--audit-key", str(key))
    assert start_service(tmp_path, database, *options).stop() == 0
    shutil.rmtree(place)
    opened = open_database(database)
    with opened.engine.begin() as connection:  # rows, hashes and the counter, as if nothing had ever been
        for statement in (
            ["ALTER TABLE audit DISABLE TRIGGER USER"]
            if opened.is_postgres
            else [f"DROP TRIGGER {name}" for name in _triggers(connection)]
        ) + ["DELETE FROM audit", "DELETE FROM counters WHERE name = 'audit'"]:
            connection.exec_driver_sql(statement)
    opened.close()
    with running_service(tmp_path, database, *options) as running:
        verdict = running.get("/api/v1/audit/verify")
    kinds = {one["kind"] for one in verdict["findings"]}
    assert "checkpoint-missing" in kinds
    assert kinds & {"missing", "rewritten"}  # as far as the new chain goes by then


def _triggers(connection: sa.Connection) -> list[str]:
    named = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'"
    return list(connection.exec_driver_sql(named).scalars())


def test_what_was_restored_misses_no_checkpoint_of_the_place_before(database, tmp_path) -> None:
    with running_service(tmp_path, f"sqlite:///{tmp_path / 'old.db'}") as running:
        wait_until(lambda: running.get("/api/v1/audit", action="checkpoint.signed")["items"])
    back_up(f"sqlite:///{tmp_path / 'old.db'}", tmp_path / "kept")
    restore(tmp_path / "kept", database)
    options = ("--audit-checkpoints", str(tmp_path / "new"), "--audit-key", str(tmp_path / "new.key"))
    with running_service(tmp_path, database, *options) as running:
        assert running.get("/api/v1/audit/verify")["findings"] == []
