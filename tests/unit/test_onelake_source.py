"""Reading a table of the lake: typed partitions, pushed down, alike by every road."""

import base64
import datetime as dt
import json
import struct
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSource
from aiflow_sdk.errors import AiflowError, DataError
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import Predicate, Scan

UTC = dt.UTC


@pytest.fixture
def environment(tmp_path) -> Environment:
    return Environment(lake=str(tmp_path / "lake"))


@pytest.fixture
def make(environment):
    """Make a table out of a frame, as another writer of Delta would."""

    def make(frame: pl.DataFrame, *partition_by: str, name: str = "raw.orders", **options) -> Path:
        folder = Path(environment.lake) / name.replace(".", "/")
        folder.mkdir(parents=True, exist_ok=True)
        write_deltalake(str(folder), frame, partition_by=list(partition_by) or None, **options)
        return folder

    return make


@pytest.fixture
def source(environment):
    def source(name: str = "raw.orders", **options) -> OneLakeSource:
        return OneLakeSource.load({"table": name, **options}, environment)

    return source


def run_for(day: str | None = "2026-11-20", grain: str = "day", timezone: str = "UTC") -> Run:
    return Run.model_validate(
        {
            "run_id": "0193c000-0000-7000-8000-000000000000",
            "environment": "dev",
            "project": "p",
            "pipeline_id": "x",
            "partition_key": day,
            "partition_grain": grain if day else None,
            "timezone": timezone,
        }
    )


def ids(source: OneLakeSource, scan: Scan | None = None) -> list[int]:
    """Return the ids by both roads, which must agree."""
    scan = scan or Scan()
    by_polars = sorted(source.to_polars(scan).collect()["id"].to_list())
    by_arrow = sorted(pa.Table.from_batches(source.scan(scan)).column("id").to_pylist())
    assert by_polars == by_arrow
    return by_polars


DATE, HOUR = dt.date(2026, 11, 20), dt.datetime(2026, 11, 20, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([DATE, dt.date(2026, 11, 21)], "2026-11-20"),
        (["2026-11-20", "2026-11-21"], "2026-11-20"),
        ([20261120, 20261121], "20261120"),
        ([20261120, 20261121], 20261120),
        ([HOUR, HOUR.replace(hour=6)], "2026-11-20T05"),
        ([HOUR, HOUR.replace(hour=6)], "2026-11-20T06:00+01:00"),
        ([HOUR.replace(tzinfo=None), HOUR.replace(hour=6, tzinfo=None)], "2026-11-20T05"),
        ([True, False], "true"),
        ([True, False], True),
        ([1.5, 2.0], 1.5),
        ([1.5, 2.0], "1.5"),
        ([Decimal("1.50"), Decimal("2.00")], "1.5"),
        ([None, "x"], None),
        (["a'b; drop table x --", "x"], "a'b; drop table x --"),
        (["../../etc", "x"], "../../etc"),
        (["%2F", "/"], "%2F"),
        (["/", "%2F"], "/"),
        (["null", None], "null"),
        (["日本 £ é", "x"], "日本 £ é"),
    ],
)
def test_a_partition_is_found_by_its_own_type(make, source, values, wanted):
    make(pl.DataFrame({"id": [1, 2], "p": values}), "p")
    assert ids(source(partitions={"p": wanted})) == [1]
    assert ids(source(partitions={"p": [wanted]})) == [1]


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        ([DATE], "yesterday"),
        ([DATE], "2026-11-20T05"),
        ([DATE], 20261120.0),
        ([1], "1.0"),
        ([1], "1 or 1=1"),
        ([1], True),
        ([1], str(2**63)),
        ([HOUR], "5"),
        ([HOUR.replace(tzinfo=None)], "2026-11-01T01-04:00"),
        ([True], "yes"),
        (["x"], 1.5),
        (["x"], True),
        ([Decimal("1.50")], "x"),
    ],
)
def test_a_value_that_the_type_cannot_hold_is_an_error(make, source, values, bad):
    make(pl.DataFrame({"id": [1], "p": values}), "p")
    with pytest.raises(DataError) as caught:
        source(partitions={"p": bad}).to_polars(Scan())
    assert caught.value.code == "bad-partition-value"
    assert "'p'" in str(caught.value)


