"""Importing what authors write with, and asking for help, loads nothing heavy."""

import json
import subprocess
import sys

import pytest

DRIVERS = {"polars", "pyarrow", "pandas", "numpy", "duckdb", "deltalake", "pyspark", "pysail", "sqlglot", "rich"}
AUTHORING = "from aiflow_sdk import pipeline, source, sink, transform, resources, window, dataset"


def loaded(program: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has after the program."""
    tail = "import json, sys; print(); print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{tail}"], capture_output=True, text=True, timeout=120, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "program",
    [
        "import aiflow_sdk",
        "from aiflow_sdk import pipeline, source, sink",
        "from aiflow_sdk.dsl import pipeline, source, transform, sink, resources",
    ],
)
def test_authoring_imports_neither_drivers_nor_pydantic(program: str) -> None:
    assert not loaded(program) & (DRIVERS | {"pydantic", "click", "croniter", "sqlite3"})


@pytest.mark.parametrize(
    "program",
    [
        AUTHORING,
        "from aiflow_sdk.testing import run_pipeline",
        "from aiflow_sdk.discovery import discover, discover_pipelines",
        "from aiflow_sdk.compiler import compile_pipeline",
        "from aiflow_sdk.plugins import Source, Sink, Engine, Cluster, Listener, register_source",
        "import aiflow_sdk.local.supervisor, aiflow_sdk.local.store",
    ],
)
def test_what_is_imported_by_hand_brings_no_driver(program: str) -> None:
    assert not loaded(program) & DRIVERS


def test_a_pipeline_is_built_without_a_driver() -> None:
    program = f"""
{AUTHORING}

@pipeline(id="x", schedule="@daily")
def x(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={{"dt": p.vars["run_date"]}}))
    made = orders.transform(id="made", engine="spark", fn="jobs:main", resources=resources.spark(cluster="big"))
    p.write(made, sink.onelake(id="out", table="a.b", partition_by=["dt"]))

assert x().fingerprint
"""
    assert not loaded(program) & DRIVERS


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["backfill", "--help"], ["--version"]])
def test_help_needs_click_alone(arguments: list[str]) -> None:
    program = f"from aiflow_sdk.cli import main\nassert main({arguments!r}) == 0"
    assert not loaded(program) & (DRIVERS | {"pydantic", "croniter", "sqlite3"})


def test_the_connectors_and_engines_load_without_their_drivers() -> None:
    program = """
from aiflow_sdk.plugins import installed_registry
for family in installed_registry().families.values():
    for kind in family.kinds:
        family.get(kind)
"""
    assert not loaded(program) & DRIVERS
