"""How files are called whose path follows the run's time: one dataset for all days, with a part for each."""

import uuid
from typing import Any

import pytest
from openlineage.client.dataset import DatasetConfig, DatasetReducer
from openlineage.client.event_v2 import InputDataset

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.files import FilesSink, FilesSource
from aiflow_sdk.ir import DatasetName, FrozenMap
from aiflow_sdk.partitions import Partition
from aiflow_sdk.plan import PlanNode, Run
from aiflow_sdk.plugins import DatasetPart
from aiflow_sdk.runtime.rendering import TouchedDataset, render_options, touched_dataset
from aiflow_sdk.variables import canonicalise, render, run_facts

DAY = Partition("2026-11-20", "day", "UTC")
SPARK = "/company/lake/"


def named(path: str, **options) -> tuple[str, str] | None:
    found = FilesSource.dated({"path": canonicalise(path), **options})
    return (found.name.name, found.part) if found else None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/orders/dt={{ ds }}", "data/orders"),
        ("data/orders/dt={{ ds }}/", "data/orders"),
        ("data/orders/{{ ds_nodash }}", "data/orders"),
        ("data/orders/{{ ts.format('%Y%m%dT%H%M') }}Z", "data/orders"),
        ("orders/year={{ ds.format('%Y') }}/month={{ ds.format('%m') }}/day={{ ds.format('%d') }}", "orders"),
        ("data/orders/{{ ds.format('%Y/%m/%d') }}", "data/orders"),
        ("data/orders/{{ ds.format('%Y/%m') }}", "data/orders"),
        ("data/orders/{{ ds.format('%Y-%m') }}", "data/orders"),
        ("data/orders/dt={{ ds }}/hour={{ ts.format('%H') }}", "data/orders"),
        ("data/orders/dt=v2-{{ ds }}", "data/orders"),
        ("data/orders/{{ ds.format('dt=%Y-%m-%d') }}", "data/orders"),
        ("data/orders/dt={{ ds.offset(-1) }}", "data/orders"),
    ],
)
def test_what_the_time_decides_at_the_end_has_no_part_in_the_name_as_with_openlineage(path, name):
    assert named(path)[0] == name
    facts = run_facts(DAY, "r", "p")
    reducer = DatasetReducer(DatasetConfig())
    read = InputDataset(namespace="file", name=SPARK + render(path, facts))
    (reduced,) = reducer.reduce_inputs([read])
    assert reduced.name == SPARK + name
    assert render(named(path)[1], facts) == render(path, facts).removeprefix(f"{name}/").rstrip("/")


@pytest.mark.parametrize(
    ("path", "name", "part"),
    [
        ("exports/orders-{{ ds }}.csv", "exports/orders-{{ ds }}.csv", "{{ ds }}"),
        ("exports/orders-{{run_date}}.csv", "exports/orders-{{ ds }}.csv", "{{ ds }}"),
        ("in/{{ ds }}/orders.csv", "in/{{ ds }}/orders.csv", "{{ ds }}"),
        ("in/dt={{ ds }}/*.parquet", "in/dt={{ ds }}/*.parquet", "dt={{ ds }}"),
        ("in/{{ ds }}/{{ ds_nodash }}.csv", "in/{{ ds }}/{{ ds_nodash }}.csv", "{{ ds }}/{{ ds_nodash }}"),
        # Yesterday's file is of the same dataset as today's, however it is said.
        ("in/o-{{ ds.offset(-1) }}.csv", "in/o-{{ ds }}.csv", "{{ ds.offset(-1) }}"),
        (
            "in/o-{{ ts.format('%Y%m%d') }}.csv",
            "in/o-{{ ds_nodash }}.csv",
            "{{ data_interval_start.format('%Y%m%d') }}",
        ),
        (
            "in/o-{{ data_interval_end.format('%dT%H') }}.csv",
            "in/o-{{ data_interval_start.format('%dT%H') }}.csv",
            "{{ data_interval_end.format('%dT%H') }}",
        ),
        # One part stays.
        ("{{ ds }}", "{{ ds }}", "{{ ds }}"),
        ("/dt={{ ds }}", "/dt={{ ds }}", "dt={{ ds }}"),
        # Literal folders are no time.
        ("in/region=eu/dt={{ ds }}", "in/region=eu", "dt={{ ds }}"),
        ("in/dt={{ ds }}/region=eu", "in/dt={{ ds }}/region=eu", "dt={{ ds }}"),
    ],
)
def test_elsewhere_the_template_stands_in_the_name(path, name, part):
    assert named(path) == (name, part)


@pytest.mark.parametrize(
    "path", ["in/orders", "in/dt=2026-11-20", "in/{{ params.x }}/{{ ds }}", "{{ run_id }}/{{ ds }}"]
)
def test_what_the_time_does_not_decide_alone_is_named_by_the_run(path):
    assert named(path) is None


def test_files_of_the_lake_are_called_as_tables_there():
    assert FilesSink.dated({"path": "exports/orders/dt={{ ds }}"}) == DatasetPart(
        DatasetName("onelake", "exports.orders"), "dt={{ ds }}"
    )
    assert FilesSource.dated({"path": "exports/orders/dt={{ ds }}", "root": "lake"}) == FilesSink.dated(
        {"path": "./exports/orders/dt={{ ds }}"}
    )
    assert named("in/{{ ds }}", root="{{ params.root }}") is None


def touched(
    path: str,
    plugin: type[FilesSource] | type[FilesSink] = FilesSource,
    known: tuple[str, str] | None = None,
    options: dict[str, Any] | None = None,
    **params: str,
) -> TouchedDataset:
    """Return what a run for a day says; ``known``: the name that the plan has."""
    stated = {"path": path, "format": "csv", **(options or {})}
    node = PlanNode(id="n", type="source", kind="files", plugin="x:y", options=FrozenMap(stated), dataset=known)
    run = Run(
        run_id=str(uuid.UUID(int=1)),
        pipeline_id="p",
        project="default",
        environment="dev",
        partition_key="2026-11-20",
        partition_grain="day",
        params=FrozenMap(params),
    )
    rendered, _ = render_options(node, run, Environment())
    return touched_dataset(node, plugin.load(rendered, Environment()), run)


def test_a_param_in_the_path_is_a_part_of_the_name_that_the_run_tells():
    assert touched("in/{{ params.region }}/dt={{ ds }}", region="eu") == (
        ("file", "in/eu"),
        "dt=2026-11-20",
        "in/eu/dt=2026-11-20",
    )
    assert touched("in/{{ params.region }}", region="eu") == (("file", "in/eu"), None, None)


def test_the_location_is_the_path_also_where_a_table_would_be_called_otherwise():
    assert FilesSink(path="exports/2026-11-20").dataset() == ("onelake", "exports.2026-11-20")
    assert touched("exports/{{ ds }}", FilesSink) == (("onelake", "exports"), "2026-11-20", "exports/2026-11-20")


def test_a_param_that_looks_like_a_template_is_none():
    assert touched("in/{{ params.region }}/dt={{ ds }}", region="{{ run_id }}") == (
        ("file", "in/{{ run_id }}/dt=2026-11-20"),
        None,
        None,
    )


def test_a_name_that_the_plan_knows_is_the_runs_whatever_else_a_param_brings():
    told = touched(
        "in/{{ ds }}", known=("file", "in"), options={"null_values": ["{{ params.null }}"]}, null="{{ nothing }}"
    )
    assert told == (("file", "in"), "2026-11-20", "in/2026-11-20")
