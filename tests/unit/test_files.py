"""Files as sources and sinks: one reader for all engines, and no half of anything."""

import datetime as dt
import json
import os
import threading
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.files import FilesSink, FilesSource
from aiflow_sdk.connectors.parquet import FileGroup, scan_polars
from aiflow_sdk.errors import AiflowError, DataError, DataNotReadyError
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import NULL_FOLDER, FileSink, Predicate, Scan, Write, Written
from aiflow_sdk.stores import FolderStore

DAY, NEXT = "2026-11-20", "2026-11-21"


@pytest.fixture
def environment(tmp_path) -> Environment:
    return Environment(lake="lake", root=tmp_path)


@pytest.fixture
def read(environment):
    def read(path: str, scan: Scan | None = None, **options) -> list[dict]:
        """Return the rows by both roads, which must agree."""
        source = FilesSource.load({"path": path, **options}, environment)
        by_arrow = pa.Table.from_batches(source.scan(scan or Scan()))
        by_polars = source.to_polars(scan or Scan()).collect()
        assert by_polars.columns == by_arrow.column_names
        key = repr
        assert sorted(by_polars.to_dicts(), key=key) == sorted(pl.DataFrame(by_arrow).to_dicts(), key=key)
        return by_arrow.to_pylist()

    return read


@pytest.fixture
def put(tmp_path):
    def put(name: str, data: bytes | str | dict) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, dict):
            pq.write_table(pa.table(data), path)
        else:
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return put


def code(error) -> str:
    assert isinstance(error.value, AiflowError)
    return error.value.code


# Reading


def test_csv_types_are_inferred_once_for_all_engines(put, read, environment):
    put(
        "a.csv",
        "i,f,b,d,t,s,e\n1,1.5,true,2026-11-20,2026-11-20 05:00:00,x,\n2,2,false,2026-11-21,2026-11-20 06:00:00,,\n",
    )
    first, second = read("a.csv")
    assert first == {
        "i": 1,
        "f": 1.5,
        "b": True,
        "d": dt.date(2026, 11, 20),
        "t": dt.datetime(2026, 11, 20, 5),  # noqa: DTZ001 a local time
        "s": "x",
        "e": None,
    }
    assert second["s"] is None
    types = {field.name: str(field.type) for field in FilesSource.load({"path": "a.csv"}, environment).arrow_schema()}
    assert types == {
        "i": "int64",
        "f": "double",
        "b": "bool",
        "d": "date32[day]",
        "t": "timestamp[us]",
        "s": "string",
        "e": "null",
    }


def test_a_bom_windows_line_ends_quotes_and_line_breaks_in_values_are_fine(put, read):
    put("a.csv", b'\xef\xbb\xbfid,name\r\n1,"x, ""y""\r\nz"\r\n2,\r\n3,""\r\n')
    assert read("a.csv") == [{"id": 1, "name": 'x, "y"\r\nz'}, {"id": 2, "name": None}, {"id": 3, "name": ""}]
    put("a.jsonl", b'\xef\xbb\xbf{"id": 1}\r\n\r\n{"id": 2}\r\n')
    assert read("a.jsonl") == [{"id": 1}, {"id": 2}]


def test_delimiters_headers_names_nulls_and_types(put, read):
    put("a.tsv", "a\tb\n1\t2\n")
    assert read("a.tsv") == [{"a": 1, "b": 2}]
    put("b.csv", "007;NA\n008;x\n")
    rows = read("b.csv", delimiter=";", header=False, columns=["zip", "c"], types={"zip": "string"}, null_values=["NA"])
    assert rows == [{"zip": "007", "c": None}, {"zip": "008", "c": "x"}]
    put("c.csv", "a,b\n1,2\n")
    assert read("c.csv", columns=["x", "y"]) == [{"x": 1, "y": 2}]
    put("d.csv", "t,n,d\n2026-11-20T05:00:00Z,1,1.50\n")
    types = {"t": "timestamp[us, UTC]", "n": "double", "d": "decimal128(10, 2)"}
    assert read("d.csv", types=types)[0]["t"] == dt.datetime(2026, 11, 20, 5, tzinfo=dt.UTC)


