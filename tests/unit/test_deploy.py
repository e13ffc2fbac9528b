"""A project is published whole or not at all, and what changed is told."""

import json
import textwrap
import threading
from pathlib import Path

import pytest

from aiflow_sdk.bundles import BundleStore, dag_id_of, shard_of
from aiflow_sdk.config import Project, load_project
from aiflow_sdk.deployment import DeployReport, deploy_project, open_bundles, roll_back_project
from aiflow_sdk.errors import ConfigurationError, Where
from aiflow_sdk.ir import read_pipeline
from aiflow_sdk.plan import read_plan
from aiflow_sdk.plugins import installed_registry

PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="{id}", schedule="@daily", owner="me"{more})
def flow(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={{"dt": p.vars["run_date"]}}))
    rich = orders.transform(id="enrich", engine="python", entrypoint="etl.enrich:main")
    p.write(rich, sink.onelake(id="out", table="feature.{id}", partition_by=["dt"]))
"""


def a_pipeline(id: str, more: str = "") -> str:
    return PIPELINE.format(id=id, more=more)


def write(root: Path, files: dict[str, str]) -> Project:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content), encoding="utf-8")
    return load_project(root)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return write(
        tmp_path / "shop",
        {
            "aiflow.toml": 'project = "shop"\nlock = "requirements.lock"\n',
            "requirements.lock": "polars==2.1.0\naiflow-sdk==0.1.0\naiflow-example-plugin==0.1.0\n"
            "aiflow-service==0.1.0\n",
            "pipelines/a.py": a_pipeline("a"),
            "pipelines/b.py": a_pipeline("b"),
            "etl/enrich.py": "def main(orders): ...\n",
        },
    )


def deploy(project: Project, **options) -> DeployReport:
    return deploy_project(project, project.environment(), installed_registry(), **options)


def changes(report: DeployReport) -> list[tuple[str, str]]:
    assert report.problems == ()
    return [(change.action, change.dag_id) for change in report.publication.changes]


def test_what_is_deployed_is_all_that_a_reader_needs(project, tmp_path):
    steps = []
    report = deploy(project, by="ana", progress=lambda step, done, of: steps.append(step))
    assert changes(report) == [("added", "shop.a"), ("added", "shop.b")]
    assert list(dict.fromkeys(steps)) == ["compile", "pack", "publish", "collect"]
    store = open_bundles(project.environment())
    release = store.newest()
    assert (release.by, release.project) == ("ana", "shop")
    document = store.project(store.bundle(release.version).projects["shop"])
    dag_id = dag_id_of("shop", "a")
    entry = store.shard(document.shards[shard_of(dag_id)])[dag_id]
    plan = read_plan(store.read(entry.plan))
    assert (plan.project, plan.pipeline_id, plan.environment.name) == ("shop", "a", "dev")
    assert read_pipeline(store.read(entry.ir)).id == "a"
    places = store.places(document.places[shard_of(dag_id)])[dag_id]
    assert places[""] == Where("pipelines/a.py", 4)
    assert places["enrich"].line == 7
    assert store.read(document.lock).decode().splitlines()[0] == "polars==2.1.0"
    assert (document.python, document.wheels) == ("3.11", ())
    (tmp_path / document.code.file).write_bytes(store.read(document.code.sha))


def test_only_what_changed_is_new(project):
    first = deploy(project)
    again = deploy(project)
    assert (again.publication.is_new, again.publication.version) == (False, first.publication.version)
    write(project.root, {"pipelines/b.py": a_pipeline("b", ", retries=7"), "pipelines/c.py": a_pipeline("c")})
    (project.root / "pipelines/a.py").unlink()
    told = deploy(project, dry=True)
    assert changes(told) == [("removed", "shop.a"), ("changed", "shop.b"), ("added", "shop.c")]
    assert open_bundles(project.environment()).newest() == first.publication.release
    done = deploy(project)
    assert (changes(done), done.publication.version) == (changes(told), told.publication.version)
    assert (done.publication.unchanged, done.publication.release.number) == (0, 2)


def test_code_that_no_pipeline_reaches_is_a_new_version_without_a_changed_pipeline(project):
    deploy(project)
    write(project.root, {"etl/notes.txt": "data"})
    report = deploy(project)
    assert (changes(report), report.publication.is_new, report.publication.unchanged) == ([], True, 2)


def test_the_same_project_elsewhere_is_the_same_version(project, tmp_path):
    other = write(
        tmp_path / "copy",
        {
            path.relative_to(project.root).as_posix(): path.read_text()
            for path in project.root.rglob("*")
            if path.is_file()
        },
    )
    mine, theirs = deploy(project).publication, deploy(other).publication
    store = open_bundles(project.environment())
    assert (
        store.project(mine.project_version).code
        == open_bundles(other.environment()).project(theirs.project_version).code
    )


def test_a_project_with_a_problem_is_not_published_and_all_are_told(project):
    deploy(project)
    write(
        project.root,
        {
            "pipelines/a.py": a_pipeline("a").replace("raw.orders", "raw-orders"),
            "pipelines/b.py": a_pipeline("b").replace("etl.enrich", "etl.gone"),
            "requirements.lock": "-r more.txt\n",
        },
    )
    report = deploy(project)
    assert report.publication is None
    assert {"unusable-lock", "unknown-function"} <= {problem.code for problem in report.problems}
    assert len(report.problems) >= 3
    assert open_bundles(project.environment()).newest().number == 1


def test_pipelines_that_airflow_could_not_tell_apart_are_refused(tmp_path):
    project = write(
        tmp_path,
        {
            "aiflow.toml": 'lock = "l.txt"\n',
            "l.txt": "aiflow-sdk==0.1.0\naiflow-example-plugin==1\n",
            "pipelines/a.py": a_pipeline("a.b").replace("feature.a.b", "feature.ab"),
            "pipelines/b.py": a_pipeline("b", ', project="a"').replace("feature.b", "feature.other"),
            "etl/enrich.py": "def main(orders): ...\n",
        },
    )
    (problem,) = deploy(project).problems
    assert problem.code == "duplicate-dag-id"
    write(tmp_path, {"pipelines/a.py": a_pipeline("a.c").replace("feature.a.c", "feature.ac")})
    assert changes(deploy(project)) == [("added", "a.b"), ("added", "a.c")]
    store = open_bundles(project.environment())
    document = store.project(store.newest().project_version)
    assert store.shard(document.shards[shard_of("a.b")])["a.b"].project == "a"


def test_a_rollback_brings_back_what_was(project):
    first = deploy(project)
    write(project.root, {"pipelines/c.py": a_pipeline("c")})
    deploy(project)
    done = roll_back_project(project, project.environment(), first.publication.project_version[:9], by="ben")
    assert (done.is_new, done.release.number, done.release.by) == (True, 3, "ben")
    assert done.release.version == first.publication.version
    again = roll_back_project(project, project.environment(), done.project_version)
    assert (again.is_new, again.release) == (False, done.release)
    assert changes(deploy(project)) == [("added", "shop.c")]


def test_two_deployments_at_once_leave_one_whole_version(project, tmp_path):
    other = write(
        tmp_path / "other",
        {
            "aiflow.toml": f'project = "other"\n[environments.dev]\nbundles = "{project.root}/.aiflow/bundles"\n',
            "pipelines/x.py": a_pipeline("x"),
            "etl/enrich.py": "def main(orders): ...\n",
        },
    )
    reports = []
    threads = [
        threading.Thread(target=lambda one=one: reports.append(deploy(one, progress=None))) for one in (project, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = open_bundles(project.environment())
    assert {*store.bundle(store.newest().version).projects} == {"shop", "other"}
    assert [one.number for one in store.releases()] == [2, 1]


def test_bundles_lie_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("AIFLOW_SECRET_KEY", "the key")
    text = """
        [environments.dev]
        bundles = "s3://company/bundles"
        bundles_storage = { region = "x", secret_access_key = "secret://key", access_key_id = "secret://key" }
        bundles_keep = 3
        [environments.prod]
        lake = "s3://company/lake"
        bundles = "s3://other"
        storage = { region = "x" }
        [environments.test]
        lake = "s3://company/test"
        storage = { region = "x" }
    """
    project = write(tmp_path, {"aiflow.toml": text})
    dev, prod, test = (project.environment(name) for name in ("dev", "prod", "test"))
    assert open_bundles(dev).address == "s3://company/bundles/dev"
    assert prod.bundles_root.storage == {"region": "x"}, "the same kind of store as the lake"
    assert (test.bundles_root.storage, test.bundles_root.address.path) == ({}, str(tmp_path / ".aiflow/bundles"))
    assert (dev.bundles_keep, prod.bundles_keep, prod.bundles_keep_days) == (3, 20, 30)
    assert isinstance(open_bundles(dev), BundleStore)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('bundles = "gs://x"', "gs://x"),
        ('bundles_storage = { regoin = "x" }\nbundles = "s3://x"', "regoin"),
        ('bundles_storage = { region = "x" }', "region"),
        ("bundles_keep = 0", "bundles_keep"),
        ("bundles_keep = 2.5", "bundles_keep"),
        ("bundles_keep_days = -1", "bundles_keep_days"),
    ],
)
def test_a_wrong_setting_is_told_with_its_line(tmp_path, line, said):
    with pytest.raises(ConfigurationError) as caught:
        write(tmp_path, {"aiflow.toml": f"[environments.dev]\n{line}\n"})
    assert said in str(caught.value)
    assert caught.value.where.line == 2 or caught.value.where.line == 3


def test_old_versions_go_after_a_deployment(project, monkeypatch):
    write(
        project.root,
        {"aiflow.toml": (project.root / "aiflow.toml").read_text() + "[environments.dev]\nbundles_keep = 2\n"},
    )
    project = load_project(project.root)
    for number in range(4):
        write(project.root, {"pipelines/a.py": a_pipeline("a", f", retries={number}")})
        deploy(project)
    folder = project.root / ".aiflow/bundles/dev/releases"
    for path in folder.iterdir():
        path.write_text(json.dumps({**json.loads(path.read_text()), "at": "2020-01-01T00:00:00+00:00"}))
    write(project.root, {"pipelines/a.py": a_pipeline("a", ", retries=9")})
    report = deploy(project)
    assert [release.number for release in report.collected.releases] == [3, 2, 1]
    assert sorted(path.name[-1] for path in folder.iterdir()) == ["4", "5"]
