"""Tables that Spark on the JVM wrote, with what our writer never does: right rows or a clear error, never wrong rows.

The tables and what Spark itself reads of them lie in tests/golden/foreign_tables, whose README says how they are made.
"""

import base64
import datetime as dt
import json
import shutil
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.engines.python import PythonEngine
from aiflow_sdk.engines.spark import SparkEngine
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plan import PlanTask, Run
from aiflow_sdk.plugins import FrameWrite, Predicate, Scan, Session, Write
from aiflow_sdk.testing.conformance.probe import Batches, Rows

GOLDEN = Path(__file__).parents[1] / "golden" / "foreign_tables"
TABLES = sorted(path.stem for path in GOLDEN.glob("*.zip"))
ENGINES = ("python", "spark")

UNREADABLE = {
    "column_mapping_name": "columnMapping",
    "column_mapping_id": "columnMapping",
    "iceberg_compat": "columnMapping",
    "type_widening": "typeWidening",
    "variant": "variantType",
}
"""Table → what its error speaks of."""
UNWRITABLE = {
    "append_only": "append-only",
    "check_constraint": "constraints that we do not check: small",
    "clustered": "is clustered",
    "column_default": "defaults",
    "deletion_vectors": "deletion vectors in files",
    "deletion_vectors_dropped": "had a feature dropped",
    "deletion_vectors_unpartitioned": "deletion vectors in files",
    "generated_column": "computes 'twice' (id * 2)",
    "identity_column": "numbers its rows in 'number'",
    "in_commit_timestamps": "keeps the time of a commit",
    "partition_binary": "is binary",
    "not_null": "has no nulls in 'id'",
    "row_tracking": "gives every row a number",
    "vacuum_protocol_check": "vacuumProtocolCheck",
    "varchar": "limits the length of 'text' (varchar(5))",
    **UNREADABLE,
}
DAY = "2026-11-20"
RUN = Run(
    run_id="0193c000-0000-7000-8000-000000000000",
    environment="dev",
    project="p",
    pipeline_id="x",
    partition_key=DAY,
    partition_grain="day",
)


@pytest.fixture(scope="module")
def sessions():
    """A session of each engine."""
    with ExitStack() as stack:
        opened: dict[str, Session] = {}
        for name, engine in (("python", PythonEngine()), ("spark", SparkEngine())):
            plugin = f"{type(engine).__module__}:{type(engine).__name__}"
            task = PlanTask(
                id="t",
                engine=name,
                engine_plugin=plugin,
                cluster="local",
                node_ids=("t",),
                retries=0,
                retry_delay_seconds=0,
                timeout_seconds=None,
                bounded=True,
            )
            opened[name] = stack.enter_context(engine.open(task, RUN))
        yield opened


@pytest.fixture
def environment(tmp_path) -> Environment:
    return Environment(lake=str(tmp_path / "lake"), root=tmp_path)


class Lake:
    """A lake, an engine at work on it."""

    def __init__(self, environment: Environment, session: Session) -> None:
        self.environment = environment
        self.session = session

    def folder(self, name: str) -> Path:
        return Path(self.environment.lake_address, "raw", name)

    def unpack(self, name: str) -> dict[str, Any]:
        """Put a table of the collection into the lake; return what is told of it."""
        with zipfile.ZipFile(GOLDEN / f"{name}.zip") as archive:
            archive.extractall(self.folder(name))
        return json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))

    def table(self, name: str, scan: Scan | None = None, **options: Any) -> pa.Table:
        source = OneLakeSource.load({"table": f"raw.{name}", **options}, self.environment)
        sink = Batches()
        frame = self.session.read(source, scan or Scan())
        self.session.write([FrameWrite(frame, sink, Write("kept", RUN))])
        return sink._table

    def rows(self, name: str, scan: Scan | None = None, **options: Any) -> list[dict[str, Any]]:
        """Return the rows as the collection tells them."""
        return ordered(self.table(name, scan, **options))

    def write(self, name: str, frame: pa.Table, **options: Any) -> None:
        """Replace the day, where the table is partitioned by it, else the partitions of the frame, else everything."""
        columns = options["partition_by"]
        mode = "overwrite_partitions" if columns and columns != ["day"] else "overwrite"
        sink = OneLakeSink.load({"table": f"raw.{name}", "mode": mode, **options}, self.environment)
        request = Write("out", RUN, time="day" if columns == ["day"] else None)
        self.session.write([FrameWrite(self.session.read(Rows.of(frame), Scan()), sink, request)])