def test_several_files_are_one_frame(put, read):
    put("in/a.csv", "id,v\n1,1\n")
    put("in/b.csv", "v,id\n2.5,2\n")
    assert read("in/*.csv") == [{"id": 1, "v": 1.0}, {"id": 2, "v": 2.5}]
    assert read("in", format="csv") == read("in/*.csv")
    put("js/a.jsonl", '{"id": 1}\n')
    put("js/b.jsonl", '{"id": 2, "tags": ["x"]}\n')
    put("js/c.jsonl", "")
    assert read("js/*.jsonl") == [{"id": 1, "tags": None}, {"id": 2, "tags": ["x"]}]
    put("pq/a.parquet", {"id": [1]})
    put("pq/b.parquet", {"id": [2], "v": ["x"]})
    assert read("pq/*.parquet") == read("pq", format="parquet") == [{"id": 1, "v": None}, {"id": 2, "v": "x"}]


def test_folders_may_hold_values(put, read):
    put("out/dt=2026-11-20/r=a%2Fb/x.parquet", {"id": [1]})
    put("out/dt=2026-11-21/r=__HIVE_DEFAULT_PARTITION__/x.parquet", {"id": [2]})
    put("out/_temporary/x.parquet", b"half")
    put("out/.x.parquet", b"half")
    expected = [{"id": 1, "dt": DAY, "r": "a/b"}, {"id": 2, "dt": NEXT, "r": None}]
    assert read("out/**/*.parquet") == expected
    assert read("out", format="parquet", scan=Scan(predicates=(Predicate("dt", "==", NEXT),))) == expected[1:]
    assert read("out/dt=2026-11-20/*/*.parquet") == expected[:1]
    put("text/dt=2026-11-20/x.csv", "id\n1\n")
    assert read("text", format="csv") == [{"id": 1, "dt": DAY}]


def test_plain_parquet_files_are_offered_to_engines(put, environment):
    path = put("a/x.parquet", {"id": [1]})
    files = FilesSource.load({"path": "a/*.parquet"}, environment).parquet_files()
    assert files is not None
    assert files.paths == (str(path),)
    put("a/dt=1/x.parquet", {"id": [1]})
    assert FilesSource.load({"path": "a/**/*.parquet"}, environment).parquet_files() is None
    put("a.csv", "id\n1\n")
    assert FilesSource.load({"path": "a.csv"}, environment).parquet_files() is None


@pytest.mark.parametrize(
    ("name", "data", "line", "said"),
    [
        ("a.csv", "a,b\n1,2\n3\n", 3, "Expected 2 columns, got 1"),
        ("a.csv", "", None, "Empty CSV"),
        ("a.csv", "a\n" + "1\n" * 5 + "x\n", None, None),
        ("a.jsonl", '{"a": 1}\n{"a": 2,}\n', 2, "JSON parse error"),
        ("a.jsonl", '{"a": 1}\n[1]\n', 2, "JSON"),
        ("a.jsonl", '{"a": 1}\n\n{"a": "x"}\n', None, "changed from number to string"),
        ("a.jsonl", '{"a": 1', 1, "JSON"),
        ("a.parquet", "PAR1", None, "no Parquet file"),
        ("a.csv", "a\né\n".encode("latin-1"), None, "is not UTF-8"),
        ("a.csv", "a\né\n".encode("utf-16"), None, "cannot be read"),
    ],
)
def test_a_malformed_file_is_an_error_with_its_line(put, environment, name, data, line, said):
    put(name, data)
    source = FilesSource.load({"path": name}, environment)
    if said is None:
        assert pa.Table.from_batches(source.scan(Scan())).schema.field("a").type == pa.string()
        return
    for road in (lambda: list(source.scan(Scan())), lambda: source.to_polars(Scan()).collect()):
        with pytest.raises(DataError, match=said) as caught:
            road()
        assert code(caught) == "malformed-file"
        where = caught.value.where
        assert where is not None
        assert Path(where.path or "").name == name
        if line is not None:
            assert where.line == line