def test_the_24_hours_of_a_local_day_are_found_in_utc(make, source):
    hours = [dt.datetime(2026, 11, 19, 22, tzinfo=UTC) + dt.timedelta(hours=n) for n in range(30)]
    make(pl.DataFrame({"id": range(30), "hour": hours}), "hour")
    keys = [f"2026-11-20T{hour:02}" for hour in range(24)]
    found = ids(source(partitions={"hour": keys}), Scan(run_for(timezone="Europe/Berlin")))
    assert found == list(range(1, 25))  # Berlin's midnight is 23:00 UTC
    assert source().present("hour", "Europe/Berlin")[:2] == ["2026-11-19T23", "2026-11-20T00"]
    assert source().present("hour")[0] == "2026-11-19T22"


def test_both_hours_of_a_clock_set_back_have_a_key(make, source):
    twice = [dt.datetime(2026, 11, 1, 5, tzinfo=UTC), dt.datetime(2026, 11, 1, 6, tzinfo=UTC)]
    make(pl.DataFrame({"id": [1, 2], "hour": twice}), "hour")
    new_york = Scan(run_for(timezone="America/New_York"))
    assert ids(source(partitions={"hour": "2026-11-01T01-04:00"}), new_york) == [1]
    assert ids(source(partitions={"hour": "2026-11-01T01-05:00"}), new_york) == [2]
    assert source().present("hour", "America/New_York") == ["2026-11-01T01-04:00", "2026-11-01T01-05:00"]


def test_present_is_sorted_by_value_without_null(make, source):
    make(pl.DataFrame({"id": [1, 2, 3], "n": [10, 9, None]}), "n")
    assert source().present("n") == ["9", "10"]


def test_latest_is_the_newest_within_the_other_partitions(make, source):
    frame = pl.DataFrame({"id": [1, 2, 3], "dt": ["2026-11-20", "2026-11-21", "2026-11-22"], "r": ["eu", "eu", "us"]})
    make(frame, "dt", "r")
    latest = {"$window": "latest"}
    assert ids(source(partitions={"dt": latest})) == [3]
    assert ids(source(partitions={"dt": latest, "r": "eu"})) == [2]
    assert ids(source(partitions={"dt": latest, "r": "asia"})) == []
    assert ids(source(partitions={"dt": {"$window": "all"}})) == [1, 2, 3]


def test_a_window_that_nobody_resolved_is_an_error(make, source):
    make(pl.DataFrame({"id": [1], "dt": ["x"]}), "dt")
    with pytest.raises(AiflowError) as caught:
        source(partitions={"dt": {"$window": "last", "n": 7}}).to_polars(Scan())
    assert caught.value.code == "unresolved-window"


def test_only_the_files_of_the_partitions_are_opened(make, source):
    folder = make(pl.DataFrame({"id": [1, 2], "dt": ["a", "b"]}), "dt")
    for file in folder.glob("dt=b/*.parquet"):
        file.write_bytes(b"not a Parquet file")
    assert ids(source(partitions={"dt": "a"})) == [1]


def test_columns_predicates_and_limit(make, source):
    make(pl.DataFrame({"id": [1, 2, 3, 4], "v": [1.0, None, 3.0, 4.0], "dt": ["a", "a", "b", None]}), "dt")
    orders = source()
    assert orders.to_polars(Scan(columns=("dt", "id"))).collect_schema().names() == ["dt", "id"]
    assert next(orders.scan(Scan(columns=("dt", "id")))).schema.names == ["dt", "id"]
    assert ids(orders, Scan(predicates=(Predicate("v", ">", 1.0),))) == [3, 4]
    assert ids(orders, Scan(predicates=(Predicate("v", "==", None),))) == [2]
    assert ids(orders, Scan(predicates=(Predicate("v", "!=", None), Predicate("dt", "in", ("a", None))))) == [1, 4]
    assert ids(orders, Scan(predicates=(Predicate("dt", "!=", "a"),))) == [3]
    assert ids(orders, Scan(predicates=(Predicate("id", "in", ()),))) == []
    assert len(ids(orders, Scan(limit=3))) == 3
    assert pa.Table.from_batches(orders.scan(Scan(columns=("dt",)))).num_rows == 4


