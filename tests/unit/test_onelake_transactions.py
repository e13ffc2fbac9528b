"""What a log notes is read at once: what delta-rs says of each application, those that expire too, or nothing."""

import os
import time
from pathlib import Path

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.connectors.onelake.location import table_place
from aiflow_sdk.connectors.onelake.table import load_table, read_table
from aiflow_sdk.connectors.onelake.transactions import read_transactions
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import Scan, Write, Written

DAYS = [f"2026-11-{day:02}" for day in range(1, 26)]


@pytest.fixture
def environment(tmp_path) -> Environment:
    return Environment(lake=str(tmp_path / "lake"), root=tmp_path)


@pytest.fixture
def append(environment):
    """Adds a number as the rows of a day."""

    def append(day: str, number: int, mode: str = "append", generation: int = 1) -> Written:
        run = Run.model_validate(
            {
                "run_id": "0193c000-0000-7000-8000-000000000001",
                "environment": "dev",
                "project": "p",
                "pipeline_id": "x",
                "partition_key": day,
                "partition_grain": "day",
                "generation": generation,
            }
        )
        sink = OneLakeSink.load({"table": "raw.out", "mode": mode, "partition_by": ["dt"]}, environment)
        frame = pl.DataFrame({"id": [number], "dt": [day]})
        return sink.write(frame.to_arrow().to_reader(), Write("out", run, {"dt": day}, "dt"))

    return append


@pytest.fixture
def place(environment):
    return table_place(environment, "raw.out", None)


@pytest.fixture
def log(environment) -> Path:
    return Path(environment.lake, "raw/out/_delta_log")


def ids(environment: Environment) -> list[int]:
    frame = OneLakeSource.load({"table": "raw.out"}, environment).to_polars(Scan()).collect()
    return sorted(frame["id"].to_list())


@pytest.mark.parametrize("commits", [1, 9, 10, 11, 20, 25])
def test_all_that_a_log_notes_is_what_delta_rs_says_of_each(append, place, commits):
    for number, day in enumerate(DAYS[:commits]):
        append(day, number, generation=number + 3)
    append(DAYS[0], 100, generation=50)
    state = load_table(place)
    assert state is not None
    found = read_transactions(place, state.version)
    assert found
    assert {app: state.table.transaction_version(app) for app in found} == found
    assert max(found.values()) == 50
    assert len([app for app in found if "/out/2026-11-" in app]) == commits
    first = read_transactions(place, 0)
    assert first
    assert max(first.values()) == 3


def test_a_word_in_a_commit_is_no_transaction_of_it(append, place, log):
    append(DAYS[0], 1)
    said = CommitProperties(custom_metadata={"txn": '{"txn":{"appId":"false","version":9}}'})
    DeltaTable(str(log.parent)).alter.set_table_description('"txn"', commit_properties=said)
    properties = CommitProperties(app_transactions=[Transaction('true "txn" ä', 7)])
    DeltaTable(str(log.parent)).alter.set_table_description("again", commit_properties=properties)
    found = read_transactions(place, 2)
    assert found is not None
    assert (found['true "txn" ä'], "false" in found) == (7, False)


def other_form_of_checkpoint(log: Path) -> None:
    checkpoint = log / f"{9:020}.checkpoint.parquet"
    checkpoint.rename(log / f"{9:020}.checkpoint.0000000001.0000000002.parquet")


def garbage_checkpoint(log: Path) -> None:
    (log / f"{9:020}.checkpoint.parquet").write_bytes(b"PAR1 none PAR1")


def missing_commit(log: Path) -> None:
    (log / f"{11:020}.json").unlink()


def cut_commit(log: Path) -> None:
    commit = log / f"{11:020}.json"
    commit.write_bytes(commit.read_bytes().rstrip()[:-4])


def commit_of_a_list(log: Path) -> None:
    (log / f"{11:020}.json").write_text('["txn"]\n', "utf-8")


@pytest.mark.parametrize(
    "damage", [other_form_of_checkpoint, garbage_checkpoint, missing_commit, cut_commit, commit_of_a_list]
)
def test_a_log_that_is_not_as_expected_is_left_to_delta_rs(append, place, log, damage):
    for number, day in enumerate(DAYS[:13]):
        append(day, number)
    assert read_transactions(place, 12)
    damage(log)
    assert read_transactions(place, 12) is None


def test_delta_rs_is_asked_where_the_log_cannot_be_read_at_once(append, environment, monkeypatch):
    # As of a store of objects, or of a log of another form: the answers are delta-rs' own.
    monkeypatch.setattr("aiflow_sdk.connectors.onelake.table.read_transactions", lambda place, version: None)
    for number, day in enumerate(DAYS[:3]):
        append(day, number, generation=2)
    assert append(DAYS[1], 100, generation=1).superseded
    append(DAYS[1], 101, generation=3)
    assert ids(environment) == [0, 2, 101]


