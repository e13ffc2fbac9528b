"""The functions that ejected files share: dates and keys as aiflow's own, values in the types that a table has."""

import ast
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import ModuleType
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from aiflow_sdk.connectors.onelake.values import typed_value
from aiflow_sdk.eject.layout import Group, call, comment, in_docstring, keyword, lines, literal, quoted
from aiflow_sdk.eject.parts import MADE, known_parts, part, parts_for
from aiflow_sdk.errors import DataError
from aiflow_sdk.partitions import Partition, Window, partitions_between

ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "America/Sao_Paulo", "Australia/Sydney")
DAYS = ("2018-11-04", "2026-03-08", "2026-03-29", "2026-11-01", "2026-10-25", "2026-06-30", "2024-02-29", "2026-04-05")


def taken(*names, zone="UTC", **constants):
    """Return the parts of these names, and what they need, as a file has them."""
    space = {"ZONE": ZoneInfo(zone), "STORAGE": None, **constants}
    for one in parts_for(names, {}):
        for text in (*one.imports, one.text):
            exec(text, space)
    return space


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("day", DAYS)
def test_the_hours_of_a_day_are_aiflows(zone, day):
    space = taken("hours", "start_of", zone=zone)
    first = date.fromisoformat(day)
    run = Partition.parse(day, "day", zone)
    expected = [one.key for one in Window("covering").partitions(run, "hour")]
    assert space["hours"](space["start_of"](first), space["start_of"](first + timedelta(days=1))) == expected
    assert space["start_of"](first) == run.start
    assert space["start_of"](first).isoformat() == run.start.isoformat()


@pytest.mark.parametrize("zone", ZONES)
def test_an_hour_so_many_later_is_aiflows(zone):
    space = taken("hours_later", "hour_key", zone=zone)
    for day in DAYS:
        hour = Partition.containing(datetime.fromisoformat(f"{day}T04:00Z"), "hour", zone)
        for periods in (-25, -3, -1, 0, 1, 2, 24):
            assert space["hour_key"](space["hours_later"](hour.start, periods)) == hour.offset(periods).key


@pytest.mark.parametrize("grain", ["day", "week", "month"])
@pytest.mark.parametrize("day", DAYS)
def test_days_weeks_and_months_are_aiflows(grain, day):
    space = taken("days", "weeks", "months")
    first, last = date.fromisoformat(day), date.fromisoformat(day) + timedelta(days=40)
    ends = [Partition.parse(one, grain) for one in (first, last)]
    assert space[f"{grain}s"](first, last) == [one.key for one in partitions_between(*ends)]


def test_a_key_becomes_what_the_column_holds():
    typed = taken("typed", zone="America/New_York")["typed"]
    assert typed("2026-11-20", pl.String()) == "2026-11-20"
    assert typed("2026-11-20", pl.Date()) == date(2026, 11, 20)
    assert typed("2026-11-20T05", pl.Datetime("us", "UTC")) == datetime(2026, 11, 20, 10, tzinfo=UTC)
    assert typed("2026-11-01T01-05:00", pl.Datetime("us", "UTC")) == datetime(2026, 11, 1, 6, tzinfo=UTC)
    assert typed("7", pl.Int32()) == 7
    assert typed(7, pl.String()) == "7"
    assert typed(True, pl.Boolean()) is True
    assert typed(1.5, pl.Float64()) == 1.5
    with pytest.raises(TypeError):
        typed("1.5", pl.Float64())


@pytest.mark.parametrize("kind", [pl.String(), pl.Date(), pl.Int64(), pl.Datetime("us", "UTC"), pl.Float64()])
def test_an_empty_key_is_null_as_aiflow_has_it(kind):
    typed = taken("typed")["typed"]
    assert typed("", kind) is None
    assert typed(None, kind) is None


@pytest.mark.parametrize(
    ("key", "kind", "delta_type"),
    [
        (True, pl.String(), "string"),
        (1.5, pl.String(), "string"),
        (True, pl.Int64(), "long"),
        (1.5, pl.Int64(), "long"),
        (True, pl.Float64(), "double"),
        (1, pl.Boolean(), "boolean"),
        (20261120, pl.Date(), "date"),
        ("2026-11-20T05+01:00", pl.Datetime("us"), "timestamp_ntz"),
    ],
)
def test_a_key_that_aiflow_refuses_is_refused(key, kind, delta_type):
    with pytest.raises(TypeError, match="is no partition of a column of"):
        taken("typed")["typed"](key, kind)
    with pytest.raises((DataError, AttributeError)):
        typed_value(key, delta_type, "column")


@pytest.fixture
def lake(tmp_path):
    def write(name, rows, **options):
        pl.DataFrame(rows).write_delta(str(tmp_path / name), mode="append", delta_write_options=options)
        return DeltaTable(str(tmp_path / name))

    return write


