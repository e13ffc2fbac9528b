"""Changes of a table's columns: refused with advice, or made as the sink allows; all versions stay readable."""

import itertools
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from aiflow_sdk.config import Environment
from aiflow_sdk.errors import DataError
from aiflow_sdk.frames.arrow_type import plain_name
from lake_trial import ENGINES, READERS, Trial, open_sessions, run_of

pytestmark = pytest.mark.timeout(600)
_numbers = itertools.count()
DAYS = ("2026-11-20", "2026-11-21", "2026-11-22")

WIDER = (
    (pa.int8(), pa.int16(), 127),
    (pa.int8(), pa.int64(), -128),
    (pa.int16(), pa.int32(), -(2**15)),
    (pa.int32(), pa.int64(), 2**31 - 1),
    (pa.float32(), pa.float64(), 1.401298464324817e-45),
    (pa.int8(), pa.float64(), -128),
    (pa.int32(), pa.float64(), 2**31 - 1),
    (pa.decimal128(5, 2), pa.decimal128(10, 2), Decimal("-999.99")),
    (pa.decimal128(5, 2), pa.decimal128(38, 10), Decimal("999.99")),
    (pa.int32(), pa.decimal128(12, 2), 2**31 - 1),
    (pa.int64(), pa.decimal128(19, 0), -(2**63)),
)
REFUSED = (
    (pa.float32(), pa.float64()),
    (pa.decimal128(5, 2), pa.decimal128(38, 10)),
    (pa.int32(), pa.decimal128(12, 2)),
)
OTHER = (
    (pa.int64(), pa.string()),
    (pa.string(), pa.int64()),
    (pa.int64(), pa.float64()),
    (pa.date32(), pa.timestamp("us")),
    (pa.timestamp("us"), pa.timestamp("us", "UTC")),
    (pa.decimal128(10, 2), pa.float64()),
    (pa.bool_(), pa.int8()),
    (pa.struct([("a", pa.int64())]), pa.struct([("a", pa.int64()), ("b", pa.int64())])),
    (pa.struct([("a", pa.string())]), pa.struct([("a", pa.int64())])),
    (pa.list_(pa.string()), pa.list_(pa.int64())),
    (pa.list_(pa.int64()), pa.int64()),
    (pa.map_(pa.string(), pa.string()), pa.map_(pa.string(), pa.int64())),
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Iterator[Trial]:
    root = tmp_path_factory.mktemp("evolution")
    with open_sessions() as sessions:
        yield Trial(Environment(lake=str(root / "lake"), root=root), sessions)


def write(lake: Trial, engine: str, table: str, day: int, columns: dict[str, pa.Array], evolution: str) -> None:
    frame = pa.table(columns)
    run = run_of(day + 1, DAYS[day])
    options: dict[str, Any] = {"partition_by": ["dt"], "schema_evolution": evolution, "time_column": "dt"}
    lake.write(engine, table, frame, run, **options)


def rows(lake: Trial, reader: str, table: str, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lake.read(reader, table, **options).sort_by("dt").to_pylist()
    return found


@pytest.mark.parametrize(("narrow", "wide", "value"), WIDER, ids=lambda one: str(one).replace(" ", ""))
def test_a_wider_type_is_refused_with_advice_and_made_where_it_is_allowed(lake, narrow, wide, value):
    table = f"raw.w{next(_numbers)}"
    engine, other = ENGINES if next(_numbers) % 2 else ENGINES[::-1]
    write(lake, engine, table, 0, {"value": pa.array([value], narrow)}, "none")
    wider = pa.array([value], wide)
    if (narrow, wide) in REFUSED:  # what is only wide, and whose values fit, is cast
        for evolution in ("none", "add_columns"):
            _check_refused(lake, other, table, {"value": wider}, evolution, narrow, wide, 'schema_evolution="widen"')
    write(lake, other, table, 1, {"value": wider}, "widen")
    as_wide = wider.to_pylist()[0]
    for reader in READERS:
        found = lake.read(reader, table)
        assert plain_name(str(found.schema.field("value").type)) == str(wide), reader
        assert rows(lake, reader, table) == [{"value": as_wide, "dt": day} for day in DAYS[:2]], reader
        before = lake.read(reader, table, version=0)
        assert plain_name(str(before.schema.field("value").type)) == str(narrow), reader
        assert before.to_pylist() == [{"value": value, "dt": DAYS[0]}], reader
    # What is narrower fits a table that is wider.
    write(lake, engine, table, 2, {"value": pa.array([value], narrow)}, "none")
    assert [row["value"] for row in rows(lake, "arrow", table)] == [as_wide] * 3


def _check_refused(
    lake: Trial,
    engine: str,
    table: str,
    columns: dict[str, pa.Array],
    evolution: str,
    old: pa.DataType,
    new: pa.DataType,
    advice: str,
) -> None:
    before = rows(lake, "arrow", table)
    with pytest.raises(DataError) as caught:
        write(lake, engine, table, 1, columns, evolution)
    error = caught.value
    assert error.code == "schema-mismatch"
    assert "'value'" in error.message
    for kind in (old, new):
        assert plain_name(str(kind)) in error.message
    assert advice in error.hint
    assert rows(lake, "arrow", table) == before


@pytest.mark.parametrize(("old", "new"), OTHER, ids=lambda one: str(one).replace(" ", ""))
@pytest.mark.parametrize("engine", ENGINES)
def test_another_kind_of_type_is_refused_whatever_the_sink_allows(lake, engine, old, new):
    table = f"raw.o{next(_numbers)}"
    write(lake, engine, table, 0, {"value": pa.nulls(1, old)}, "none")
    _check_refused(lake, engine, table, {"value": pa.nulls(1, new)}, "widen", old, new, "cast 'value' to")


@pytest.mark.parametrize("evolution", ["add_columns", "widen"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_new_column_is_refused_with_advice_and_added_where_it_is_allowed(lake, engine, evolution):
    table = f"raw.a{next(_numbers)}"
    other = next(one for one in ENGINES if one != engine)
    write(lake, engine, table, 0, {"id": pa.array([1])}, "none")
    struct = pa.struct([("x", pa.list_(pa.decimal128(5, 1)))])
    more = {"id": pa.array([2]), "née": pa.array(["ü"]), "s": pa.array([{"x": [Decimal("1.5"), None]}], struct)}
    with pytest.raises(DataError) as caught:
        write(lake, other, table, 1, more, "none")
    assert "the table has no 'née' (string)" in caught.value.message
    assert 'schema_evolution="add_columns"' in caught.value.hint
    write(lake, other, table, 1, more, evolution)
    old = {"id": 1, "née": None, "s": None, "dt": DAYS[0]}
    new = {"id": 2, "née": "ü", "s": {"x": [Decimal("1.5"), None]}, "dt": DAYS[1]}
    for reader in READERS:
        assert rows(lake, reader, table) == [old, new], reader
        assert rows(lake, reader, table, version=0) == [{"id": 1, "dt": DAYS[0]}], reader
        assert rows(lake, reader, table, partitions={"dt": DAYS[0]}) == [old], reader
    with pytest.raises(DataError, match="the frame lacks 'née'"):
        write(lake, engine, table, 2, {"id": pa.array([3])}, evolution)
