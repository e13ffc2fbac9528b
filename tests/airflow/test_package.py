"""Airflow's side of aiflow as a package: what it says of itself, and what importing it costs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
HEAVY = ("polars", "pyarrow", "deltalake", "pysail", "pyspark", "pandas", "duckdb", "boto3", "obstore", "botocore")


def docs_rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_rules", ROOT / "tests/rules/test_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_everything_public_says_what_it_is_in_a_whole_sentence() -> None:
    rules = docs_rules()
    rules.SOURCES[:] = [source for source in rules.SOURCES if source.parent.name == "aiflow-airflow"]
    assert rules.SOURCES
    rules.test_everything_public_says_what_it_is_in_a_whole_sentence()


def test_what_a_shim_imports_brings_no_driver_and_no_engine() -> None:
    program = (
        "import sys, json; from aiflow_airflow import dag, operator, plugin, shims;"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(HEAVY) & set(json.loads(done.stdout.splitlines()[-1])) == set()


def test_airflows_side_imports_nothing_above_the_plugins() -> None:
    allowed = {
        "bundles",
        "channel",
        "code",
        "config",
        "errors",
        "ir",
        "lineage",
        "partitions",
        "place",
        "plan",
        "redaction",
        "stores",
        "variables",
    }
    found = set()
    for path in (ROOT / "packages/aiflow-airflow/src").rglob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"]) and words[1].startswith("aiflow_sdk"):
                found |= {words[1].split(".")[1] if "." in words[1] else f"{path.name}: {line}"}
    assert found <= allowed
