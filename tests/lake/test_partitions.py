"""Of a partition, absent, incomplete, empty, complete and restated are different answers."""

import uuid
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.errors import DataNotReadyError, Where
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import Scan, Write
from aiflow_sdk.runtime.readiness import await_partitions
from aiflow_sdk.runtime.rendering import WantedPartitions

DAY, NEXT = "2026-11-20", "2026-11-21"


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(lake=str(tmp_path / "lake"))


def write(
    environment: Environment,
    rows: list[int],
    day: str = DAY,
    generation: int = 1,
    *,
    node: str = "out",
    siblings: tuple[str, ...] = (),
    **options: Any,
) -> None:
    sink = OneLakeSink.load({"table": "raw.events", "partition_by": ["dt"], **options}, environment)
    run = Run(
        run_id=str(uuid.uuid4()),
        environment="dev",
        project="default",
        pipeline_id="p",
        partition_key=day,
        partition_grain="day",
        generation=generation,
    )
    frame = pl.DataFrame({"id": rows}, schema={"id": pl.Int64})
    time = "dt" if options.get("mode", "overwrite") == "overwrite" else None
    sink.write(frame.to_arrow().to_reader(), Write(node, run, {"dt": day}, time, siblings))


def facts(environment: Environment, day: str = DAY):
    source = OneLakeSource.load({"table": "raw.events"}, environment)
    return source.partition_facts("dt", [day])[day]


@pytest.mark.parametrize("mode", ["overwrite", "append"])
def test_a_partition_without_rows_is_there_and_an_absent_one_is_not(environment, mode):
    write(environment, [1], NEXT, mode=mode)
    assert facts(environment).state == "absent"
    write(environment, [], DAY, 2, mode=mode)
    assert (facts(environment).state, facts(environment).rows) == ("empty", 0)
    assert facts(environment, NEXT).state == "complete"
    write(environment, [], NEXT, 3, mode=mode)
    assert facts(environment, NEXT).state == "empty"


def test_a_partition_is_incomplete_until_all_that_make_it_have_written(environment):
    write(environment, [1], node="out.us", siblings=("out.eu",), mode="append")
    assert facts(environment).state == "incomplete"
    write(environment, [], node="out.eu", siblings=("out.us",), mode="append")
    assert (facts(environment).state, facts(environment).rows) == ("complete", 1)
    write(environment, [2, 3], generation=2, node="out.us", siblings=("out.eu",), mode="append")
    assert (facts(environment).state, facts(environment).rows) == ("complete", 2)


def test_data_that_was_made_again_is_restated(environment):
    write(environment, [1])
    read = facts(environment)
    assert read.answer(read.identity) == "complete"
    write(environment, [1], NEXT, 2)
    assert facts(environment).answer(read.identity) == "complete"
    write(environment, [1], DAY, 3)
    assert facts(environment).answer(read.identity) == "restated"


def test_a_run_may_read_an_empty_partition_and_waits_for_an_incomplete_one(environment):
    write(environment, [], DAY)
    source = OneLakeSource.load({"table": "raw.events", "partitions": {"dt": DAY}}, environment)
    wanted = [WantedPartitions("dt", (DAY,), 1)]
    await_partitions(source, wanted, "UTC", Where())
    assert source.to_polars(Scan()).collect().height == 0
    write(environment, [1], NEXT, 2, node="out.us", siblings=("out.eu",), mode="append")
    with pytest.raises(DataNotReadyError) as caught:
        await_partitions(source, [WantedPartitions("dt", (NEXT,), 1)], "UTC", Where())
    assert caught.value.code == "input-absent"
    assert any("not all that make it have written" in note for note in caught.value.notes)