def test_what_does_not_fit_the_inferred_type_names_its_line(put, environment, monkeypatch):
    monkeypatch.setattr("aiflow_sdk.connectors.files.text._BLOCK_BYTES", 64)
    put("a.csv", "a\n" + "1\n" * 100 + "x\n")
    with pytest.raises(DataError, match="state the type: types=") as caught:
        list(FilesSource.load({"path": "a.csv"}, environment).scan(Scan()))
    assert caught.value.where is not None
    assert caught.value.where.line == 102
    put("a.jsonl", '{"a": 1}\n' * 100 + '{"a": 1, "b": 2}\n')
    with pytest.raises(DataError) as caught:
        list(FilesSource.load({"path": "a.jsonl"}, environment).scan(Scan()))
    assert code(caught) == "malformed-file"


def test_files_that_do_not_fit_each_other_are_an_error(put, environment):
    put("in/a.csv", "id,v\n1,1\n")
    put("in/b.csv", "id,w\n1,1\n")
    with pytest.raises(DataError, match="v, w") as caught:
        FilesSource.load({"path": "in/*.csv"}, environment).arrow_schema()
    assert code(caught) == "schema-mismatch"
    put("js/a.jsonl", '{"a": 1}\n')
    put("js/b.jsonl", '{"a": {"b": 1}}\n')
    with pytest.raises(DataError) as caught:
        FilesSource.load({"path": "js/*.jsonl"}, environment).arrow_schema()
    assert code(caught) == "schema-mismatch"


def test_an_absent_file_is_suggested_and_may_come_later(put, environment, tmp_path):
    put("data/orders.csv", "id\n1\n")
    with pytest.raises(DataNotReadyError) as caught:
        FilesSource.load({"path": "data/order.csv"}, environment).arrow_schema()
    assert code(caught) == "input-absent"
    assert caught.value.hint == "did you mean 'orders.csv'?"
    assert caught.value.retryable
    assert f"looked for {tmp_path}/data/order.csv" in caught.value.notes
    with pytest.raises(DataNotReadyError, match="did you mean 'data'"):
        FilesSource.load({"path": "dat/orders.csv"}, environment).arrow_schema()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"path": "../x.csv"}, "outside-project"),
        ({"path": "a/../../x.csv"}, "outside-project"),
        ({"path": "../x.csv", "root": "lake"}, "outside-lake"),
        ({"path": "/etc/*.csv", "root": "lake"}, "outside-lake"),
        ({"path": "_staging/x.csv", "root": "lake"}, "outside-lake"),
        ({"path": "link/*.csv", "root": "lake"}, "outside-lake"),
        ({"path": "*/x.csv", "root": "lake"}, "input-absent"),
        ({"path": "x\0.csv"}, "bad-option"),
    ],
)
def test_a_path_cannot_leave_its_root(put, environment, tmp_path, options, wanted):
    put("x.csv", "id\n1\n")
    put("outside/x.csv", "id\n1\n")
    put("lake/_staging/x.csv", "id\n1\n")
    (tmp_path / "lake/link").symlink_to(tmp_path / "outside")
    with pytest.raises(AiflowError) as caught:
        FilesSource.load(options, environment).arrow_schema()
    assert code(caught) == wanted


def test_a_whole_path_is_read_as_it_is(put, read, tmp_path):
    path = put("x[1].csv", "id\n1\n")
    assert read(str(path)) == read("x[1].csv") == [{"id": 1}]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"path": "x"}, "unknown-format"),
        ({"path": "x.json"}, "unknown-format"),
        ({"path": ""}, "bad-option"),
        ({"path": "x.csv", "delimiter": ";;"}, "bad-option"),
        ({"path": "x.csv", "format": "xlsx"}, "bad-option"),
        ({}, "missing-option"),
    ],
)
def test_impossible_sources_are_refused_at_check_time(options, wanted):
    assert FilesSource.problems(options)[0].code == wanted


def test_templates_are_looked_at_when_they_are_rendered():
    assert not FilesSource.problems({"path": "data/{{ ds }}"})
    assert not FilesSource.problems({"path": "data/{{ ds }}.csv"})
    assert not FilesSink.problems({"path": "exports/{{ ds }}"})


