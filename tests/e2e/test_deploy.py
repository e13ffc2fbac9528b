"""``aiflow deploy`` as a person uses it: publish, change one, publish again, look, go back; and what goes wrong."""

import json
import signal
import subprocess
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from projects import AIFLOW, aiflow

PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="{id}", schedule="@daily", owner="me")
def flow(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={{"dt": p.vars["run_date"]}}))
    rich = orders.transform(id="enrich", engine="python", entrypoint="etl.enrich:main")
    p.write(rich, sink.onelake(id="out", table="feature.{id}", partition_by=["dt"]))
"""


def a_project(root: Path, name: str, *ids: str, more: str = "") -> Path:
    for folder in ("pipelines", "etl"):
        (root / folder).mkdir(parents=True)
    (root / "aiflow.toml").write_text(f'project = "{name}"\n{more}')
    (root / "etl/enrich.py").write_text("def main(orders):\n    return orders\n")
    for one in ids:
        (root / f"pipelines/{one}.py").write_text(PIPELINE.format(id=one))
    return root


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return a_project(tmp_path / "shop", "shop", "orders", "users")


def change(project: Path, pipeline: str) -> None:
    path = project / f"pipelines/{pipeline}.py"
    path.write_text(path.read_text().replace('owner="me"', 'owner="you"'))


def released(project: Path) -> list[dict[str, Any]]:
    return json.loads(aiflow(project, "deploy", "--list", "--json").out)


def test_a_day_of_somebody_who_deploys(project):
    assert "aiflow deploy" in aiflow(project, "deploy", "--list").out
    dry = aiflow(project, "deploy", "--dry-run").out
    assert "nothing was published" in dry
    assert not (project / ".aiflow/bundles").exists()
    said = aiflow(project, "deploy").out
    assert "+ shop.orders" in said
    assert "2 added, 0 unchanged; release 1" in said
    assert "nothing changed" in aiflow(project, "deploy").out

    change(project, "users")
    (done,) = aiflow(project, "deploy", "--json").records
    assert done["pipelines"] == {
        "added": [],
        "changed": [{"id": "users", "dag_id": "shop.users"}],
        "removed": [],
        "unchanged": 1,
    }
    assert (done["published"], done["release"]["number"], done["problems"]) == (True, 2, [])
    assert done["objects"] <= 8, "a plan, an IR, a shard, its code, the project and the bundle"
    assert any(wheel.startswith("aiflow_sdk-") for wheel in done["wheels"])

    listed = aiflow(project, "deploy", "--list").out.splitlines()
    assert (len(listed), listed[1].startswith("*"), "deploy" in listed[2]) == (3, True, True)
    releases = released(project)
    first = releases[-1]["project_version"]

    back = aiflow(project, "deploy", "--rollback", first[:6]).out
    assert f"is at {first[:12]} in dev" in back
    assert "already" in aiflow(project, "deploy", "--rollback", first).out
    (again,) = aiflow(project, "deploy", "--json").records
    assert [one["id"] for one in again["pipelines"]["changed"]] == ["users"]
    assert again["version"] == done["version"]
    releases = released(project)
    assert [one["action"] for one in releases] == ["deploy", "rollback", "deploy", "deploy"]
    assert [one["current"] for one in releases] == [True, False, False, False]


def test_what_is_typed_wrongly(project):
    aiflow(project, "deploy")
    wrong = aiflow(project, "deploy", "--rollback", "3f2a3f2a", code=2)
    assert "error[unknown-release]" in wrong.err
    assert "no release of project 'shop'" in wrong.err
    assert aiflow(project, "deploy", "--list", "--dry-run", code=2).err
    assert "unknown environment 'prdo'" in aiflow(project, "deploy", "--env", "prdo", code=2).err
    (told,) = aiflow(project, "deploy", "--rollback", "zz", "--json", code=2).records
    assert told["error"]["code"] == "unknown-release"


def test_a_project_with_a_mistake_is_not_published(project):
    aiflow(project, "deploy")
    path = project / "pipelines/users.py"
    path.write_text(path.read_text().replace("etl.enrich", "etl.enrihc"))
    told = aiflow(project, "deploy", code=1)
    assert "error[unknown-function]" in told.err
    assert "1 error; nothing was published" in told.out
    releases = released(project)
    assert len(releases) == 1


def test_a_store_that_cannot_be_reached_or_written(tmp_path):
    storage = '{ endpoint = "http://127.0.0.1:9", allow_http = true, region = "x", access_key_id = "secret://k", '
    storage += 'secret_access_key = "secret://k", retry_seconds = 1, connect_timeout_seconds = 1 }'
    more = f'[environments.prod]\nlake = "lake"\nbundles = "s3://nowhere/b"\nbundles_storage = {storage}\n'
    project = a_project(tmp_path / "shop", "shop", "orders", more=more)
    told = aiflow(project, "deploy", "--env", "prod", code=1, AIFLOW_SECRET_K="geheim")
    assert "error[store-unavailable]" in told.err
    assert "geheim" not in told.err + told.out
    assert (
        "error[store-unavailable]"
        in aiflow(project, "deploy", "--env", "prod", "--list", code=1, AIFLOW_SECRET_K="x").err
    )
    (project / ".aiflow").mkdir(exist_ok=True)
    (project / ".aiflow/bundles").write_text("no folder")
    assert "error[store-not-writable]" in aiflow(project, "deploy", code=1).err


def test_deployments_of_two_projects_at_once_and_a_reader_between(tmp_path):
    more = f'[environments.dev]\nbundles = "{tmp_path}/bundles"\n'
    projects = [a_project(tmp_path / name, name, "one", "two", more=more) for name in ("left", "right")]
    failures = []

    def deploy_twice(root: Path) -> None:
        for owner in ("me", "you"):
            if owner == "you":
                change(root, "one")
            done = subprocess.run([*AIFLOW, "deploy"], cwd=root, capture_output=True, text=True, timeout=240)
            if done.returncode:
                failures.append(done.stdout + done.stderr)

    threads = [threading.Thread(target=deploy_twice, args=(root,)) for root in projects]
    for thread in threads:
        thread.start()
    seen = 0
    while any(thread.is_alive() for thread in threads):
        releases = released(projects[0])
        seen = max(seen, len(releases))
    for thread in threads:
        thread.join()
    assert failures == []
    releases = released(projects[0])
    assert [one["number"] for one in releases] == [4, 3, 2, 1]
    assert sorted(one["project"] for one in releases if one["current"]) == ["left", "right"]


def test_the_code_that_was_published_is_a_project_that_checks(project, tmp_path):
    from aiflow_sdk.bundles import BundleStore

    aiflow(project, "deploy")
    store = BundleStore.open(str(project / ".aiflow/bundles"), "dev")
    document = store.project(store.newest().project_version)
    wheel = tmp_path / document.code.file
    wheel.write_bytes(store.read(document.code.sha))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    (checked,) = aiflow(tmp_path / "unpacked", "check", "--json").records
    assert (checked["pipelines"], checked["problems"]) == (2, [])
    assert json.loads(store.read(store.newest().version))["projects"] == {"shop": store.newest().project_version}


def test_one_that_waits_says_so_and_leaves_nothing_when_it_is_ended(project):
    aiflow(project, "deploy")
    change(project, "users")
    (releases,) = (project / ".aiflow/bundles").rglob("releases")
    work = releases.parent / "work"
    work.mkdir(exist_ok=True)
    (work / "collecting-alive").touch()
    with subprocess.Popen([*AIFLOW, "deploy"], cwd=project, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert any("waiting for somebody who removes old versions" in line for line in process.stdout)
        assert list(work.glob("publishing-*"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
    assert [path.name for path in work.iterdir()] == ["collecting-alive"]