@pytest.fixture(params=ENGINES)
def lake(request, sessions, environment) -> Lake:
    return Lake(environment, sessions[request.param])


def told(value: Any) -> Any:
    """Return a value as scripts/foreign tells it."""
    match value:
        case dt.datetime():
            return (value.astimezone(dt.UTC) if value.tzinfo else value).isoformat(timespec="microseconds")
        case dt.date():
            return value.isoformat()
        case Decimal():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {key: told(item) for key, item in value.items()}
        case list():
            return [told(item) for item in value]
        case _:
            return value


def ordered(table: pa.Table) -> list[dict[str, Any]]:
    maps = {field.name for field in table.schema if pa.types.is_map(field.type)}
    rows = [
        {key: told(dict(value) if key in maps and value is not None else value) for key, value in row.items()}
        for row in table.to_pylist()
    ]
    return expected(rows)


def expected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: repr(row["id"]))


def check_error(error: AiflowError, said: str) -> None:
    assert said in error.message
    assert error.code == ("unsupported-type" if "is binary" in said else "unsupported-table-feature")
    assert error.hint


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", TABLES)
def test_all_rows_are_spark_s_own(lake, name):
    about = lake.unpack(name)
    if name in UNREADABLE:
        with pytest.raises(AiflowError) as caught:
            lake.rows(name)
        check_error(caught.value, UNREADABLE[name])
        return
    assert lake.rows(name) == expected(about["rows"])


@pytest.mark.parametrize("name", sorted(set(TABLES) - set(UNREADABLE)))
def test_each_partition_holds_its_own_rows(lake, name):
    about = lake.unpack(name)
    for column in about["partition_by"]:
        for value in {json.dumps(row[column]): row[column] for row in about["rows"]}.values():
            if about["types"][column] == "binary" and value is not None:
                with pytest.raises(AiflowError, match=r"type binary|is a binary"):
                    lake.rows(name, partitions={column: value})
                continue
            wanted = [row for row in about["rows"] if row[column] == value]
            assert lake.rows(name, partitions={column: value}) == expected(wanted), (column, value)