def test_an_unknown_type_or_column_is_suggested(put, environment):
    put("a.csv", "amount\n1\n")
    for options, wanted in (
        ({"types": {"amount": "strin"}}, "unknown-type"),
        ({"types": {"amout": "string"}}, "unknown-column"),
    ):
        with pytest.raises(AiflowError) as caught:
            FilesSource.load({"path": "a.csv", **options}, environment).arrow_schema()
        assert code(caught) == wanted
        assert "did you mean" in str(caught.value)
    with pytest.raises(AiflowError) as caught:
        list(FilesSource.load({"path": "a.csv"}, environment).scan(Scan(columns=("amout",))))
    assert code(caught) == "unknown-column"


def test_the_identity_changes_with_any_file(put, environment):
    put("in/a.csv", "id\n1\n")
    source = FilesSource.load({"path": "in/*.csv"}, environment)
    before = source.identity(run_of())
    assert source.identity(run_of()) == before
    put("in/b.csv", "id\n2\n")
    assert source.identity(run_of()) != before
    assert source.measure(run_of()) == (None, 10)


# Writing


def run_of(day: str | None = DAY, generation: int = 1, *, last: str | None = None, grain: str = "day", **facts) -> Run:
    return Run.model_validate(
        {
            "run_id": f"0193c000-0000-7000-8000-{generation:012d}",
            "environment": "dev",
            "project": "p",
            "pipeline_id": "x",
            "partition_key": day,
            "last_partition_key": last,
            "partition_grain": grain if day else None,
            "execution": generation,
            "generation": generation,
            **facts,
        }
    )


def write(sink: FilesSink, columns: dict, run: Run | None = None, time: str | None = None) -> Written:
    run = run or run_of()
    fill = {time: run.partition_key} if time and run.partition_key and not run.last_partition_key else {}
    return sink.write(pa.table(columns).to_reader(), Write("out", run, fill, time))


ROW = {"id": [1, 2], "s": ['x,"y"\n', None], "d": [dt.date(2026, 11, 20), None], "f": [1.5, None]}


@pytest.mark.parametrize("path", ["exports/out.csv", "exports/out.jsonl", "exports/out.parquet"])
def test_what_is_written_is_read_alike(environment, read, path, tmp_path):
    written = write(FilesSink.load({"path": path}, environment), ROW)
    expected = pa.table(ROW).to_pylist()
    if path.endswith("jsonl"):
        expected = [{**row, "d": row["d"] and dt.datetime(2026, 11, 20)} for row in expected]  # noqa: DTZ001 a date
    assert read(path, root="lake") == expected
    assert (tmp_path / "lake" / path).is_file()
    assert (written.rows, written.bytes) == (2, (tmp_path / "lake" / path).stat().st_size)
    assert written.columns == (("id", "int64"), ("s", "string"), ("d", "date32[day]"), ("f", "double"))


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_rows_of_two_writes_are_never_read_together(environment, format):
    sink = FilesSink.load({"path": "out", "format": format, "partition_by": ["key"]}, environment)
    source = FilesSource.load({"path": "out", "format": format, "root": "lake"}, environment)
    keys = [f"k{number:03}" for number in range(100)]
    write(sink, {"n": [1] * 100, "key": keys}, run_of(None))
    batches, lazy = source.scan(Scan()), source.to_polars(Scan())
    begun = next(batches)
    write(sink, {"n": [2] * 100, "key": keys}, run_of(None, 2))
    read = begun["n"].to_pylist()
    ended: DataNotReadyError | None = None
    try:
        for batch in batches:
            read += batch["n"].to_pylist()
    except DataNotReadyError as error:
        ended = error
    assert set(read) == {1}
    assert len(read) == 100 if ended is None else (ended.code, ended.retryable) == ("input-changed", True)
    assert ended or format != "parquet"  # of others more is read ahead
    if format == "parquet":
        with pytest.raises(FileNotFoundError):
            lazy.collect()
    else:
        assert set(lazy.collect()["n"]) == {1}  # it was read when it was asked for
    assert set(source.to_polars(Scan()).collect()["n"]) == {2}