def test_the_schema_keeps_the_tables_order_and_types(make, source):
    make(pl.DataFrame({"dt": [DATE], "id": [1], "t": [HOUR], "tags": [["a"]], "s": [{"x": 1}]}), "dt")
    schema = source().arrow_schema()
    assert schema.names == ["dt", "id", "t", "tags", "s"]
    assert schema.field("t").type == pa.timestamp("us", "UTC")
    assert source().to_polars(Scan()).collect().row(0) == (DATE, 1, HOUR, ["a"], {"x": 1})


def test_an_empty_table_has_columns(make, source):
    make(pl.DataFrame({"id": [1], "dt": ["a"]}), "dt")
    orders = source(partitions={"dt": "b"})
    assert ids(orders) == []
    assert orders.to_polars(Scan()).collect().schema == {"id": pl.Int64, "dt": pl.String}
    assert orders.measure(run_for()) == (0, 0)


def test_columns_that_older_files_lack_are_null(make, source):
    make(pl.DataFrame({"id": [1]}))
    make(pl.DataFrame({"id": [2], "new": ["x"]}), mode="append", schema_mode="merge")
    assert source().to_polars(Scan()).sort("id").collect().rows() == [(1, None), (2, "x")]
    assert ids(source()) == [1, 2]


def test_an_older_version_can_be_read(make, source):
    make(pl.DataFrame({"id": [1]}))
    make(pl.DataFrame({"id": [2]}), mode="append")
    assert ids(source(version=0)) == [1]
    assert ids(source()) == [1, 2]
    with pytest.raises(DataError) as caught:
        source(version=7).arrow_schema()
    assert caught.value.code == "unknown-version"


def test_what_the_identity_was_taken_of_is_what_is_read(make, source):
    make(pl.DataFrame({"id": [1]}))
    orders = source()
    before = orders.identity(run_for())
    make(pl.DataFrame({"id": [2]}), mode="append")
    assert ids(orders) == [1]
    assert orders.measure(run_for())[0] == 1
    assert orders.identity(run_for()) != before
    assert ids(orders) == [1, 2]


def test_the_identity_is_that_of_the_wanted_partitions(make, source):
    make(pl.DataFrame({"id": [1], "dt": ["a"]}), "dt")
    identity = source(partitions={"dt": "a"}).identity(run_for())
    make(pl.DataFrame({"id": [2], "dt": ["b"]}), "dt", mode="append")
    assert source(partitions={"dt": "a"}).identity(run_for()) == identity
    assert source().identity(run_for()) != identity


def test_an_unknown_table_names_its_neighbours_and_where_it_looked(make, source, environment):
    make(pl.DataFrame({"id": [1]}), name="raw.sales_orders")
    make(pl.DataFrame({"id": [1]}), name="feature.users")
    with pytest.raises(LookupError) as caught:
        source("raw.sales_order").arrow_schema()
    error = caught.value
    assert isinstance(error, AiflowError)
    assert error.code == "unknown-table"
    assert error.hint == "did you mean 'raw.sales_orders'?"
    assert any(environment.lake in note for note in error.notes)
    with pytest.raises(AiflowError, match=r"the lake has: feature\.users, raw\.sales_orders"):
        source("zzz.qqqq").arrow_schema()
    assert not (Path(environment.lake) / "zzz").exists()


def test_an_unknown_partition_column_is_suggested(make, source):
    make(pl.DataFrame({"id": [1], "region": ["eu"]}), "region")
    with pytest.raises(AiflowError) as caught:
        source(partitions={"regoin": "eu"}).to_polars(Scan())
    assert (caught.value.code, caught.value.hint) == ("unknown-column", "did you mean 'region'?")
    with pytest.raises(AiflowError, match=r"no partition column 'id'.*filter by it in the transform"):
        source(partitions={"id": "1"}).to_polars(Scan())
    with pytest.raises(AiflowError) as caught:
        source().present("nothing")
    assert caught.value.code == "unknown-column"


def test_an_unknown_column_is_suggested(make, source):
    make(pl.DataFrame({"id": [1], "amount": [1]}))
    for road in (source().to_polars, lambda scan: list(source().scan(scan))):
        with pytest.raises(AiflowError) as caught:
            road(Scan(columns=("amout",)))
        assert (caught.value.code, caught.value.hint) == ("unknown-column", "did you mean 'amount'?")


