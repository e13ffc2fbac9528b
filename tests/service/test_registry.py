"""The registry: the same content is the same version, releases in any order, and what ``aiflow deploy`` tells."""

import itertools
import json
import shutil
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aiflow_sdk.bundles.model import digest
from aiflow_sdk.cli import main
from aiflow_sdk.config import load_project
from aiflow_sdk.deployment import deploy_project, open_bundles, record_releases, roll_back_project
from aiflow_sdk.plugins import installed_registry
from aiflow_sdk.service import Service as Registry
from extent import WHOLE
from service_trial import Service, unique

PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="{id}", schedule="@daily", owner="{owner}")
def flow(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={{"dt": p.vars["run_date"]}}))
    sums = orders.sql("select user_id, {function}(amount) as amount from {{orders}} group by 1", id="sums")
    p.write(sums, sink.onelake(id="out", table="feature.{id}"))
"""


EMPTY = {
    "key": "k",
    "number": 1,
    "project": "p",
    "environment": "dev",
    "project_version": "v",
    "action": "deploy",
    "at": "2026-11-20T00:00:00Z",
    "pipelines": [],
}


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


def a_pipeline(root: Path, id: str = "daily", *, owner: str = "ana", function: str = "sum") -> None:
    write(root, f"pipelines/{id}.py", PIPELINE.format(id=id, owner=owner, function=function))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project that names no service yet."""
    write(
        tmp_path,
        "aiflow.toml",
        f'project = "{unique("shop")}"\nlock = "requirements.lock"\n\n[environments.dev]\nlake = ".aiflow/lake"\n',
    )
    write(tmp_path, "requirements.lock", "polars==2.1.0\naiflow-sdk==0.1.0\n")
    a_pipeline(tmp_path)
    a_pipeline(tmp_path, "other")
    return tmp_path


def name_service(root: Path, address: str) -> None:
    text = (root / "aiflow.toml").read_text()
    text = "\n".join(line for line in text.splitlines() if not line.startswith("service"))
    write(root, "aiflow.toml", f'{text}\nservice = "{address}"\n')


def deploy(root: Path, **options: Any) -> Any:
    project = load_project(root)
    report = deploy_project(project, project.environment(), installed_registry(), by="ana", **options)
    assert report.problems == ()
    return report.publication


