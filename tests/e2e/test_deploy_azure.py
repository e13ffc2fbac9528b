"""A bundle in Azure: deployed there, read as Airflow's processes read it, rolled back, and out of reach."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiflow_sdk.bundles import shard_of
from projects import aiflow

ROOT = Path(__file__).parents[2]
PIPELINE = """
from aiflow_sdk import pipeline

@pipeline(id="{id}")
def body(p):
    p.transform(id="work", engine="python", fn="etl:work", external=True)
"""
READER = """
import json, os, sys
from aiflow_airflow.bundle import AiflowBundle
from aiflow_airflow.shims import dags_of

address, storage = sys.argv[1], json.loads(sys.argv[2])
for line in sys.stdin:
    asked = json.loads(line)
    os.environ["AIFLOW_SECRET_KEY_OF_THE_STORE"] = asked["key"]
    bundle = AiflowBundle(
        store=address, environment="test", storage=storage, name="aiflow", version=asked.get("version")
    )
    bundle.initialize()
    shims = [bundle.path / f"aiflow_{shard}.py" for shard in asked["shards"]]
    dags = sorted(dag for shim in shims if shim.exists() for dag in dags_of(str(shim)))
    print(json.dumps({"version": bundle.get_current_version().version, "dags": dags}), flush=True)
"""
Read = Callable[..., dict[str, Any]]


@pytest.fixture
def place(make_place):
    return make_place("azure")


@pytest.fixture
def stated(place, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The store's options as people write them: the key is looked up where it is needed."""
    monkeypatch.setenv("AIFLOW_SECRET_KEY_OF_THE_STORE", place.storage()["account_key"])
    return {**place.storage(), "account_key": "secret://key_of_the_store"}


@pytest.fixture
def shop(tmp_path: Path, place, stated: dict[str, str]) -> Path:
    root = tmp_path / "shop"
    (root / "pipelines").mkdir(parents=True)
    (root / "pipelines" / "__init__.py").touch()
    (root / "etl.py").write_text("def work():\n    return None\n")
    (root / "requirements.txt").touch()
    options = ", ".join(f'{name} = "{value}"' for name, value in stated.items())
    (root / "aiflow.toml").write_text(
        f'project = "shop"\nlock = "requirements.txt"\n[environments.test]\nbundles = "{place.address}"\n'
        f"bundles_storage = {{ {options} }}\n"
    )
    return root


@pytest.fixture
def read(place, stated: dict[str, str], tmp_path: Path) -> Iterator[Read]:
    """A function that opens the bundle in Airflow's environment, and tells its version and its DAGs."""
    variables = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    variables["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH"] = str(tmp_path / "machine")
    with subprocess.Popen(
        [str(ROOT / ".venv-airflow" / "bin" / "python"), "-c", READER, place.address, json.dumps(stated)],
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:

        def ask(key: str = place.storage()["account_key"], **asked: str) -> dict[str, Any]:
            assert reader.stdin is not None
            assert reader.stdout is not None
            shards = sorted({shard_of("shop.one"), shard_of("shop.two")})
            reader.stdin.write(json.dumps({"key": key, "shards": shards, **asked}) + "\n")
            reader.stdin.flush()
            while not (line := reader.stdout.readline()).startswith("{"):
                assert line  # else it has ended
            found: dict[str, Any] = json.loads(line)
            return found

        yield ask


def deploy(shop: Path, pipeline: str) -> None:
    (shop / "pipelines" / "made.py").write_text(PIPELINE.format(id=pipeline))
    aiflow(shop, "deploy", "--env", "test")


def test_a_bundle_in_azure_is_deployed_read_and_rolled_back(shop: Path, read: Read, place, tmp_path: Path):
    deploy(shop, "one")
    began = read()
    assert began["dags"] == ["shop.one"]
    deploy(shop, "two")
    assert read()["dags"] == ["shop.two"]
    # A run that has begun keeps its version, and finds it.
    assert read(version=began["version"]) == began
    releases = json.loads(aiflow(shop, "--json", "deploy", "--env", "test", "--list").out)
    (first,) = [one for one in releases if one["number"] == 1]
    aiflow(shop, "deploy", "--env", "test", "--rollback", first["project_version"])
    assert read() == began
    # The store does not let us in any more, and what is here is used.
    assert read(key="bm9ib2R5") == began
    key = place.storage()["account_key"].encode()
    assert not [path for path in (tmp_path / "machine").rglob("*") if path.is_file() and key in path.read_bytes()]
