"""The engine ``python``: files, partitions and types of what it writes."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_sdk.engines.python import PythonEngine
from aiflow_sdk.engines.python.writing import folder_name, value_text
from aiflow_sdk.errors import DataError, UserCodeError
from aiflow_sdk.plugins import NULL_FOLDER, Destination, FrameWrite, Write
from aiflow_sdk.testing.conformance.engine import RUN
from aiflow_sdk.testing.conformance.probe import Batches, Folder


class Stage(Folder, kind="stage"):
    """A sink that keeps frames exactly."""

    def destination(self, request: Write) -> Destination:
        return Destination(self.folder, exact=True)


@pytest.fixture
def session() -> Iterator:
    with PythonEngine().open(None, RUN) as session:  # type: ignore[arg-type]  # it asks nothing of its task
        yield session


@pytest.fixture
def write(session, tmp_path):
    def write(frame, sink=Folder, fill=None, **options):
        sink = sink(folder=str(tmp_path / "table"), **options)
        session.write([FrameWrite(frame, sink, Write("sink", RUN, fill=fill or {}))])
        return sink

    return write


def types_of(sink):
    return {field.name: str(field.type) for field in sink.committed_schema}


MOMENT = dt.datetime(2026, 11, 20, 5, 30, tzinfo=dt.UTC)
NAIVE = MOMENT.replace(tzinfo=None)
NARROWED = {
    "category": (pl.Series(["a", None], dtype=pl.Categorical), "large_string"),
    "enum": (pl.Series(["a", None], dtype=pl.Enum(["a"])), "large_string"),
    "u8": (pl.Series([255, None], dtype=pl.UInt8), "int16"),
    "u16": (pl.Series([65535, None], dtype=pl.UInt16), "int32"),
    "u32": (pl.Series([2**32 - 1, None], dtype=pl.UInt32), "int64"),
    "u64": (pl.Series([2**63 - 1, None], dtype=pl.UInt64), "int64"),
    "ns": (pl.Series([NAIVE, None], dtype=pl.Datetime("ns")), "timestamp[us]"),
    "ms": (pl.Series([NAIVE, None], dtype=pl.Datetime("ms")), "timestamp[us]"),
    "berlin": (pl.Series([MOMENT, None]).dt.convert_time_zone("Europe/Berlin"), "timestamp[us, tz=UTC]"),
    "etc": (pl.Series([MOMENT, None]).dt.convert_time_zone("Etc/UTC"), "timestamp[us, tz=UTC]"),
    "array": (pl.Series([[1, 2], None], dtype=pl.Array(pl.UInt8, 2)), "large_list<item: int16>"),
    "parts": (pl.Series([{"a": 1}, None], dtype=pl.Struct({"a": pl.UInt32})), "struct<a: int64>"),
}


@pytest.mark.parametrize("name", NARROWED)
def test_what_a_lake_lacks_becomes_what_it_has(write, name):
    values, expected = NARROWED[name]
    sink = write(pl.DataFrame({"value": values}))
    assert types_of(sink)["value"].replace("string_view", "large_string") == expected
    first = sink.rows[0]["value"]
    assert first == (values[0].to_list() if isinstance(values[0], pl.Series) else values[0])


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([dt.time(1)]),
        pl.Series([dt.timedelta(1)]),
        pl.Series([None]),
        pl.Series([object()], dtype=pl.Object),
        pl.Series([1], dtype=pl.Int128),
        pl.Series([[dt.time(1)]]),
        pl.Series([{"a": None}]),
    ],
)
def test_what_a_lake_cannot_hold_is_named(write, values):
    with pytest.raises(DataError, match="column 'odd one'") as caught:
        write(pl.DataFrame({"fine": [1], "odd one": values}))
    assert caught.value.code == "unsupported-type"
    assert caught.value.hint


def test_a_number_that_does_not_fit_is_an_error_and_not_another_number(write):
    with pytest.raises(UserCodeError, match="value"):
        write(pl.DataFrame({"value": pl.Series([2**64 - 1], dtype=pl.UInt64)}))
    with pytest.raises(UserCodeError, match="value"):
        write(pl.DataFrame({"value": [2**40]}), types={"value": "int32"})


@pytest.mark.parametrize(
    ("values", "wanted", "found"),
    [
        (pl.Series([1]), "int32", "int32"),
        (pl.Series([1], dtype=pl.Int8), "int64", "int64"),
        (pl.Series([1], dtype=pl.Int32), "double", "double"),
        (pl.Series([1.5], dtype=pl.Float32), "double", "double"),
        (pl.Series([None]), "date32[day]", "date32[day]"),
        (pl.Series([Decimal(7)], dtype=pl.Decimal(38, 0)), "int64", "int64"),
        (pl.Series([Decimal("7.5")], dtype=pl.Decimal(38, 1)), "decimal128(10, 2)", "decimal128(10, 2)"),
        (pl.Series([MOMENT]), "timestamp[us, UTC]", "timestamp[us, tz=UTC]"),
        (pl.Series([[1]]), "list<element: int32>", "large_list<item: int32>"),
        (pl.Series([{"a": 1}]), "struct<a: int32 not null>", "struct<a: int32>"),
        # What loses or means something stays as it is; the commit says so.
        (pl.Series([1.5]), "int64", "double"),
        (pl.Series([2**60 + 1]), "double", "int64"),
        (pl.Series([Decimal("7.5")], dtype=pl.Decimal(38, 1)), "int64", "decimal128(38, 1)"),
        (pl.Series([NAIVE]), "timestamp[us, UTC]", "timestamp[us]"),
        (pl.Series([1]), "string", "int64"),
        (pl.Series([1]), "map<string, int64>", "int64"),
    ],
)
def test_columns_follow_the_table_where_nothing_is_lost(write, values, wanted, found):
    assert types_of(write(pl.DataFrame({"value": values}), types={"value": wanted})) == {"value": found}


def test_a_staged_frame_keeps_its_types_and_its_emptiness(write):
    frame = pl.DataFrame(
        {
            "time": [dt.time(1)],
            "step": [dt.timedelta(1)],
            "u64": pl.Series([2**64 - 1], dtype=pl.UInt64),
            "category": pl.Series(["a"], dtype=pl.Categorical),
            "null": [None],
            "berlin": pl.Series([MOMENT]).dt.convert_time_zone("Europe/Berlin"),
        }
    )
    sink = write(frame.head(0), Stage)
    (file,) = sink.files
    assert file.rows == 0
    assert pl.read_parquet(Path(sink.folder) / file.path).equals(frame.head(0))
    sink = write(frame, Stage)
    assert pl.read_parquet(Path(sink.folder) / sink.files[0].path).equals(frame)


def test_an_empty_frame_leaves_no_file(write):
    sink = write(pl.LazyFrame(schema={"a": pl.Int64}))
    assert sink.files == ()
    assert [path for path in Path(sink.folder).rglob("*") if path.is_file()] == []


def test_rows_and_bytes_of_each_file_are_told(write):
    sink = write(pl.DataFrame({"n": range(10), "key": ["a", "b"] * 5}), columns=("key",))
    assert sorted((file.path, file.rows, file.partition["key"]) for file in sink.files) == [
        (f"key=a/{Path(sink.files[0].path).name}", 5, "a"),
        (f"key=b/{Path(sink.files[1].path).name}", 5, "b"),
    ]
    for file in sink.files:
        assert (Path(sink.folder) / file.path).stat().st_size == file.bytes


def test_two_partition_columns_of_all_types(write):
    frame = pl.DataFrame(
        {
            "n": [1],
            "text": [""],
            "day": [dt.date(2026, 11, 20)],
            "at": [MOMENT.astimezone(dt.timezone(dt.timedelta(hours=8)))],
            "naive": [NAIVE.replace(microsecond=7)],
            "true": [True],
            "whole": [-1],
            "money": [Decimal("1.10")],
            "none": pl.Series([None], dtype=pl.Int64),
        }
    )
    keys = tuple(frame.columns[1:])
    (file,) = write(frame, columns=keys).files
    assert file.partition == {
        "text": "",
        "day": "2026-11-20",
        "at": "2026-11-20 05:30:00",
        "naive": "2026-11-20 05:30:00.000007",
        "true": "true",
        "whole": "-1",
        "money": "1.10",
        "none": None,
    }
    assert file.path.startswith("text=/day=2026-11-20/at=2026-11-20%2005%3A30%3A00/")
    assert "/none=__HIVE_DEFAULT_PARTITION__/" in file.path


def test_the_name_of_nulls_folder_is_no_value(write):
    with pytest.raises(DataError, match="'key'") as caught:
        write(pl.DataFrame({"n": [1, 2], "key": [None, NULL_FOLDER]}), columns=("key",))
    assert caught.value.code == "bad-partition-value"


@given(st.text())
def test_a_folder_name_is_one_plain_name(value):
    name = folder_name(value)
    assert name.isascii()
    assert not set(name) & set('/\\ "*:<>?|#\n\0')


@given(st.one_of(st.dates(), st.datetimes(timezones=st.just(dt.UTC)), st.integers(), st.booleans()))
def test_partition_text_tells_values_apart(value):
    text = value_text(value)
    assert text is not None
    match value:
        case dt.datetime():
            assert dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC) == value
        case dt.date():
            assert dt.date.fromisoformat(text) == value
        case bool():
            assert text == str(value).lower()
        case int():
            assert int(text) == value


@pytest.mark.parametrize(
    ("wanted", "text", "value"),
    [
        ("string", "2026-11-20", "2026-11-20"),
        ("date32[day]", "2026-11-20", dt.date(2026, 11, 20)),
        ("timestamp[us]", "2026-11-20T05:30", NAIVE),
        ("timestamp[us, tz=UTC]", "2026-11-20T05", dt.datetime(2026, 11, 20, 5, tzinfo=dt.UTC)),
        ("timestamp[us, tz=UTC]", "2026-11-20T05-04:00", dt.datetime(2026, 11, 20, 9, tzinfo=dt.UTC)),
        ("int32", "7", 7),
        ("bool", "true", True),
        ("decimal128(10, 2)", "1.5", Decimal("1.50")),
        ("double", "1.5", 1.5),
    ],
)
def test_a_partition_column_is_filled_in_the_tables_type(session, tmp_path, wanted, text, value):
    from aiflow_sdk.engines.python.lake_type import typed_value
    from aiflow_sdk.frames import polars_type

    dtype = polars_type(wanted)
    assert dtype is not None
    assert pl.select(pl.lit(typed_value(text, dtype, "c", "UTC"), dtype=dtype)).item() == value


@pytest.mark.parametrize(
    ("wanted", "text"), [("date32[day]", "2026-11"), ("int64", "x"), ("bool", "1"), ("double", "")]
)
def test_a_value_that_is_not_of_the_tables_type_is_told(write, wanted, text):
    with pytest.raises(DataError, match="'key'") as caught:
        write(pl.DataFrame({"n": [1]}), columns=("key",), types={"key": wanted}, fill={"key": text})
    assert caught.value.code == "bad-partition-value"


def test_a_column_of_the_frame_is_not_filled_over(write):
    sink = write(pl.DataFrame({"n": [1], "dt": ["mine"]}), columns=("dt",), fill={"dt": "2026-11-20"})
    assert sink.files[0].partition == {"dt": "mine"}


def test_a_missing_partition_column_is_told_with_the_columns_there_are(write):
    with pytest.raises(DataError) as caught:
        write(pl.DataFrame({"n": [1], "date": ["x"]}), columns=("dt",))
    assert caught.value.code == "missing-partition-column"
    assert caught.value.notes == ("the frame has: n, date",)
    assert caught.value.where is not None
    assert caught.value.where.about == "sink 'sink'"


@pytest.mark.parametrize("frame", [pl.DataFrame(), pl.DataFrame({"key": ["a"]})])
def test_a_table_needs_a_column(write, frame):
    with pytest.raises(DataError) as caught:
        write(frame, columns=("key",), fill={"key": "x"})
    assert caught.value.code == "no-columns"


def test_a_sink_of_batches_gets_filled_columns_and_is_counted(session):
    sink = Batches(columns=("dt",))
    frame = pl.LazyFrame({"n": [1, 2]})
    (written,) = session.write([FrameWrite(frame, sink, Write("sink", RUN, fill={"dt": "2026-11-20"}))])
    assert sink.rows == [{"n": 1, "dt": "2026-11-20"}, {"n": 2, "dt": "2026-11-20"}]
    assert written.rows == 2
    assert written.columns == (("n", "int64"), ("dt", "string"))


def test_nothing_is_committed_when_one_of_the_frames_fails(session, tmp_path):
    good, bad = Folder(folder=str(tmp_path / "good")), Batches()
    broken = pl.LazyFrame({"a": ["x"]}).select(pl.col("a").cast(pl.Int64))
    with pytest.raises(UserCodeError, match="'good' and 'bad'"):
        session.write(
            [
                FrameWrite(pl.DataFrame({"a": [1]}), good, Write("good", RUN)),
                FrameWrite(broken, bad, Write("bad", RUN)),
            ]
        )
    assert good._committed == []
    assert not (tmp_path / "good").exists()
    assert bad._table is None


def test_the_order_of_rows_is_kept(write):
    frame = pl.select(n=pl.int_range(300_000)).lazy().with_columns(k=pl.col("n") * 7 % 1000).sort("k", "n")
    sink = write(frame)
    assert pl.concat([pl.read_parquet(Path(sink.folder) / file.path) for file in sink.files]).equals(frame.collect())