def test_partitions_are_read_of_every_type_and_absent_ones_are_an_error(lake):
    space = taken("partitions", "present_values")
    table = lake("t", {"n": [1, 2], "d": [date(2026, 1, 1), None], "i": [1, 2]}, partition_by=["d", "i"])
    assert space["present_values"](table, "d") == [date(2026, 1, 1)]
    assert space["present_values"](table, "i", d=[date(2026, 1, 1)]) == [1]
    assert space["partitions"](table, "d", ["2026-01-01"]) == [date(2026, 1, 1)]
    with pytest.raises(FileNotFoundError, match="lacks d"):
        space["partitions"](table, "d", ["2026-01-01", "2026-01-02"])
    assert len(space["partitions"](table, "d", ["2026-01-01", "2026-01-02"], 1)) == 2
    nothing = space["present_values"](table, "i", d=[date(2020, 1, 1)])[-1:]
    assert pl.scan_delta(table).filter(pl.col("i").is_in(nothing)).collect().is_empty()


def test_rows_are_cast_only_where_no_value_changes(lake, tmp_path):
    space = taken("lake_rows", LAKE=tmp_path)
    rows = space["lake_rows"]
    lake("t", pl.DataFrame({"n": [1], "x": [1.5], "dt": ["a"]}, schema_overrides={"n": pl.Int32}))
    fits = pl.LazyFrame({"x": [2.5], "n": pl.Series([3], dtype=pl.UInt8)})
    assert rows(fits, "t", {"dt": "b"}).schema["n"] == pl.Int32
    assert rows(fits, "t", {"dt": "b"})["dt"].to_list() == ["b"]
    for wrong, error in (
        ({"n": [1.5], "x": [1.0], "dt": ["a"]}, TypeError),
        ({"n": [1], "dt": ["a"]}, ValueError),
        ({"n": [1], "x": [1.0], "dt": ["a"], "new": [1]}, ValueError),
        ({"n": [1], "x": [1], "dt": ["a"]}, TypeError),
        ({"n": [2**40], "x": [1.0], "dt": ["a"]}, pl.exceptions.InvalidOperationError),
    ):
        with pytest.raises(error):
            rows(pl.LazyFrame(wrong), "t", {})
    made = rows(pl.LazyFrame({"n": pl.Series([1], dtype=pl.UInt32), "d": [Decimal("1.50")]}), "absent", {})
    assert made.schema == {"n": pl.Int64, "d": pl.Decimal(38, 2)}


@pytest.mark.parametrize("value", ["it's", "a"])
def test_a_partition_of_any_text_is_replaced(tmp_path, value):
    space = taken("replace_partition", LAKE=tmp_path)
    for n in (1, 2):
        for other in (value, "other"):
            frame = pl.LazyFrame({"n": [n]})
            space["replace_partition"](frame, "t", "dt", other, partition_by=["dt"], fill={"dt": other})
    found = pl.read_delta(str(tmp_path / "t")).sort("dt").rows()
    assert found == [(2, value), (2, "other")]


def test_an_upsert_keeps_the_greater_one(tmp_path):
    space = taken("upsert", LAKE=tmp_path)
    for rows in ({"k": [1, 2], "v": [5, 5]}, {"k": [1, 2, 3], "v": [4, 6, 1]}):
        space["upsert"](pl.LazyFrame(rows), "t", ["k"], order_by="v", partition_by=[], fill={})
    assert pl.read_delta(str(tmp_path / "t")).sort("k").rows() == [(1, 5), (2, 6), (3, 1)]
    for wrong in ({"k": [1, 1], "v": [1, 2]}, {"k": [None], "v": [1]}):
        with pytest.raises(ValueError, match="key"):
            space["upsert"](pl.LazyFrame(wrong), "t", ["k"], partition_by=[], fill={})


def test_an_empty_partition_of_text_is_null_and_replaced(tmp_path):
    space = taken("replace_partition", LAKE=tmp_path)
    for n in (1, 2):
        space["replace_partition"](pl.LazyFrame({"n": [n]}), "t", "p", "", partition_by=["p"], fill={"p": ""})
    assert pl.read_delta(str(tmp_path / "t")).rows() == [(2, None)]


@pytest.fixture
def params(monkeypatch):
    """The params of the run, of an Airflow that has no more than those."""
    found = {"append_again": False}
    # This environment has no Airflow; end-to-end tests run ejected files in a real one.
    sdk = ModuleType("airflow.sdk")
    vars(sdk)["get_current_context"] = lambda: {"params": found}
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    return found


@pytest.mark.parametrize(("key", "noted"), [("2026-11-20", "2026-11-20"), ("all", "-")])
@pytest.mark.parametrize("writer", ["aiflow:dev/shop/it/out", "it/out"])
def test_rows_that_were_appended_are_not_appended_again_whoever_did_it(tmp_path, params, writer, key, noted):
    space = taken("append_once", LAKE=tmp_path, DAG_ID="it", AIFLOW_ID="aiflow:dev/shop/it")
    frame = pl.DataFrame({"n": [1]})
    written = Transaction(f"{writer}/{noted if writer.startswith('aiflow') else key}", 1)
    write_deltalake(str(tmp_path / "t"), frame, commit_properties=CommitProperties(app_transactions=[written]))

    def append(key):
        space["append_once"](frame.lazy(), "t", "out", key, partition_by=[], fill={})
        return pl.read_delta(str(tmp_path / "t")).height

    with pytest.raises(RuntimeError, match=f"t has the rows of {key} from an earlier run"):
        append(key)
    assert append("2026-11-21") == 2
    params["append_again"] = True
    assert append(key) == 3


