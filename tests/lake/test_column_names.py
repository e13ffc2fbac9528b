"""Columns may be called as they like: partitions are told apart and replaced, keys are matched, nothing is lost."""

from typing import Any

import polars as pl
import pytest

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.errors import DataError
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import FrameWrite, Scan, Write
from aiflow_sdk.testing.conformance.probe import Rows
from cells.lake import ENGINES, opened

WRITERS = (*ENGINES, "sink")
"""The engines, which write files, and the sink itself, which takes batches of whoever has no files."""
NAMES = ("a/b", "../../../../../evil", "..", "a=b", "a%2Fb", " ", "é", "__path__", "__aiflow_path__", "__aiflow_now__")


@pytest.fixture
def environment(tmp_path) -> Environment:
    return Environment(lake=str(tmp_path / "lake"), root=tmp_path)


def write(environment: Environment, writer: str, frame: pl.DataFrame, generation: int, **options: Any) -> None:
    run = Run(
        run_id=f"0193c000-0000-7000-8000-{generation:012d}",
        environment="test",
        project="p",
        pipeline_id="x",
        partition_key=f"2026-11-{generation:02}",
        partition_grain="day",
        generation=generation,
    )
    sink, request = OneLakeSink.load({"table": "raw.t", **options}, environment), Write("out", run)
    if writer == "sink":
        sink.write(frame.to_arrow().to_reader(), request)
        return
    with opened(writer, environment, run) as session:
        session.write([FrameWrite(session.read(Rows.of(frame.to_arrow()), Scan(run)), sink, request)])


def rows(environment: Environment) -> list[tuple[Any, ...]]:
    return sorted(OneLakeSource.load({"table": "raw.t"}, environment).to_polars(Scan()).collect().rows(), key=repr)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_partition_column_of_any_name(environment, writer):
    for name in NAMES:
        table = {"path": f"raw/t{NAMES.index(name)}", "table": None}
        options = {"mode": "overwrite_partitions", "partition_by": [name], **table}
        write(environment, writer, pl.DataFrame({name: ["x", "y /="], "v": [1, 2]}), 1, **options)
        write(environment, writer, pl.DataFrame({name: ["x", "z"], "v": [3, 4]}), 2, **options)
        found = OneLakeSource.load(table, environment).to_polars(Scan()).collect()
        assert sorted(found.select(name, "v").rows()) == [("x", 3), ("y /=", 2), ("z", 4)], name
    lake = environment.lake
    assert not [path for path in environment.root.rglob("*evil*") if not path.is_relative_to(f"{lake}/raw")]  # type: ignore[union-attr]  # it was given


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", ["__path__", "__aiflow_path__"])
def test_a_column_called_as_one_of_ours_was(environment, writer, name):
    write(environment, writer, pl.DataFrame({name: ["a", "b"], "k": ["1 /", "2"]}), 1, partition_by=["k"])
    assert rows(environment) == [("a", "1 /"), ("b", "2")]


@pytest.mark.parametrize("name", ["__aiflow_path__", "__aiflow_theirs__", "__aiflow_now__", "__aiflow_outranked__"])
def test_keys_and_orders_called_as_ours_were(environment, name):
    by_key = {"mode": "upsert", "keys": [name]}
    for generation, value in ((1, 1), (2, 2), (2, 3)):
        write(environment, "sink", pl.DataFrame({name: ["a"], "v": [value]}), generation, **by_key)
    assert rows(environment) == [("a", 3)]
    by_order = {"table": "raw.o", "mode": "upsert", "keys": ["id"], "order_by": name}
    for generation, value in ((1, 1), (2, 2), (2, 3)):
        write(environment, "sink", pl.DataFrame({"id": ["a"], name: [value]}), generation, **by_order)
    frame = OneLakeSource.load({"table": "raw.o"}, environment).to_polars(Scan()).collect()
    assert frame.select("id", name).rows() == [("a", 3)]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_frame_of_partition_columns_alone_loses_no_rows_in_silence(environment, writer):
    with pytest.raises(DataError) as caught:
        write(environment, writer, pl.DataFrame({"a": ["b", "c"]}), 1, mode="overwrite_partitions", partition_by=["a"])
    assert caught.value.code == "no-columns"
