"""One kind of frame becomes another and loses nothing."""

import datetime as dt
from decimal import Decimal

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_sdk.errors import DataError
from aiflow_sdk.frames import FrameKind, arrow_types, convert, kind_of, polars_type, rows_of, to_reader

LOCAL = [kind for kind in FrameKind if kind is not FrameKind.SPARK]
MOMENT = dt.datetime(2026, 11, 20, 5, tzinfo=dt.UTC)
NAIVE = MOMENT.replace(tzinfo=None)

FRAME = pl.DataFrame(
    {
        "whole": [1, None, 3],
        "small": pl.Series([1, None, 3], dtype=pl.Int16),
        "unsigned": pl.Series([2**64 - 1, None, 0], dtype=pl.UInt64),
        "broken": [1.5, None, -0.0],
        "true": [True, None, False],
        "text": ["a", None, "ü 中\0"],
        "day": [dt.date(2026, 11, 20), None, dt.date(1, 1, 1)],
        "naive": pl.Series([NAIVE, None, NAIVE.replace(year=1970)], dtype=pl.Datetime("us")),
        "utc": pl.Series([MOMENT, None, MOMENT]),
        "money": pl.Series([Decimal("1.10"), None, Decimal("-2.00")], dtype=pl.Decimal(20, 2)),
        "bytes": [b"a", None, b"\0"],
        "many": [[1, None], None, []],
        "parts": [{"a": 1, "b": "x"}, {"a": None, "b": None}, {"a": 2, "b": "y"}],
    }
)


@pytest.mark.parametrize("kind", LOCAL)
@pytest.mark.parametrize("back", LOCAL)
def test_every_kind_becomes_every_other_and_keeps_rows_and_types(kind, back):
    other = convert(convert(FRAME, kind), back)
    assert kind_of(other) is back
    found = convert(other, FrameKind.POLARS)
    assert found.schema == FRAME.schema
    assert found.equals(FRAME)


@pytest.mark.parametrize("kind", LOCAL)
def test_every_kind_gives_batches_and_tells_the_same_columns(kind):
    frame = convert(FRAME, kind)
    assert to_reader(frame).read_all().num_rows == 3
    assert arrow_types(frame) == arrow_types(FRAME)
    assert rows_of(frame) in ((3,) if kind not in (FrameKind.POLARS_LAZY, FrameKind.DUCKDB) else (None,))


@pytest.mark.parametrize("kind", [FrameKind.POLARS, FrameKind.POLARS_LAZY, FrameKind.ARROW, FrameKind.PANDAS])
def test_time_zones_are_kept(kind):
    frame = FRAME.select(pl.col("utc").dt.convert_time_zone("Europe/Berlin"))
    assert convert(convert(frame, kind), FrameKind.POLARS).equals(frame)


def test_duckdb_gives_moments_in_utc_wherever_the_machine_stands(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    frame = FRAME.select(pl.col("utc").dt.convert_time_zone("Europe/Berlin"))
    found = convert(convert(frame, FrameKind.DUCKDB), FrameKind.POLARS)
    assert found.schema["utc"] == pl.Datetime("us", "UTC")
    assert found["utc"][0] == MOMENT


@pytest.mark.parametrize("kind", LOCAL)
def test_a_frame_without_rows_keeps_its_columns(kind):
    assert convert(convert(FRAME.head(0), kind), FrameKind.POLARS).schema == FRAME.schema


def test_a_frame_of_the_kind_comes_back_as_it_is():
    assert convert(FRAME, FrameKind.POLARS) is FRAME


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=5))
def test_whole_numbers_survive_pandas_with_nulls_or_without(values):
    frame = pl.DataFrame({"a": pl.Series(values, dtype=pl.Int64)})
    assert convert(convert(frame, FrameKind.PANDAS), FrameKind.POLARS).equals(frame)


def test_a_named_index_of_pandas_becomes_columns():
    grouped = pd.DataFrame({"a": ["x", "x", "y"], "b": [1, 1, 2], "n": [1, 2, 3]}).groupby(["a", "b"]).sum()
    assert convert(grouped, FrameKind.POLARS).to_dicts() == [{"a": "x", "b": 1, "n": 3}, {"a": "y", "b": 2, "n": 3}]


def test_an_unnamed_index_of_pandas_is_left_out():
    frame = pd.DataFrame({"n": [1, 2, 3]})
    assert convert(frame[frame["n"] > 1], FrameKind.POLARS).to_dicts() == [{"n": 2}, {"n": 3}]
    assert convert(frame.set_axis(["x", "y", "z"]), FrameKind.POLARS).columns == ["n"]


def test_numbers_as_column_names_of_pandas_become_text():
    assert convert(pd.DataFrame([[1, 2]]), FrameKind.POLARS).columns == ["0", "1"]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame({"a": [1]}, index=pd.Index([7], name="a")),
        pd.DataFrame([[1, 2]], columns=["1", 1]),
        pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
        pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]),
    ],
)
def test_column_names_that_a_table_cannot_have_are_refused(frame):
    with pytest.raises(DataError) as caught:
        convert(frame, FrameKind.POLARS)
    assert caught.value.code == "bad-column-names"


def test_a_pandas_column_of_many_types_is_named():
    with pytest.raises(DataError, match="mixed") as caught:
        convert(pd.DataFrame({"mixed": [1, "a", object()]}), FrameKind.ARROW)
    assert caught.value.code == "unsupported-type"


def test_an_interval_of_duckdb_is_refused():
    with pytest.raises(DataError) as caught, duckdb.connect() as connection:
        convert(connection.sql("select interval 1 day as step"), FrameKind.POLARS)
    assert caught.value.code == "unsupported-type"


def test_a_lazy_frame_is_read_in_batches():
    computed = []

    def seen(part):
        computed.append(part.height)
        return part

    frame = pl.LazyFrame({"a": range(300_000)}).map_batches(seen, streamable=True)
    reader = to_reader(frame)
    assert reader.read_next_batch().num_rows <= 100_000
    assert sum(batch.num_rows for batch in reader) <= 300_000


def test_type_names_are_read_back():
    for dtype in FRAME.schema.values():
        (name,) = [name for _, name in arrow_types(pl.DataFrame(schema={"a": dtype})) or ()]
        assert polars_type(name) == dtype


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("timestamp[us, UTC]", pl.Datetime("us", "UTC")),
        ("timestamp[ns, tz=Europe/Berlin]", pl.Datetime("ns", "Europe/Berlin")),
        ("large_string", pl.String()),
        ("utf8", pl.String()),
        ("large_list<element: large_string not null>", pl.List(pl.String())),
        (
            "struct<a: int64 not null, b: struct<c: list<item: decimal128(10, 2)>>>",
            pl.Struct({"a": pl.Int64, "b": pl.Struct({"c": pl.List(pl.Decimal(10, 2))})}),
        ),
        ("map<string, int64>", pl.Map(pl.String(), pl.Int64())),
        ("month_day_nano_interval", None),
        ("", None),
        ("list<", None),
    ],
)
def test_other_spellings_of_types_are_read(name, dtype):
    assert polars_type(name) == dtype
