"""Every type of a table, written by one engine and read by all: values, types, nulls and names stay what they were."""

import datetime as dt
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

import deltalake
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake.schema import column_types
from aiflow_sdk.errors import AiflowError, DataError
from aiflow_sdk.frames.arrow_type import plain_name
from aiflow_sdk.plugins import Predicate, Scan
from lake_trial import ENGINES, READERS, Trial, open_sessions, run_of
from lake_types import CONVERTED, KINDS, UNSUPPORTED, Converted, Kind, Unsupported

pytestmark = pytest.mark.timeout(600)
_numbers = itertools.count()
_by_writer = pytest.mark.parametrize("writer", ENGINES)


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Iterator[Trial]:
    root = tmp_path_factory.mktemp("types")
    with open_sessions() as sessions:
        yield Trial(Environment(lake=str(root / "lake"), root=root), sessions)


def new_table() -> str:
    return f"raw.t{next(_numbers)}"


def plain(value: Any) -> Any:
    """Return a value so that what is equal is the same: NaN equals itself, and -0.0 differs from 0.0."""
    match value:
        case float():
            return f"float {value!r}"
        case dt.datetime():
            moment = value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value
            return ("moment" if value.tzinfo else "local", moment)
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    return [plain(row) for row in table.sort_by("n").to_pylist()]


def plain_types(schema: pa.Schema) -> dict[str, str]:
    return {one.name: plain_name(str(one.type)).replace(" not null", "") for one in schema}


def in_partition(value: Any) -> Any:
    """Return what a value is as that of a partition: empty text is null, and -0.0 is 0.0."""
    if value == "":
        return None
    return value + 0.0 if isinstance(value, float) else value


def check(lake: Trial, writer: str, frame: pa.Table, wanted: pa.Table | None = None, **options: Any) -> str:
    """Write a frame and read it by all; return the table's name."""
    table, wanted = new_table(), frame if wanted is None else wanted
    lake.write(writer, table, frame, **options)
    for reader in READERS:
        found = lake.read(reader, table)
        assert plain_types(found.schema) == plain_types(wanted.schema), reader
        assert plain_rows(found.select(wanted.column_names)) == plain_rows(wanted), reader
    return table


def numbered(arrow: pa.DataType, values: Any) -> pa.Table:
    values = pa.array(list(values), arrow)
    return pa.table({"n": pa.array(range(len(values)), pa.int64()), "value": values})


def side_by_side(columns: dict[str, pa.Array]) -> pa.Table:
    """Return a frame of columns of any lengths, filled up with nulls."""
    most = max(map(len, columns.values())) + 1
    filled = {
        name: pa.concat_arrays([column, pa.nulls(most - len(column), column.type)]) for name, column in columns.items()
    }
    return pa.table({"n": pa.array(range(most), pa.int64()), **filled})


EVERY_KIND = side_by_side({kind.delta: pa.array(list(kind.values), kind.arrow) for kind in KINDS})


@_by_writer
def test_each_value_comes_back_from_every_engine(lake, writer):
    check(lake, writer, EVERY_KIND)


@_by_writer
def test_nothing_but_nulls_and_no_rows_keep_their_type(lake, writer):
    check(lake, writer, side_by_side({kind.delta: pa.nulls(2, kind.arrow) for kind in KINDS}))
    check(lake, writer, EVERY_KIND.slice(0, 0))


def test_the_docs_tell_the_types_of_table_and_frames(lake):
    table = new_table()
    lake.write("python", table, EVERY_KIND)
    place = f"{lake.environment.lake_address}/{table.replace('.', '/')}"
    schema = pl.Schema(deltalake.DeltaTable(place).schema())
    of_delta = column_types(deltalake.DeltaTable(place).schema())
    of_spark = lake.sessions["spark"].read(lake.source(table), Scan()).schema
    read = lake.source(table).to_polars(Scan()).collect_schema()
    for kind in KINDS:
        name = kind.delta
        assert read[name] == schema[name]
        if name == "struct":
            assert json.loads(of_delta[name])["type"] == "struct"
            assert isinstance(read[name], pl.Struct)
            assert of_spark[name].dataType.typeName() == "struct"
            continue
        assert shown_type(of_delta[name]) == kind.delta
        assert read[name] == eval(kind.polars, vars(pl))
        assert of_spark[name].dataType.simpleString() == kind.spark