@pytest.mark.parametrize("replaced_at", ["out", "out/key=b"])
def test_a_folder_that_is_replaced_while_it_is_listed_is_listed_again(environment, monkeypatch, replaced_at):
    sink = FilesSink.load({"path": "out", "format": "csv", "partition_by": ["key"]}, environment)
    source = FilesSource.load({"path": "out", "format": "csv", "root": "lake"}, environment)
    write(sink, {"n": [1, 1], "key": ["a", "b"]}, run_of(None))
    walk, listed = os.walk, []

    def replaced(folder, **options):
        """The real one, with a write once it has listed a folder."""
        for parent, folders, names in walk(folder, **options):
            yield parent, folders, names
            listed.append(parent)
            if parent.endswith(replaced_at) and listed.count(parent) == 1:
                write(sink, {"n": [2, 2, 2], "key": ["a", "b", "c"]}, run_of(None, 2))

    monkeypatch.setattr(
        "aiflow_sdk.connectors.files.place.os.walk", replaced
    )  # the true one, and a writer in the middle
    assert sorted(source.to_polars(Scan()).collect().rows()) == [(2, "a"), (2, "b"), (2, "c")]


@given(
    rows=st.lists(st.tuples(st.none() | st.text(), st.none() | st.integers(-(2**62), 2**62)), min_size=1, max_size=5)
)
def test_csv_keeps_null_and_empty_text_apart(tmp_path_factory, rows):
    environment = Environment(lake=str(tmp_path_factory.mktemp("csv")))
    table = {"s": pa.array([row[0] for row in rows], pa.string()), "n": pa.array([row[1] for row in rows], pa.int64())}
    write(FilesSink.load({"path": "out.csv"}, environment), table)
    source = FilesSource.load({"path": "out.csv", "root": "lake", "types": {"s": "string", "n": "int64"}}, environment)
    found = pa.Table.from_batches(source.scan(Scan())).to_pylist()
    assert [(row["s"], row["n"]) for row in found] == rows


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_a_day_is_replaced_and_others_stay(environment, read, format):
    sink = FilesSink.load(
        {"path": "out", "format": format, "partition_by": ["region", "dt"], "time": "dt"}, environment
    )
    write(sink, {"id": [1, 2], "region": ["eu", "us"]}, run_of(DAY, 1), "dt")
    write(sink, {"id": [3], "region": ["e/u"]}, run_of(NEXT, 2), "dt")
    written = write(sink, {"id": [4], "region": [None]}, run_of(DAY, 3), "dt")
    found = sorted(read("out", root="lake", format=format), key=lambda row: row["id"])
    assert found == [{"id": 3, "dt": NEXT, "region": "e/u"}, {"id": 4, "dt": DAY, "region": None}]
    assert written.partitions == (f"region=null/dt={DAY}",)
    assert write(sink, {"id": [9], "region": ["eu"]}, run_of(DAY, 2), "dt").superseded
    late = write(sink, {"id": [5, 6], "region": ["eu", "eu"], "dt": [DAY, NEXT]}, run_of(DAY, 4, last=NEXT), "dt")
    assert (late.rows, late.superseded) == (2, False)
    assert sorted(row["id"] for row in read("out", root="lake", format=format)) == [5, 6]


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_a_text_that_means_null_as_a_folder_is_refused_and_nothing_changes(environment, tmp_path, format):
    sink = FilesSink.load({"path": "out/odd", "format": format, "partition_by": ["key"]}, environment)
    write(sink, {"n": [1, 2], "key": ["a", None]}, run_of(None))
    with pytest.raises(DataError, match="'key'") as caught:
        write(sink, {"n": [3, 4], "key": ["b", NULL_FOLDER]}, run_of(None, 2))
    assert code(caught) == "bad-partition-value"
    found = sorted(path.parent.name for path in (tmp_path / "lake/out/odd").rglob(f"*.{format}"))
    assert found == [f"key={NULL_FOLDER}", "key=a"]