def test_polars_reads_without_importing_pyarrow(make, environment):
    make(pl.DataFrame({"id": [1, 2], "dt": [DATE, None]}), "dt")
    program = f"""
import sys
from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSource
from aiflow_sdk.plugins import Scan
options = {{"table": "raw.orders", "partitions": {{"dt": "2026-11-20"}}}}
source = OneLakeSource.load(options, Environment(lake={environment.lake!r}))
assert source.to_polars(Scan()).collect().height == 1
print([name for name in ("pyarrow", "pandas") if name in sys.modules])
"""
    path = [entry for entry in sys.path if entry]
    program = f"import sys; sys.path[:0] = {path!r}\n{program}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
B85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"


def delete_row(folder: Path, row: int) -> None:
    """Delete one row of the table's only file by a deletion vector, as a Spark with those on would."""
    bitmap = struct.pack("<IIHHI H", 12346, 1, 0, 0, 16, row)  # Roaring: one array container with one value
    vector = struct.pack("<IqI", 1681511377, 1, 0) + bitmap
    vector += b"\0" * (-len(vector) % 4)
    text = base64.b85encode(vector).decode().translate(str.maketrans(B85, Z85))
    log = folder / "_delta_log"
    actions = [json.loads(line) for line in (log / f"{0:020}.json").read_text().splitlines()]
    add = next(action["add"] for action in actions if "add" in action)
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    descriptor = {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(vector), "cardinality": 1}
    remove = {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}
    new = [
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}},
        {"remove": remove},
        {"add": {**add, "deletionVector": descriptor}},
    ]
    (log / f"{1:020}.json").write_text("\n".join(map(json.dumps, new)) + "\n")


def test_rows_deleted_by_a_deletion_vector_are_not_read(make, source):
    delete_row(make(pl.DataFrame({"id": [1, 2, 3], "dt": ["a"] * 3}), "dt"), 1)
    assert ids(source()) == [1, 3]
    assert ids(source(partitions={"dt": "a"}), Scan(predicates=(Predicate("id", ">", 1),))) == [3]
    assert ids(source(partitions={"dt": "b"})) == []
    assert source().measure(run_for())[0] is None


def test_a_commit_that_is_a_link_to_nothing_is_said(make, source):
    log = make(pl.DataFrame({"id": [1]})) / "_delta_log"
    (log / f"{1:020}.json").symlink_to(log / "gone.json")
    with pytest.raises(DataError, match="its commit 1 is a link that leads nowhere") as caught:
        ids(source())
    assert caught.value.code == "unreadable-table"


@pytest.mark.parametrize(
    "change",
    [
        {
            "protocol": {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": ["newThing"],
                "writerFeatures": ["newThing"],
            }
        },
        {"mapping": "name"},
    ],
)
def test_a_table_that_needs_more_than_a_reader_of_parquet_is_refused(make, source, change):
    folder = make(pl.DataFrame({"id": [1]}))
    log = folder / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    if "mapping" in change:
        metadata = next(action["metaData"] for action in actions if "metaData" in action)
        metadata["configuration"] = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "1"}
        schema = json.loads(metadata["schemaString"])
        schema["fields"][0]["metadata"] = {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "col-1"}
        metadata["schemaString"] = json.dumps(schema)
        change = {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}
    actions = [change if "protocol" in action else action for action in actions]
    log.write_text("\n".join(map(json.dumps, actions)) + "\n")
    with pytest.raises(DataError) as caught:
        source().to_polars(Scan())
    assert caught.value.code in ("unsupported-table-feature", "unreadable-table")


def test_a_table_of_other_writers_is_read_by_its_log_and_not_by_its_folders(make, source):
    folder = make(pl.DataFrame({"id": [1], "dt": [DATE]}), "dt")
    table = DeltaTable(str(folder))
    # Compaction and Z-order write where they like; the log alone says what a file's partition is.
    (file,) = folder.glob("dt=*/*.parquet")
    (folder / "elsewhere").mkdir()
    file.rename(folder / "elsewhere/x=y.parquet")
    log = folder / "_delta_log" / f"{0:020}.json"
    log.write_text(log.read_text().replace(f"{file.parent.name}/{file.name}", "elsewhere/x=y.parquet"))
    assert table.version() == 0
    assert ids(source(partitions={"dt": "2026-11-20"})) == [1]