def shown_type(told: str) -> str:
    if not told.startswith("{"):
        return told
    inner = json.loads(told)
    return (
        f"array<{inner['elementType']}>"
        if inner["type"] == "array"
        else f"map<{inner['keyType']}, {inner['valueType']}>"
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.can_partition], ids=lambda kind: kind.delta)
@_by_writer
def test_each_value_names_a_partition_and_is_replaced_by_it(lake, writer, kind: Kind):
    values = [*kind.values, None]
    frame = numbered(kind.arrow, values)
    wanted = numbered(kind.arrow, map(in_partition, values))
    options: dict[str, Any] = {"partition_by": ["value"], "mode": "overwrite_partitions"}
    table = new_table()
    other = next(engine for engine in ENGINES if engine != writer)
    lake.write(other, table, frame, **options)
    lake.write(writer, table, frame, run_of(2), **options)
    for reader in READERS:
        assert plain_rows(lake.read(reader, table)) == plain_rows(wanted), reader
    for row in wanted.to_pylist():
        same = [one for one in wanted.to_pylist() if plain(one["value"]) == plain(row["value"])]
        value = str(row["value"]) if isinstance(row["value"], float | Decimal) else row["value"]
        found = lake.read("arrow", table, partitions={"value": value})
        assert plain_rows(found) == [plain(one) for one in same]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.can_partition], ids=lambda kind: kind.delta)
@_by_writer
def test_what_names_no_partition_is_refused(lake, writer, kind: Kind):
    with pytest.raises(DataError, match="cannot be partitioned by") as caught:
        lake.write(writer, new_table(), numbered(kind.arrow, kind.values), partition_by=["value"])
    assert caught.value.code == "unsupported-type"
    assert "'value'" in caught.value.message
    assert caught.value.hint


def converted(one: Converted) -> pa.Array:
    return pa.array(list(one.values), one.arrow).cast(one.as_) if not pa.types.is_nested(one.as_) else as_given(one)


def as_given(one: Converted) -> pa.Array:
    return pa.array(list(one.values), one.as_)


@_by_writer
def test_a_type_that_no_table_has_becomes_its_nearest_like(lake, writer):
    # polars panics on a piece of an array of fixed lists that has nulls.
    fixed = [one for one in CONVERTED if pa.types.is_fixed_size_list(one.arrow)]
    plain_ones = [one for one in CONVERTED if one not in fixed]
    frame = side_by_side({str(one.arrow): pa.array(list(one.values), one.arrow) for one in plain_ones})
    check(lake, writer, frame, side_by_side({str(one.arrow): converted(one) for one in plain_ones}))
    for one in fixed:
        check(lake, writer, numbered(one.arrow, one.values), numbered(one.as_, one.values))


@pytest.mark.parametrize("one", UNSUPPORTED, ids=lambda one: str(one.arrow))
@_by_writer
def test_a_type_without_a_like_is_refused_with_advice(lake, writer, one: Unsupported):
    table = new_table()
    with pytest.raises(DataError) as caught:
        lake.write(writer, table, numbered(one.arrow, one.values))
    assert caught.value.code == "unsupported-type"
    assert "value" in caught.value.message
    assert caught.value.hint
    with pytest.raises(AiflowError) as absent:
        lake.read("arrow", table)
    assert absent.value.code == "unknown-table"


@_by_writer
def test_a_number_that_no_table_holds_is_an_error(lake, writer):
    with pytest.raises(AiflowError, match="18446744073709551615"):
        lake.write(writer, new_table(), numbered(pa.uint64(), [2**64 - 1]))


ODD_NAMES = (
    *("a b", " ", "a.b", "a`b", "`", "a'b", 'a"b', "a,b", "a;b", "a{b}", "{0}", "a(b)", "a=b", "=", "a\tb", "a\nb"),
    *("a/b", "..", "a%2Fb", "%", "a\\b", "a:b", "$x", "select", "_x", "1", "A", "ü", "日本", "\U0001f600", "İ"),
)


@pytest.mark.parametrize("partitioned", [False, True])
@_by_writer
def test_any_name_of_a_column_is_kept(lake, writer, partitioned):
    if not partitioned:
        columns = {name: pa.array([name, None]) for name in ODD_NAMES}
        struct = pa.array([dict.fromkeys(ODD_NAMES, 1), None], pa.struct([(name, pa.int64()) for name in ODD_NAMES]))
        check(lake, writer, pa.table({"n": pa.array([1, 2]), **columns, "struct": struct}))
        return
    for names in (ODD_NAMES[first : first + 8] for first in range(0, len(ODD_NAMES), 8)):
        columns = {name: pa.array([name, None]) for name in names}
        frame = pa.table({"n": pa.array([1, 2]), **columns})
        check(lake, writer, frame, partition_by=list(names), mode="overwrite_partitions")


def test_two_names_of_which_one_is_the_beginning_of_the_other(lake):
    frame = pa.table({"n": [1], "a": ["x"], "a=b": ["y"]})
    for writer, names in itertools.product(ENGINES, (["a", "a=b"], ["a=b", "a"])):
        check(lake, writer, frame, partition_by=names, mode="overwrite_partitions")