def test_a_table_of_others_may_have_the_text_that_means_null_as_a_folder(tmp_path):
    texts = ["a", None, NULL_FOLDER]
    groups = []
    for number, text in enumerate(texts):
        path = tmp_path / f"key={text or NULL_FOLDER}/part-{number}.parquet"
        path.parent.mkdir(exist_ok=True)
        pl.DataFrame({"n": [number]}).write_parquet(path)
        groups.append(FileGroup((str(path),), {"key": text}))
    schema = pl.Schema({"n": pl.Int64, "key": pl.String})
    for chosen in (groups, [groups[0], groups[2]], groups[2:]):
        read = scan_polars(chosen, schema, Scan()).collect().sort("n")
        assert read["key"].to_list() == [group.values["key"] for group in chosen]


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_rows_of_other_days_are_an_error_and_nothing_changes(environment, read, format):
    sink = FilesSink.load({"path": "out", "format": format, "partition_by": ["dt"]}, environment)
    write(sink, {"id": [1]}, run_of(DAY, 1), "dt")
    with pytest.raises(DataError) as caught:
        write(sink, {"id": [2, 3], "dt": [DAY, NEXT]}, run_of(DAY, 2), "dt")
    assert code(caught) == "rows-outside-partition"
    assert read("out", root="lake", format=format) == [{"id": 1, "dt": DAY}]


def test_an_hour_is_found_however_an_engine_writes_it(environment, read):
    sink = FilesSink.load({"path": "out", "partition_by": ["hour"]}, environment)
    moment = pa.array([dt.datetime(2026, 11, 20, 4, tzinfo=dt.UTC)])
    hour = run_of("2026-11-20T05", 1, grain="hour", timezone="Europe/Berlin")
    write(sink, {"id": [1], "hour": moment}, hour, "hour")
    write(sink, {"id": [2]}, run_of("2026-11-20T05", 2, grain="hour", timezone="Europe/Berlin"), "hour")
    assert read("out", root="lake", format="parquet") == [{"id": 2, "hour": "2026-11-20T05"}]


def test_only_parquet_files_are_left_to_engines(environment):
    assert isinstance(FilesSink.load({"path": "out"}, environment), FileSink)
    assert not isinstance(FilesSink.load({"path": "out.csv"}, environment), FileSink)


def test_a_whole_without_rows_keeps_its_columns(environment, read):
    for path in ("out", "out.parquet", "out.csv"):
        write(FilesSink.load({"path": path}, environment), {"id": pa.array([], pa.int64())})
    source = FilesSource.load({"path": "out", "root": "lake", "format": "parquet"}, environment)
    assert source.arrow_schema() == pa.schema({"id": pa.int64()})
    assert read("out.parquet", root="lake") == read("out.csv", root="lake") == []


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("out", "out"),
        ("out", "out/notes.txt"),
        ("out", "out/deep/er/notes.txt"),
        ("out", "out/dt=2026-11-20/.part.crc"),
        ("out.csv", "out.csv"),
        ("out.csv", "out.csv/x"),
    ],
)
def test_files_that_no_sink_wrote_are_not_replaced_unless_that_is_declared(environment, read, put, path, there):
    foreign = put(f"lake/{there}", "theirs")
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            write(FilesSink.load({"path": path}, environment), {"id": [1]})
        assert code(caught) == "foreign-files"
        assert there in caught.value.message
        assert 'foreign="replace"' in (caught.value.hint or "")
        assert foreign.read_text() == "theirs"
    write(FilesSink.load({"path": path, "foreign": "replace"}, environment), {"id": [1]})
    write(FilesSink.load({"path": path}, environment), {"id": [2]}, run_of(DAY, 2))
    assert read(path, root="lake", format="csv" if "." in path else "parquet") == [{"id": 2}]