@pytest.mark.parametrize("name", sorted(set(TABLES) - set(UNREADABLE)))
def test_a_projection_with_a_filter(lake, name):
    about = lake.unpack(name)
    ids = sorted(row["id"] for row in about["rows"])
    middle = ids[len(ids) // 2]
    scan = Scan(columns=("id",), predicates=(Predicate("id", ">=", middle),))
    assert lake.rows(name, scan) == expected([{"id": number} for number in ids if number >= middle])


@pytest.mark.parametrize("name", TABLES)
def test_a_write_is_right_for_all_readers_or_refused_before_anything_changes(lake, sessions, name):
    about = lake.unpack(name)
    columns = about["partition_by"]
    if name in UNREADABLE:
        frame = pa.table({"id": [200], "text": ["new"], "day": [dt.date(2026, 11, 20)]})
    else:
        frame = lake.table(name).sort_by("id").slice(0, 1)
        frame = frame.set_column(frame.column_names.index("id"), "id", pa.array([200]))
    if name in UNWRITABLE:
        before = everything(lake.folder(name))
        with pytest.raises(AiflowError) as caught:
            lake.write(name, frame, partition_by=columns)
        check_error(caught.value, UNWRITABLE[name])
        assert everything(lake.folder(name)) == before
        return
    lake.write(name, frame, partition_by=columns)
    first = min(about["rows"], key=lambda row: row["id"])
    kept = [row for row in about["rows"] if columns and any(row[column] != first[column] for column in columns)]
    wanted = expected([*kept, {**first, "id": 200}])
    for session in sessions.values():
        assert Lake(lake.environment, session).rows(name) == wanted
    scanned = pa.RecordBatchReader.from_stream(DeltaTable(str(lake.folder(name))).scan()).read_all()
    assert ordered(scanned) == wanted


def newest_commit(folder: Path) -> Path:
    return max(folder.glob("_delta_log/*.json"))


def change_actions(commit: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Let each action of a commit be changed in place."""
    actions = [json.loads(line) for line in commit.read_text("utf-8").splitlines()]
    for action in actions:
        change(action)
    commit.write_text("".join(json.dumps(action) + "\n" for action in actions), "utf-8")


def half_written_commit(folder: Path) -> None:
    commit = newest_commit(folder)
    commit.write_bytes(commit.read_bytes()[:-100])


def empty_commit(folder: Path) -> None:
    newest_commit(folder).write_bytes(b"")


def missing_data_file(folder: Path) -> None:
    min(folder.glob("day=2026-11-20/*.parquet")).unlink()


def cut_data_file(folder: Path) -> None:
    file = min(folder.glob("day=2026-11-20/*.parquet"))
    file.write_bytes(file.read_bytes()[:-20])


def missing_commit(folder: Path) -> None:
    (folder / "_delta_log" / f"{1:020}.json").unlink()


def garbage_checkpoint(folder: Path) -> None:
    (checkpoint,) = folder.glob("_delta_log/*.checkpoint.parquet")
    checkpoint.write_bytes(b"PAR1 no checkpoint at all PAR1")


def checkpoint_of_nothing(folder: Path) -> None:
    (folder / "_delta_log" / "_last_checkpoint").write_text('{"version": 1000, "size": 5}', "utf-8")


def stale_last_checkpoint(folder: Path) -> None:
    (folder / "_delta_log" / "_last_checkpoint").write_text('{"version": 0, "size": 5}', "utf-8")


def garbage_last_checkpoint(folder: Path) -> None:
    (folder / "_delta_log" / "_last_checkpoint").write_text("{", "utf-8")


def lost_part_of_a_checkpoint(folder: Path) -> None:
    min(folder.glob("_delta_log/*.checkpoint.*.parquet")).unlink()


def protocol(**facts: Any) -> Callable[[Path], None]:
    def set_protocol(folder: Path) -> None:
        first = min(folder.glob("_delta_log/*.json"))
        change_actions(first, lambda action: action.get("protocol", {}).update(facts) if "protocol" in action else None)

    return set_protocol


def without(kind: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        first = min(folder.glob("_delta_log/*.json"))
        change_actions(first, lambda action: action.pop(kind, None))

    return remove


BROKEN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "half-written commit": ("change_data_feed", half_written_commit),
    "empty commit": ("spark_transactions", empty_commit),
    "missing data file": ("plain", missing_data_file),
    "cut data file": ("plain", cut_data_file),
    "missing commit": ("spark_transactions", missing_commit),
    "garbage checkpoint": ("cleaned_log", garbage_checkpoint),
    "checkpoint of nothing": ("spark_transactions", checkpoint_of_nothing),
    "checkpoint of nothing, log cleaned": ("cleaned_log", checkpoint_of_nothing),
    "stale last checkpoint": ("cleaned_log", stale_last_checkpoint),
    "garbage last checkpoint": ("cleaned_log", garbage_last_checkpoint),
    "part of a checkpoint lost": ("multipart_checkpoint", lost_part_of_a_checkpoint),
    "sidecar lost": ("v2_checkpoint_json", lambda folder: shutil.rmtree(folder / "_delta_log" / "_sidecars")),
    "reader 99": ("plain", protocol(minReaderVersion=99, minWriterVersion=99)),
    "writer 99": ("plain", protocol(minWriterVersion=99)),
    "unknown reader feature": (
        "plain",
        protocol(minReaderVersion=3, minWriterVersion=7, readerFeatures=["new"], writerFeatures=["new"]),
    ),
    "unknown writer feature": ("plain", protocol(minWriterVersion=7, writerFeatures=["new"])),
    "no protocol": ("plain", without("protocol")),
    "no metadata": ("plain", without("metaData")),
}
"""What is broken: of which table, and how."""
READABLE_NONETHELESS = {"stale last checkpoint", "garbage last checkpoint", "writer 99", "unknown writer feature"}
WRITABLE_NONETHELESS = {"stale last checkpoint", "garbage last checkpoint", "missing data file", "cut data file"}
CODES = {
    "reader 99": {"unsupported-table-feature"},
    "unknown reader feature": {"unsupported-table-feature"},
    "writer 99": {"unsupported-table-feature"},
    "unknown writer feature": {"unsupported-table-feature"},
    "missing data file": {"store-failed", "spark-failed"},
    "cut data file": {"unreadable-file", "spark-failed"},
}
"""Other than unreadable-table."""


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_table_gives_its_rows_or_a_clear_error(lake, sessions, what):
    name, damage = BROKEN[what]
    about = lake.unpack(name)
    folder = lake.folder(name)
    damage(folder)
    for checksum in folder.glob("_delta_log/*.crc"):
        checksum.unlink()  # it tells protocol and metadata once more, and is believed
    if what in READABLE_NONETHELESS:
        assert lake.rows(name) == expected(about["rows"])
    else:
        with pytest.raises(AiflowError) as caught:
            lake.rows(name)
        assert caught.value.code in CODES.get(what, {"unreadable-table"})
        assert caught.value.hint or caught.value.notes
        assert len(caught.value.message) < 700
        assert "\n" not in caught.value.message

    frame = pa.table({"id": [200], "text": ["new"], "day": [dt.date(2026, 11, 20)]})
    before = everything(folder)
    if what in WRITABLE_NONETHELESS:
        lake.write(name, frame, partition_by=["day"])
        wanted = [row for row in about["rows"] if row["day"] != DAY] + [{"id": 200, "text": "new", "day": DAY}]
        for session in sessions.values():
            assert Lake(lake.environment, session).rows(name) == expected(wanted)
    else:
        with pytest.raises(AiflowError) as caught:
            lake.write(name, frame, partition_by=["day"])
        assert caught.value.code in CODES.get(what, {"unreadable-table"})
        assert caught.value.hint
        assert everything(folder) == before


def test_a_log_that_lies_elsewhere_is_no_way_out_of_the_lake(lake, tmp_path):
    """A link to another table's log: a write would commit there."""
    about = lake.unpack("plain")
    folder, outside = lake.folder("plain"), tmp_path / "production" / "plain"
    shutil.copytree(folder, outside)
    shutil.rmtree(folder / "_delta_log")
    (folder / "_delta_log").symlink_to(outside / "_delta_log")
    before = everything(outside)
    frame = pa.table({"id": [200], "text": ["new"], "day": [dt.date(2026, 11, 20)]})
    for attempt in (lambda: lake.rows("plain"), lambda: lake.write("plain", frame, partition_by=about["partition_by"])):
        with pytest.raises(AiflowError) as caught:
            attempt()
        assert caught.value.code == "outside-lake"
        assert caught.value.hint
    assert everything(outside) == before


@pytest.mark.parametrize("address", ["file://{}", "file:{}"])
def test_files_that_lie_elsewhere_are_read_and_stay_when_they_are_replaced(sessions, environment, tmp_path, address):
    """As of a shallow clone: the log names files of another table by their whole address."""
    lake = Lake(environment, sessions["python"])
    about = lake.unpack("plain")
    folder, origin = lake.folder("plain"), tmp_path / "origin"
    shutil.copytree(folder, origin)

    def name_whole(action: dict[str, Any]) -> None:
        if "add" in action:
            action["add"]["path"] = address.format(f"{origin}/{action['add']['path']}")

    change_actions(newest_commit(folder), name_whole)
    for path in [*folder.glob("day=*"), *folder.glob("_delta_log/*.crc")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert lake.rows("plain") == expected(about["rows"])
    with pytest.raises(AiflowError, match="Spark failed"):  # Sail knows no such file
        Lake(environment, sessions["spark"]).rows("plain")
    before = everything(origin)
    lake.write("plain", pa.table({"id": [200], "text": ["new"], "day": [dt.date(2026, 11, 20)]}), partition_by=["day"])
    wanted = [row for row in about["rows"] if row["day"] != DAY] + [{"id": 200, "text": "new", "day": DAY}]
    assert lake.rows("plain") == expected(wanted)
    assert everything(origin) == before