def typed(capsys: Any, root: Path, *words: str, code: int = 0) -> Any:
    assert main(["-C", str(root), *words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def put(service: Service, path: str, data: Any) -> tuple[int, Any]:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    answer = service.request("PUT", f"/api/v1/{path}", body, {"Content-Type": "application/json"})
    return answer.status, answer.json()


def pipeline_of(service: Service, root: Path, name: str = "daily") -> dict[str, Any]:
    (found,) = service.get("/api/v1/pipelines", project=load_project(root).name, name=name)["items"]
    return found


def history(service: Service, root: Path, name: str = "daily") -> list[dict[str, Any]]:
    number = pipeline_of(service, root, name)["id"]
    return list(service.pages(f"/api/v1/pipelines/{number}/history", environment="dev", limit=2))


def versions_in(root: Path) -> list[dict[str, str]]:
    """Return the documents of what is deployed now."""
    store = open_bundles(load_project(root).environment())
    release = store.newest()
    shards = store.project(release.project_version).shards.values()
    entries = [entry for shard in shards for entry in store.shard(shard).values()]
    return [{"ir": store.read(one.ir).decode(), "plan": store.read(one.plan).decode()} for one in entries]


def test_a_deployment_is_recorded_with_its_commit_and_message(service: Service, root: Path, capsys: Any) -> None:
    name_service(root, service.address)
    git = ["git", "-C", str(root), "-c", "user.name=Ana", "-c", "user.email=ana@example.org"]
    write(root, ".gitignore", ".aiflow\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    typed(capsys, root, "deploy", "-m", "the first of all")
    a_pipeline(root, function="max")
    told = typed(capsys, root, "deploy", "-m", "greatest, not sum")
    assert told["notes"] == []
    first, second = history(service, root)[::-1]
    sha = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert (first["release"]["commit"], first["release"]["dirty"], first["changed"]) == (sha, False, "first")
    assert (second["release"]["commit"], second["release"]["dirty"]) == (sha, True)
    assert second["release"]["message"] == "greatest, not sum"
    assert second["changed"] == "changed"
    assert second["effect"] == "data"
    assert {one["node"] for one in second["differences"]} == {"sums"}
    assert [len(history(service, root, "other"))] == [1]
    current = pipeline_of(service, root)["current"]["dev"]
    assert current["version"] == second["version"]["version"]
    assert current["release"]["number"] == 2


def test_what_the_service_missed_is_told_by_the_next_deployment_or_by_sync(
    service: Service, root: Path, capsys: Any
) -> None:
    name_service(root, "http://127.0.0.1:9")
    told = typed(capsys, root, "deploy")
    assert told["published"] is True
    assert "cannot be reached" in told["notes"][-1]
    assert told["notes"][-1].endswith(" sync")
    a_pipeline(root, owner="bo")
    typed(capsys, root, "deploy")
    assert typed(capsys, root, "sync", code=1)["releases"]["why"]["code"] == "service-unreachable"
    name_service(root, service.address)
    assert typed(capsys, root, "sync")["releases"] == {"releases": 2, "versions": 3, "problems": [], "why": None}
    assert [one["changed"] for one in history(service, root)] == ["changed", "first"]
    assert history(service, root)[0]["effect"] == "description"
    assert typed(capsys, root, "sync")["releases"]["releases"] == 0


def test_history_and_diff_go_on_where_the_bundle_store_ends(service: Service, root: Path, capsys: Any) -> None:
    name_service(root, service.address)
    first = deploy(root, message="one").project_version
    a_pipeline(root, function="max")
    deploy(root, message="two")
    a_pipeline(root, function="min")
    deploy(root)
    project = load_project(root)
    environment = project.environment()
    store = open_bundles(environment)
    record_releases(Registry(environment), store, project.name)
    whole = typed(capsys, root, "history", "daily")
    # All but the newest release is gone.
    for number in (1, 2):
        store.store.delete([f"releases/{number:020}"])
    recalled = typed(capsys, root, "history", "daily")
    assert [one["release"]["number"] for one in recalled] == [3, 2, 1]
    assert [one["release"]["message"] for one in recalled] == [None, "two", "one"]
    assert [one["current"] for one in recalled] == [True, False, False]
    assert [one["changed"] for one in recalled] == ["changed", "changed", "first"]
    assert [one["version"] for one in recalled] == [one["version"] for one in whole]
    assert [one["differences"] for one in recalled] == [one["differences"] for one in whole]
    compared = typed(capsys, root, "diff", "daily", first[:10], "deployed")
    assert {one["node"] for one in compared["differences"]} == {"sums"}


def test_history_is_told_by_the_service_where_the_bundle_store_is_gone(
    service: Service, root: Path, capsys: Any
) -> None:
    name_service(root, service.address)
    deploy(root, message="one")
    a_pipeline(root, function="max")
    deploy(root, message="two")
    project = load_project(root)
    environment = project.environment()
    record_releases(Registry(environment), open_bundles(environment), project.name)
    whole = typed(capsys, root, "history", "daily")
    shutil.rmtree(str(open_bundles(environment).address).removeprefix("file://"))
    assert main(["-C", str(root), "history", "daily", "--json"]) == 0
    told = capsys.readouterr()
    assert [(one["release"]["message"], one["current"]) for one in json.loads(told.out)] == [
        (one["release"]["message"], one["current"]) for one in whole
    ]
    assert "what the metadata service has recorded" in told.err
    assert "did you mean 'daily'?" in typed(capsys, root, "history", "dayly", code=2)["error"]["hint"]
    name_service(root, "http://127.0.0.1:9")
    assert typed(capsys, root, "history", "daily", code=2)["error"]["code"] == "never-deployed"


def test_a_rollback_is_a_release_of_an_earlier_version(service: Service, root: Path, capsys: Any) -> None:
    name_service(root, service.address)
    first = deploy(root, message="good").project_version
    a_pipeline(root, function="max")
    (root / "pipelines" / "other.py").unlink()
    typed(capsys, root, "deploy")
    typed(capsys, root, "deploy", "--rollback", first[:12], "-m", "max was wrong")
    newest, middle, oldest = history(service, root)
    assert (newest["release"]["action"], newest["release"]["message"]) == ("rollback", "max was wrong")
    assert newest["version"] == oldest["version"] != middle["version"]
    assert [one["changed"] for one in history(service, root, "other")] == ["first", "removed", "first"]


def test_the_same_content_is_one_version_whoever_sends_it(service: Service, root: Path) -> None:
    deploy(root)
    documents = versions_in(root)
    status, first = put(service, "versions", {"versions": documents})
    assert status == 200
    assert [one["is_new"] for one in first["versions"]] == [True, True]
    status, again = put(service, "versions", {"versions": documents[::-1] + documents})
    assert [one["is_new"] for one in again["versions"]] == [False] * 4
    assert {one["version"] for one in again["versions"]} == {one["version"] for one in first["versions"]}
    number = pipeline_of(service, root)["id"]
    version = next(one for one in first["versions"] if one["pipeline"] == "daily")["version"]
    told = service.get(f"/api/v1/pipelines/{number}/versions/{version}")
    assert told["ir"] == json.loads(next(one["ir"] for one in documents if '"daily"' in one["ir"]))
    assert told["plan_document"]["version"] == version
    assert told["released"] is None


def test_releases_that_come_in_any_order_tell_the_same_history(service: Service, root: Path) -> None:
    made = []
    for function in ("sum", "max", "min"):
        a_pipeline(root, function=function)
        deploy(root)
        documents = versions_in(root)
        put(service, "versions", {"versions": documents})
        made.append(documents)
    project = load_project(root).name

    def release(number: int, documents: list[dict[str, str]], project: str) -> dict[str, Any]:
        plans = [(json.loads(one["plan"]), one) for one in documents]
        return {
            "key": f"{project}-{number}",
            "number": number,
            "project": project,
            "environment": "dev",
            "project_version": f"v{number}",
            "action": "deploy",
            "author": "ana",
            "at": f"2026-11-20T10:00:0{number}Z",
            "pipelines": [
                {
                    "project": plan["project"],
                    "pipeline": plan["pipeline_id"],
                    "ir": digest(one["ir"].encode()),
                    "plan": digest(one["plan"].encode()),
                }
                for plan, one in plans
            ],
        }

    # The third goes back to the first; the fourth drops a pipeline, which the fifth has again.
    daily_alone = [one for one in made[2] if json.loads(one["plan"])["pipeline_id"] == "daily"]
    contents = [made[0], made[1], made[0], daily_alone, made[2]]
    wanted = None
    for order in list(itertools.permutations(range(5)))[:: 7 if WHOLE else 17]:
        name = f"{project}-{uuid.uuid4().hex[:6]}"
        sent = [release(number, contents[number], name) for number in range(5)]
        for number in order:
            document = sent[number]
            assert put(service, "releases", document) == (200, {"status": "recorded"})
            assert put(service, "releases", document) == (200, {"status": "known"})
        told = {}
        for pipeline in ("daily", "other"):
            number = pipeline_of(service, root, pipeline)["id"]
            pages = service.pages(f"/api/v1/pipelines/{number}/history", environment="dev", limit=100)
            told[pipeline] = [
                (one["release"]["number"], one["version"] and one["version"]["plan"], one["changed"])
                for one in pages
                if one["release"]["project"] == name
            ]
        wanted = wanted or told
        assert {key: [row[:2] for row in rows] for key, rows in told.items()} == {
            key: [row[:2] for row in rows] for key, rows in wanted.items()
        }
    assert [row[0] for row in wanted["other"]] == [4, 3, 0]
    assert wanted["other"][1][1] is None
    assert [row[0] for row in wanted["daily"]] == [3, 2, 1, 0]


def test_a_release_whose_versions_are_missing_says_which(service: Service, root: Path) -> None:
    plan = "a" * 64
    status, told = put(
        service,
        "releases",
        {
            "key": "k",
            "number": 1,
            "project": load_project(root).name,
            "environment": "dev",
            "project_version": "v",
            "action": "deploy",
            "at": "2026-11-20T10:00:00Z",
            "pipelines": [{"project": "p", "pipeline": "q", "ir": "b" * 64, "plan": plan}],
        },
    )
    assert (status, told["code"], told["missing"]) == (409, "versions-missing", [plan])


@pytest.mark.parametrize(
    ("path", "data", "code"),
    [
        ("versions", b"{", "body-invalid"),
        ("versions", {"versions": [{"ir": "{}", "plan": "{}"}]}, "version-invalid"),
        ("versions", {"versions": [{"ir": "[" * 100_000, "plan": "{}"}]}, "version-invalid"),
        ("versions", {"versions": "x"}, "body-invalid"),
        ("versions", b'{"versions": [{"ir": "\\ud800", "plan": "{}"}]}', "body-invalid"),
        ("releases", {"key": "k\0"}, "body-invalid"),
        ("releases", {"key": "k", "at": "2026-11-20"}, "body-invalid"),
        ("releases", {**EMPTY, "at": "9999-11-20T00:00:00Z"}, "body-invalid"),
        ("releases", {**EMPTY, "commit": "not a commit"}, "body-invalid"),
        ("releases", {**EMPTY, "message": "m" * 5_000}, "body-invalid"),
        ("releases", b"\xff\xfe", "body-invalid"),
    ],
)
def test_what_is_no_version_or_release_is_refused_with_its_place(service, path, data, code) -> None:
    status, told = put(service, path, data)
    assert (status, told["code"]) == (422, code)
    assert told["place"].startswith("body")


def test_a_definition_of_another_plan_is_refused(service: Service, root: Path) -> None:
    deploy(root)
    one, other = versions_in(root)
    status, told = put(service, "versions", {"versions": [{"ir": one["ir"], "plan": other["plan"]}]})
    assert (status, told["code"], told["place"]) == (422, "version-invalid", "body/versions/0")


def test_a_folder_outside_a_repository_has_no_commit(root: Path) -> None:
    release = deploy(root, message="hello").release
    assert (release.note.message, release.note.commit, release.note.is_dirty) == ("hello", "", None)


def test_going_back_keeps_the_commit_of_what_it_goes_back_to(root: Path) -> None:
    first = deploy(root, message="one")
    a_pipeline(root, function="max")
    deploy(root)
    project = load_project(root)
    done = roll_back_project(project, project.environment(), first.project_version, by="eve", message="back")
    assert done.release.note == replace(first.release.note, message="back")