@pytest.mark.parametrize("hours", [1, 4])
def test_what_expires_in_a_table_is_told_as_delta_rs_tells_it(append, environment, place, log, hours):
    append(DAYS[0], 1, generation=7)
    table, ago = DeltaTable(str(log.parent)), int(time.time() * 1000) - 2 * 3600 * 1000
    noted = [Transaction("aiflow:made/dt=2026-11-02", 5, ago), Transaction("foreign", 6, ago)]
    table.alter.set_table_description("t", commit_properties=CommitProperties(app_transactions=noted))
    append(DAYS[2], 3)  # after it the state is known without being read
    source = OneLakeSource.load({"table": "raw.out"}, environment)
    assert source.partition_facts("dt", [DAYS[1]])[DAYS[1]].state == "empty"
    table = DeltaTable(str(log.parent))
    table.alter.set_table_properties({"delta.setTransactionRetentionDuration": f"interval {hours} hour"})
    state = read_table(place)
    assert state is not None
    is_there = hours > 2
    assert (state.generation("foreign"), state.table.transaction_version("foreign")) == (
        (6, 6) if is_there else (None,) * 2
    )
    assert source.partition_facts("dt", [DAYS[1]])[DAYS[1]].state == ("empty" if is_there else "absent")
    # Ours say no time, and stay.
    assert state.generation("aiflow:dev/p/x/out/2026-11-01") == 7
    with pytest.raises(AiflowError, match="forgets transactions"):
        append(DAYS[3], 4)


def test_an_append_asks_nothing_of_delta_rs_that_it_has_read(append, environment, place, monkeypatch):
    append(DAYS[0], 0)
    asked: list[str] = []
    answer = DeltaTable.transaction_version

    def counted(self: DeltaTable, app: str) -> int | None:
        asked.append(app)
        return answer(self, app)

    monkeypatch.setattr(DeltaTable, "transaction_version", counted)  # the real one, counted
    for number, day in enumerate(DAYS[1:14], 1):
        append(day, number)
    assert asked == []
    state = read_table(place)
    assert state is not None
    assert dict(state.noted) == read_transactions(place, state.version)
    assert ids(environment) == list(range(14))


def test_what_another_asks_of_writers_after_our_commit_is_heard(append, environment, log):
    append(DAYS[0], 0)
    append(DAYS[1], 1)
    DeltaTable(str(log.parent)).alter.set_table_properties({"delta.appendOnly": "true"})
    append(DAYS[2], 2)
    with pytest.raises(AiflowError, match="append-only"):
        append(DAYS[0], 3, mode="overwrite", generation=2)
    assert ids(environment) == [0, 1, 2]


def test_what_another_noted_after_our_commit_is_heard(append, environment, log, place):
    append(DAYS[0], 0)
    append(DAYS[1], 1)
    app = "aiflow:dev/p/x/out/2026-11-03"
    properties = CommitProperties(app_transactions=[Transaction(app, 9)])
    DeltaTable(str(log.parent)).alter.set_table_description("ours", commit_properties=properties)
    assert append(DAYS[2], 2).superseded
    assert ids(environment) == [0, 1]


def test_the_log_is_cleaned_of_what_was_summed_up_and_is_old(append, environment, log):
    append(DAYS[0], 0, generation=2)
    DeltaTable(str(log.parent)).alter.set_table_properties({"delta.logRetentionDuration": "interval 1 hour"})
    for number, day in enumerate(DAYS[1:18], 1):
        append(day, number, generation=2)
    assert (log / f"{0:020}.json").exists()
    old = time.time() - 7200
    for file in log.glob("*.json"):
        os.utime(file, (old, old))
    for number, day in enumerate(DAYS[18:20], 18):
        append(day, number, generation=2)
    assert not (log / f"{0:020}.json").exists()
    assert (log / f"{19:020}.checkpoint.parquet").exists()
    assert ids(environment) == list(range(20))
    assert append(DAYS[0], 0, generation=1).superseded


def test_a_table_that_keeps_its_log_is_not_cleaned(append, environment, log):
    append(DAYS[0], 0)
    keeping = {"delta.logRetentionDuration": "interval 1 hour", "delta.enableExpiredLogCleanup": "false"}
    DeltaTable(str(log.parent)).alter.set_table_properties(keeping)
    for number, day in enumerate(DAYS[1:18], 1):
        append(day, number)
    old = time.time() - 7200
    for file in log.glob("*.json"):
        os.utime(file, (old, old))
    for number, day in enumerate(DAYS[18:20], 18):
        append(day, number)
    assert (log / f"{0:020}.json").exists()
