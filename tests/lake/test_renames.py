"""Rows that a sink wrote under an earlier name: never silently beside its new ones, and replaced where it says so."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.errors import ConfigurationError, DataError
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import Scan, Write, Written
from remembered import check_remembered

DAY, NEXT, LATER = "2026-11-20", "2026-11-21", "2026-11-22"


@dataclass
class Table:
    """The table ``raw.out``, to which sinks add rows."""

    environment: Environment

    def write(
        self,
        ids: Sequence[int],
        name: str = "prod/p/x/out",
        *,
        day: str | None = DAY,
        generation: int = 1,
        sinks: Sequence[str] | None = None,
        grain: str = "day",
        **options: Any,
    ) -> Written:
        """Write rows by ``environment/project/pipeline/sink``; its pipeline's ``sinks`` are itself alone if None."""
        environment, project, pipeline, node = name.split("/")
        run = Run.model_validate(
            {
                "run_id": f"0193c000-0000-7000-8000-{generation:012d}",
                "environment": environment,
                "project": project,
                "pipeline_id": pipeline,
                "partition_key": day,
                "partition_grain": grain if day else None,
                "generation": generation,
            }
        )
        given = {"table": "raw.out", "mode": "append", "partition_by": ["dt"], **options}
        frame = pl.DataFrame({"id": list(ids), "dt": [day] * len(ids)}, {"id": pl.Int64, "dt": pl.String})
        request = Write(node, run, {"dt": day} if day else {}, "dt", sinks=tuple((node,) if sinks is None else sinks))
        written = OneLakeSink.load(given, self.environment).write(frame.to_arrow().to_reader(), request)
        check_remembered(self.environment, "raw.out")
        return written

    def ids(self) -> list[int]:
        """Return all rows' ids, sorted."""
        frame = OneLakeSource.load({"table": "raw.out"}, self.environment).to_polars(Scan()).collect()
        return sorted(frame["id"].to_list())


@pytest.fixture
def table(tmp_path) -> Table:
    return Table(Environment(lake=str(tmp_path / "lake"), root=tmp_path))


@pytest.fixture
def told(caplog) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "aiflow.lake")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "aiflow.lake"]


@pytest.mark.parametrize(("mode", "options"), [("append", {}), ("upsert", {"keys": ["id"]})])
def test_rows_of_a_sink_that_is_gone_are_not_added_to_in_silence(table, mode, options):
    table.write([1, 2], "prod/p/x/old", mode=mode, **options)
    with pytest.raises(DataError, match="has rows of 'old' for 2026-11-20") as caught:
        table.write([1, 2], "prod/p/x/new", generation=2, mode=mode, **options)
    assert caught.value.code == "earlier-name"
    assert 'renamed_from=["old"]' in str(caught.value.hint)
    assert 'beside=["old"]' in str(caught.value.hint)
    assert table.ids() == [1, 2]
    table.write([1, 3], "prod/p/x/new", generation=2, mode=mode, renamed_from=["old"], **options)
    assert table.ids() == [1, 3]
    table.write([4], "prod/p/x/new", generation=3, mode=mode, **options)  # it is its own now
    assert table.ids() == [4]


def test_a_day_that_the_earlier_name_has_not_written_is_no_matter(table):
    table.write([1], "prod/p/x/old")
    table.write([2], "prod/p/x/new", day=NEXT, generation=2)
    assert table.ids() == [1, 2]


def test_rows_of_a_sink_that_was_removed_stay_where_that_is_said(table):
    table.write([1], "prod/p/x/us", sinks=["us", "eu"])
    table.write([2], "prod/p/x/eu", sinks=["us", "eu"])
    table.write([3], "prod/p/x/fr", sinks=["us", "eu", "fr"], generation=2)
    with pytest.raises(DataError, match="has rows of 'us' for"):
        table.write([4], "prod/p/x/it", sinks=["eu", "fr", "it"], generation=3)
    table.write([4], "prod/p/x/it", sinks=["eu", "fr", "it"], generation=3, beside=["us"])
    table.write([5], "prod/p/x/fr", sinks=["fr"], generation=4)  # it replaces its own; what stood beside stays
    assert table.ids() == [1, 2, 4, 5]


@pytest.mark.parametrize(("mode", "options"), [("append", {}), ("upsert", {"keys": ["id"]})])
@pytest.mark.parametrize(
    ("before", "name"),
    [
        ("prod/p/x/old", "old"),
        ("prod/p/old/out", "old/out"),
        ("prod/old/x/out", "old/x/out"),
        ("old/p/x/out", "old/p/x/out"),
        ("old/old/old/old", "old/old/old/old"),
    ],
)
def test_whatever_was_renamed_its_rows_are_replaced(table, before, name, mode, options):
    for day, rows in ((DAY, [1, 2]), (NEXT, [3])):
        table.write(rows, before, day=day, generation=7, mode=mode, **options)
    given = {"mode": mode, "renamed_from": [name], **options}
    table.write([1, 9], day=DAY, generation=8, **given)
    assert table.ids() == [1, 3, 9]
    table.write([], day=NEXT, generation=9, **given)
    table.write([5], day=LATER, generation=9, **given)
    assert table.ids() == [1, 5, 9]
    # What an execution of before the rename brings late is overtaken, as by one of its own.
    assert table.write([6], before, day=DAY, generation=7, mode=mode, **options).superseded
    assert table.ids() == [1, 5, 9]