def test_a_foreign_file_stays_one_where_its_writer_dies_before_it_is_replaced(environment, put, monkeypatch):
    foreign = put("lake/one.csv", "theirs")
    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "publish", lambda *_, **__: 1 / 0)  # as a kill would end it there
        with pytest.raises(ZeroDivisionError):
            write(FilesSink.load({"path": "one.csv", "foreign": "replace"}, environment), {"id": [1]})
    with pytest.raises(DataError) as caught:
        write(FilesSink.load({"path": "one.csv"}, environment), {"id": [1]})
    assert code(caught) == "foreign-files"
    assert foreign.read_text() == "theirs"


def test_a_file_put_beside_the_own_ones_is_not_replaced_either(environment, put, tmp_path):
    sink = FilesSink.load({"path": "out", "partition_by": ["dt"]}, environment)
    write(sink, {"id": [1]}, run_of(DAY), "dt")
    write(sink, {"id": [2]}, run_of(NEXT), "dt")
    put(f"lake/out/dt={DAY}/theirs.parquet", {"id": [3]})
    (tmp_path / f"lake/out/dt={NEXT}/link").symlink_to(tmp_path)
    before = sorted((tmp_path / "lake/out").rglob("*"))
    for run in (run_of(DAY, 3), run_of(NEXT, 3), run_of(DAY, 3, last=NEXT)):
        rows = {"id": [4, 5], "dt": [run.partition_key, run.partitions[-1].key]}
        with pytest.raises(DataError, match=r"theirs|link") as caught:
            write(sink, rows, run, "dt")
        assert code(caught) == "foreign-files"
    assert sorted((tmp_path / "lake/out").rglob("*")) == before


LITTER = {".DS_Store": b"\0\0\0\1Bud1", "Thumbs.db": b"\xd0\xcf", "Desktop.ini": b"[.ShellClassInfo]"}


def test_what_operating_systems_leave_in_a_folder_refuses_no_run_and_goes_with_it(environment, read, tmp_path):
    sink = FilesSink.load({"path": "out", "partition_by": ["dt"]}, environment)
    rows = {"id": [1, 2], "dt": [DAY, NEXT]}
    litter = {**LITTER, "._part-0.parquet": b"\0\5\x16\7\0\2\0\0Mac OS X"}
    folders = [tmp_path / "lake/out", tmp_path / f"lake/out/dt={DAY}"]
    for folder in folders:
        folder.mkdir(parents=True)  # before the sink has written anything, too
        for name, content in litter.items():
            (folder / name).write_bytes(content)
    write(sink, rows, run_of(DAY, last=NEXT), "dt")
    assert not (folders[1] / ".DS_Store").exists()
    assert (folders[0] / ".DS_Store").exists()  # only the partitions were replaced
    write(sink, rows, run_of(None, 2))
    assert [path.name for path in folders[0].iterdir() if path.name in litter] == []
    assert len(read("out", root="lake", format="parquet")) == 2


@pytest.mark.parametrize("name", ["._theirs.parquet", "._pipe", ".DS_Store/x", "Thumbs.db.parquet", "desktop.ini"])
def test_what_only_looks_like_litter_is_not_replaced(environment, put, tmp_path, name):
    if name == "desktop.ini":
        (tmp_path / "lake/out").mkdir(parents=True)
        (tmp_path / f"lake/out/{name}").symlink_to(tmp_path)
    elif name == "._pipe":
        (tmp_path / "lake/out").mkdir(parents=True)
        os.mkfifo(tmp_path / f"lake/out/{name}")  # to open it would wait for somebody to write
    else:
        put(f"lake/out/{name}", "theirs")
    with pytest.raises(DataError) as caught:
        write(FilesSink.load({"path": "out"}, environment), {"id": [1]})
    assert code(caught) == "foreign-files"


def test_days_that_were_written_at_once_or_one_by_one_are_of_the_same_sink(environment, read):
    sink = FilesSink.load({"path": "out", "partition_by": ["dt"]}, environment)
    both = {"id": [1, 2], "dt": [DAY, NEXT]}
    write(sink, both, run_of(None, 1))
    write(sink, {"id": [3]}, run_of(DAY, 2), "dt")
    assert sorted(row["id"] for row in read("out", root="lake", format="parquet")) == [2, 3]
    write(sink, both, run_of(None, 3))
    assert sorted(row["id"] for row in read("out", root="lake", format="parquet")) == [1, 2]