@pytest.mark.parametrize("names", [("Id", "id"), ("é", "É"), ("*",), ("^n.*$",), ("",)])
@_by_writer
def test_a_name_that_an_engine_would_mistake_is_refused(lake, writer, names):
    inner = pa.struct([(name, pa.int64()) for name in names])
    frames = [
        pa.table({"n": pa.array([1]), **{name: pa.array([1]) for name in names}}),
        pa.table({"n": pa.array([1]), "struct": pa.array([dict.fromkeys(names, 1)], inner)}),
    ]
    for frame in frames:
        with pytest.raises(AiflowError) as caught:
            lake.write(writer, new_table(), frame)
        assert caught.value.code == "bad-column-names"
        assert repr(names[0]).strip("'") in caught.value.message


@_by_writer
def test_empty_text_is_not_null_but_as_a_partition(lake, writer):
    frame = pa.table({"n": [1, 2], "text": ["", None], "key": ["", None]})
    table = check(lake, writer, frame, frame.set_column(2, "key", pa.nulls(2, pa.string())), partition_by=["key"])
    for reader in READERS:
        found = lake.read(reader, table, Scan(columns=("n",), predicates=(Predicate("text", "==", ""),)))
        assert found.to_pylist() == [{"n": 1}], reader


# Of any types


_EXACT = Context(prec=76)
SCALARS: dict[pa.DataType, st.SearchStrategy] = {
    pa.bool_(): st.booleans(),
    **{kind: st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for kind, bits in (
        (pa.int8(), 8), (pa.int16(), 16), (pa.int32(), 32), (pa.int64(), 64)
    )},
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
    pa.binary(): st.binary(max_size=4),
    pa.date32(): st.dates(),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("us", "UTC"): st.datetimes(timezones=st.just(dt.UTC)),
}  # fmt: skip


@st.composite
def decimals(draw) -> tuple[pa.DataType, st.SearchStrategy]:
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    whole = st.integers(-(10**precision) + 1, 10**precision - 1)
    return pa.decimal128(precision, scale), whole.map(lambda number: Decimal(number).scaleb(-scale, _EXACT))


NAMES = st.text(st.sampled_from("aAb .`'\"ü日=/%1"), min_size=1, max_size=4)


def with_null(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | values


scalar_types = st.sampled_from(list(SCALARS)).map(lambda kind: (kind, SCALARS[kind])) | decimals()


def nested(inner: st.SearchStrategy) -> st.SearchStrategy:
    lists = inner.map(lambda one: (pa.list_(one[0]), st.lists(with_null(one[1]), max_size=3)))
    names = st.lists(NAMES, min_size=1, max_size=3, unique_by=str.casefold)
    structs = names.flatmap(
        lambda names: st.tuples(*(inner for _ in names)).map(
            lambda kinds: (
                pa.struct([(name, kind) for name, (kind, _) in zip(names, kinds, strict=True)]),
                st.fixed_dictionaries(
                    {name: with_null(values) for name, (_, values) in zip(names, kinds, strict=True)}
                ),
            )
        )
    )
    maps = st.tuples(st.sampled_from([pa.string(), pa.int64(), pa.date32()]), inner).map(
        lambda two: (
            pa.map_(two[0], two[1][0]),
            st.dictionaries(SCALARS[two[0]], with_null(two[1][1]), max_size=3).map(lambda found: list(found.items())),
        )
    )
    return lists | structs | maps


any_types = st.recursive(scalar_types, nested, max_leaves=5)


@dataclass(frozen=True)
class Frame:
    """A frame and the column that it is partitioned by."""

    table: pa.Table
    partition_by: tuple[str, ...] = ()

    def wanted(self) -> pa.Table:
        table = self.table
        for name in self.partition_by:
            values = [in_partition(value) for value in table.column(name).to_pylist()]
            table = table.set_column(
                table.column_names.index(name), name, pa.array(values, table.schema.field(name).type)
            )
        return table


@st.composite
def frames(draw) -> Frame:
    rows = draw(st.integers(0, 5))
    names = draw(st.lists(NAMES.filter(lambda name: name.casefold() != "n"), max_size=6, unique_by=str.casefold))
    columns = {"n": pa.array(range(rows), pa.int64())}
    partition_by = names[:1] if draw(st.booleans()) else []
    for name in names:
        kind, values = draw(scalar_types if name in partition_by else any_types)
        if name in partition_by and kind == pa.binary():
            kind, values = pa.date32(), SCALARS[pa.date32()]
        columns[name] = pa.array(draw(st.lists(with_null(values), min_size=rows, max_size=rows)), kind)
    return Frame(pa.table(columns), tuple(partition_by))


@settings(max_examples=25)
@given(frame=frames(), writer=st.sampled_from(ENGINES))
@example(Frame(pa.table({"n": pa.array([0]), "a=": pa.array(["="]), "a": pa.array([b"="])}), ("a=",)), "spark")
def test_a_frame_of_any_types_is_the_same_for_all(lake, frame, writer):
    mode = "overwrite_partitions" if frame.partition_by else "overwrite"
    check(lake, writer, frame.table, frame.wanted(), partition_by=list(frame.partition_by), mode=mode)