def test_a_generation_is_above_those_of_the_earlier_name(table):
    table.write([1], "prod/p/old/out", generation=7)
    run = Run(
        run_id="0193c000-0000-7000-8000-000000000001",
        environment="prod",
        project="p",
        pipeline_id="x",
        partition_key=DAY,
        partition_grain="day",
    )
    options = {"table": "raw.out", "mode": "append", "partition_by": ["dt"], "renamed_from": ["old/out"]}
    assert OneLakeSink.load(options, table.environment).newest_generation(Write("out", run)) == 7
    assert table.write([2], generation=6, renamed_from=["old/out"]).superseded
    assert table.ids() == [1]


def test_pipelines_that_add_to_one_table_go_on_and_it_is_said_once(table, told):
    table.write([1], "prod/p/us/out")
    table.write([2], "prod/p/eu/out")
    (once,) = told()
    assert once.startswith("earlier-name: 'raw.out' has rows of 'us/out' for 2026-11-20 too")
    assert 'renamed_from=["us/out"]' in once
    table.write([3], "prod/p/eu/out", day=NEXT)
    table.write([4], "prod/p/us/out", day=NEXT)
    table.write([5], "prod/p/us/out", generation=2)
    table.write([6], "prod/other/us/out", generation=2)  # other projects name theirs as they like
    table.write([7], "prod/p/fr/out", beside=["us/out", "eu/out"])
    assert table.ids() == [2, 3, 4, 5, 6, 7]
    assert told() == [once]


def test_of_pipelines_that_merge_into_one_table_nothing_is_said(table, told):
    for number, pipeline in enumerate(("us", "eu"), 1):
        table.write([1], f"prod/p/{pipeline}/out", generation=number, mode="upsert", keys=["id"])
    assert table.ids() == [1]
    assert told() == []


def test_the_same_sink_of_an_environment_of_another_name_is_refused(table):
    table.write([1], "prod/p/x/out")
    with pytest.raises(DataError, match="has rows of 'prod/p/x/out' for 2026-11-20") as caught:
        table.write([1], "production/p/x/out")
    assert "'production'" in str(caught.value)
    table.write([2], "production/p/x/out", renamed_from=["prod/p/x/out"])
    assert table.ids() == [2]


def test_under_an_earlier_name_too_a_run_for_all_days_is_told_from_one_for_a_day(table):
    table.write([1], "prod/p/x/old", day=None)
    with pytest.raises(DataError, match="has rows of 'old'"):
        table.write([1], "prod/p/x/new")
    with pytest.raises(DataError) as caught:
        table.write([1], "prod/p/x/new", renamed_from=["old"])
    assert caught.value.code == "rows-not-traceable"
    assert table.ids() == [1]


def test_rows_of_the_earlier_name_that_were_compacted_are_not_doubled(table):
    from deltalake import DeltaTable

    table.write([1], "prod/p/x/old")
    table.write([2], "prod/p/x/other", sinks=["old", "other"])
    DeltaTable(f"{table.environment.lake}/raw/out").optimize.compact()
    with pytest.raises(DataError) as caught:
        table.write([3], "prod/p/x/new", renamed_from=["old"])
    assert caught.value.code == "rows-not-traceable"
    assert table.ids() == [1, 2]


def test_merged_rows_stand_over_those_of_others_under_the_new_name_too(table):
    options = {"mode": "upsert", "keys": ["id"]}
    table.write([1, 2], "prod/p/x/old", **options)
    table.write([2, 3], "prod/p/x/old", day=NEXT, **options)
    with pytest.raises(DataError) as caught:  # what stood in the place of 2 is gone
        table.write([3], "prod/p/x/new", day=NEXT, generation=2, renamed_from=["old"], **options)
    assert caught.value.code == "values-replaced"
    table.write([3], "prod/p/x/new", day=NEXT, generation=2, renamed_from=["old"], withdrawn="delete", **options)
    assert table.ids() == [1, 3]
    table.write([], "prod/p/x/new", day=NEXT, generation=3, renamed_from=["old"], withdrawn="keep", **options)
    assert table.ids() == [1, 3]


def test_a_name_that_the_pipeline_still_has_is_no_earlier_one(table):
    for sinks, name in ((["a", "b"], "b"), (["a"], "a"), (["a", "b"], "prod/p/x/b")):
        with pytest.raises(ConfigurationError, match="is a sink of this pipeline now"):
            table.write([1], "prod/p/x/a", sinks=sinks, renamed_from=[name])


def test_a_table_that_knows_of_no_sinks_of_the_pipeline_asks_nothing(table):
    table.write([1], "prod/p/x/old")
    table.write([2], "prod/p/x/new", sinks=[])
    assert table.ids() == [1, 2]


@pytest.mark.parametrize("commits", [1, 12])
def test_a_table_in_a_store_tells_it_too(make_place, commits):
    place = make_place("s3")
    table = Table(Environment(lake=place.address, storage=place.storage()))
    for number in range(commits):
        table.write([number], "prod/p/x/old", day=f"2026-10-{number + 1:02}")
    with pytest.raises(DataError, match="has rows of 'old' for 2026-10-01"):
        table.write([0], "prod/p/x/new", day="2026-10-01", generation=2)
    table.write([100], "prod/p/x/new", day="2026-10-01", generation=2, renamed_from=["old"])
    assert table.ids() == [*range(1, commits), 100]