def test_a_record_of_generations_alone_counts_all_files_as_own(environment, read, tmp_path):
    sink = FilesSink.load({"path": "out"}, environment)
    write(sink, {"id": [1]})
    record = tmp_path / "lake/out/_aiflow.json"
    record.write_text(json.dumps(json.loads(record.read_text())["generations"]))
    write(sink, {"id": [2]}, run_of(DAY, 2))
    assert read("out", root="lake", format="parquet") == [{"id": 2}]
    assert write(sink, {"id": [3]}, run_of(DAY, 1)).superseded


def test_the_folder_of_one_sink_is_not_replaced_by_that_of_another_around_it(environment):
    write(FilesSink.load({"path": "out/inner/one.csv"}, environment), {"id": [1]})
    write(FilesSink.load({"path": "out/other"}, environment), {"id": [1]})
    with pytest.raises(DataError) as caught:
        write(FilesSink.load({"path": "out"}, environment), {"id": [1]})
    assert code(caught) == "foreign-files"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"path": "../x"}, "outside-lake"),
        ({"path": "x", "mode": "append"}, "unsupported-mode"),
        ({"path": "x.csv", "format": "parquet"}, "bad-option"),
        ({"path": "x.csv", "partition_by": ["dt"]}, "bad-option"),
        ({"path": "x", "format": "xml"}, "bad-option"),
    ],
)
def test_impossible_sinks_are_refused_at_check_time(options, wanted):
    assert FilesSink.problems(options)[0].code == wanted


@pytest.mark.parametrize("path", ["/tmp/x", "_staging/x", "link/x"])
def test_a_sink_cannot_leave_the_lake(environment, tmp_path, path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/link").symlink_to(tmp_path / "outside")
    with pytest.raises(AiflowError) as caught:
        write(FilesSink.load({"path": path}, environment), {"id": [1]})
    assert code(caught) == "outside-lake"
    assert not list((tmp_path / "outside").iterdir())


def test_csv_takes_no_nested_columns(environment):
    with pytest.raises(DataError) as caught:
        write(FilesSink.load({"path": "x.csv"}, environment), {"tags": [["a"]]})
    assert code(caught) == "unsupported-type"


def test_whoever_reads_sees_whole_writes(environment, read):
    sink = FilesSink.load({"path": "out", "partition_by": ["dt"]}, environment)
    write(sink, {"id": [1, 1], "r": ["a", "b"]}, run_of(DAY, 1), "dt")
    done, seen = threading.Event(), []
    source = FilesSource.load({"path": "out", "root": "lake", "format": "parquet"}, environment)

    def look():
        while not done.is_set():
            seen.append(pa.Table.from_batches(source.scan(Scan())).column("id").to_pylist())

    reader = threading.Thread(target=look)
    reader.start()
    for generation in range(2, 40):
        write(sink, {"id": [generation] * 2, "r": ["a", "b"]}, run_of(DAY, generation), "dt")
    done.set()
    reader.join()
    assert seen
    assert all(len(ids) == 2 and len(set(ids)) == 1 for ids in seen)


@pytest.mark.parametrize("path", ["mart", "mart/orders", "mart/orders/more", "mart/orders/00.parquet"])
def test_a_table_is_not_replaced_by_files(environment, path):
    lake = Path(environment.lake_address)
    pl.DataFrame({"n": [1]}).write_delta(str(lake / "mart/orders"))
    before = sorted(lake.rglob("*"))
    run = Run(run_id="0193c000-0000-7000-8000-000000000000", environment="dev", project="p", pipeline_id="x")
    sink = FilesSink.load({"path": path}, environment)
    for attempt in (sink.check_place, lambda: sink.write(pa.table({"n": [2]}).to_reader(), Write("out", run))):
        with pytest.raises(AiflowError) as caught:
            attempt()
        assert caught.value.code == "taken-place"
        assert "mart/orders" in caught.value.message
    assert [one for one in sorted(lake.rglob("*")) if "_staging" not in one.parts] == before