def files_of(place):
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def test_files_are_replaced_and_nothing_is_left_beside_them(tmp_path):
    space = taken("write_files", LAKE=tmp_path, FILE_SUFFIXES=(".csv",))
    for n in (1, 2):
        frame = pl.LazyFrame({"n": [n], "p": [f"{n}"]})
        space["write_files"](frame, "whole", ".parquet", fill={})
        space["write_files"](frame, "parts", ".parquet", partition_by=["p"], fill={})
        space["write_files"](frame, "one.csv", ".csv", fill={})
    assert files_of(tmp_path) == ["one.csv", "parts/p=2/part-0.parquet", "whole/part-0.parquet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.csv", "parts", "whole"]
    assert pl.read_parquet(tmp_path / "whole")["n"].to_list() == [2]


@pytest.mark.parametrize("path", ["whole", "one.csv"])
def test_files_that_cannot_be_written_leave_what_was_there(tmp_path, path):
    space = taken("write_files", LAKE=tmp_path, FILE_SUFFIXES=(".csv",))
    space["write_files"](pl.LazyFrame({"n": [1]}), path, ".csv", fill={})
    before = files_of(tmp_path)

    def fail(rows, place, suffix):
        raise OSError("full")

    space["write_file"] = fail
    with pytest.raises(OSError, match="full"):
        space["write_files"](pl.LazyFrame({"n": [2]}), path, ".csv", fill={})
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("path", ["whole", "one.csv"])
def test_two_runs_at_once_write_beside_each_other(tmp_path, path):
    space = taken("write_files", LAKE=tmp_path, FILE_SUFFIXES=(".csv",))
    write, inner = space["write_file"], []

    def interrupted(rows, place, suffix):
        write(rows, place, suffix)
        if not inner:
            inner.append(place)
            space["write_files"](pl.LazyFrame({"n": [2]}), path, ".csv", fill={})

    space["write_file"] = interrupted
    space["write_files"](pl.LazyFrame({"n": [1]}), path, ".csv", fill={})
    (file,) = files_of(tmp_path)
    assert pl.read_csv(tmp_path / file)["n"].to_list() == [1]


def test_what_was_there_comes_back_when_the_new_folder_cannot_take_its_place(tmp_path):
    put = taken("put_in_place")["put_in_place"]
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "old").touch()
    with pytest.raises(FileNotFoundError):
        put(tmp_path / "absent", tmp_path / "there", "x")
    assert files_of(tmp_path) == ["there/old"]


def test_found_partitions_alone_are_replaced(tmp_path):
    space = taken("replace_found_partitions", LAKE=tmp_path)
    for rows in ({"n": [1, 2, 3], "p": ["a", "b", None]}, {"n": [4, 5], "p": ["a", None]}):
        space["replace_found_partitions"](pl.LazyFrame(rows), "t", partition_by=["p"], fill={})
    assert sorted(pl.read_delta(str(tmp_path / "t")).rows(), key=repr) == [(2, "b"), (4, "a"), (5, None)]
    space["replace_found_partitions"](
        pl.LazyFrame({"n": [], "p": []}, {"n": pl.Int64, "p": pl.String}), "t", partition_by=["p"], fill={}
    )
    assert pl.read_delta(str(tmp_path / "t")).height == 3


def test_every_part_has_its_place_and_its_file():
    for name in known_parts() - MADE:
        assert f"def {name}(" in part(name).text


TEXTS = ["a", 'say "x"', "it's", "both ' and \"", "back\\slash", "line\nend", "{braces}", "é→", "\0", 'a"""b', "end\\"]


@pytest.mark.parametrize("text", [*TEXTS, "\rimport os", "\x0c", "\u2028", '"', '"""', "\ud800"])
def test_a_text_stands_in_a_docstring_and_in_a_comment_whatever_it_holds(text):
    tree = ast.parse(f'"""Of {in_docstring(text)}"""\n')
    assert ast.get_docstring(tree, clean=False) == f"Of {text}".replace("\n", " ")
    above = "\n".join(comment(f"NOTE: {text}."))
    assert len(ast.parse(f"{above}\nx = 1\n").body) == 1


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_quoted_so_that_it_is_read_again(text):
    assert eval(quoted(text)) == text


def test_what_is_too_long_for_a_line_is_laid_out_an_argument_a_line():
    code = call("function", *(f"argument_{n}" for n in range(9)), named=literal({"a": [1, "x"]}))
    assert lines(call("f", "1"), 4) == ["    f(1)"]
    assert lines(keyword("x", code, " = "), 4)[:2] == ["    x = function(", "        argument_0,"]
    assert lines(keyword("x", code, " = "), 4)[-2:] == ['        named={"a": [1, "x"]},', "    )"]
    assert lines(Group("f(", (), ")"), 84) == [f"{' ' * 84}f()"]
