"""A bundle in Azure: deployed there, read as Airflow's processes read it, rolled back, and away for a moment."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

import pytest
from aiflow_airflow.bundle import AiflowBundle
from aiflow_airflow.shims import dags_of, shim_name

from aiflow_sdk.bundles import shard_of
from aiflow_sdk.config import load_project
from aiflow_sdk.deployment import deploy_project, roll_back_project
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plugins import installed_registry

PIPELINE = """
from aiflow_sdk import pipeline

@pipeline(id="{id}")
def body(p):
    p.transform(id="work", engine="python", fn="etl:work", external=True)
"""


def test_a_bundle_in_azure_is_deployed_read_and_rolled_back(
    make_place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "machine"))
    place = make_place("azure")
    storage = place.storage()
    # As a deployment has it: the key is looked up where it is needed, by whoever deploys and by Airflow.
    monkeypatch.setenv("AIFLOW_SECRET_LAKE_KEY", storage["account_key"])
    stated = {**storage, "account_key": "secret://lake_key"}
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

    def deploy(pipeline: str) -> str:
        (root / "pipelines" / "made.py").write_text(PIPELINE.format(id=pipeline))
        project = load_project(root)
        report = deploy_project(project, project.environment("test"), installed_registry())
        assert not report.problems
        return report.publication.project_version

    def opened(version: str | None = None) -> AiflowBundle:
        bundle = AiflowBundle(
            store=place.address, environment="test", storage=stated, name="aiflow", version=version
        )
        bundle.initialize()
        return bundle

    def parsed(bundle: AiflowBundle, dag_id: str) -> set[str]:
        shim = bundle.path / shim_name(shard_of(dag_id))
        return set(dags_of(str(shim))) if shim.exists() else set()

    first = deploy("one")
    bundle = opened()
    began = bundle.get_current_version()
    assert began is not None
    assert parsed(bundle, "shop.one") == {"shop.one"}
    deploy("two")
    bundle.refresh()
    assert parsed(bundle, "shop.two") == {"shop.two"}
    # A run that has begun keeps its version, and finds it here.
    assert parsed(opened(began.version), "shop.one") == {"shop.one"}
    project = load_project(root)
    roll_back_project(project, project.environment("test"), first[:12])
    bundle.refresh()
    assert parsed(bundle, "shop.one") == {"shop.one"}
    assert bundle.get_current_version() == began
    for path in (bundle.path / "deployed.json", *bundle.base_dir.rglob("*")):
        assert not path.is_file() or storage["account_key"].encode() not in path.read_bytes()
    monkeypatch.setenv("AIFLOW_SECRET_LAKE_KEY", "bm9ib2R5")
    with pytest.raises(AiflowError):
        bundle.refresh()
    assert parsed(opened(), "shop.one") == {"shop.one"}
