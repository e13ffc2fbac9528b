"""``aiflow history`` and ``aiflow diff``: what was deployed of a pipeline and how it changed, by the bundle store."""

import json
from pathlib import Path
from typing import Any

import pytest

from aiflow_sdk.cli import main
from aiflow_sdk.config import load_project
from aiflow_sdk.deployment import DeployedPipeline, deploy_project, open_bundles, roll_back_project
from aiflow_sdk.plugins import installed_registry

PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="{id}", schedule="@daily", owner="{owner}"{more})
def flow(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={{"dt": p.vars["run_date"]}}))
    rich = orders.transform(id="enrich", engine="python", entrypoint="etl.enrich:main")
    sums = rich.sql(\"\"\"select user_id,
      {function}(amount) as amount
    from {{enrich}} group by 1\"\"\", id="sums")
    p.write(sums, sink.onelake(id="out", table="feature.{id}"))
"""


def a_pipeline(id: str = "daily", *, owner: str = "ana", function: str = "sum", more: str = "") -> str:
    return PIPELINE.format(id=id, owner=owner, function=function, more=more)


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")


def a_project(root: Path) -> Path:
    write(
        root,
        {
            "aiflow.toml": 'project = "shop"\nlock = "requirements.lock"\n',
            "requirements.lock": "polars==2.1.0\naiflow-sdk==0.1.0\naiflow-example-plugin==0.1.0\n",
            "pipelines/daily.py": a_pipeline(),
            "pipelines/other.py": a_pipeline("other"),
            "etl/enrich.py": "def main(orders): ...\n",
        },
    )
    return root


def deploy(root: Path) -> str:
    project = load_project(root)
    report = deploy_project(project, project.environment(), installed_registry(), by="ana")
    assert report.problems == ()
    return report.publication.project_version


def typed(root: Path, *words: str) -> int:
    return main(["-C", str(root), *words])


@pytest.fixture(scope="module")
def root(tmp_path_factory: Any) -> Path:
    """A project that the tests only look at."""
    return a_project(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def deployed(root: Path) -> list[str]:
    """Three versions, of which the second changes another pipeline alone; then the first again."""
    versions = [deploy(root)]
    write(root, {"pipelines/other.py": a_pipeline("other", owner="bo")})
    versions.append(deploy(root))
    write(
        root, {"pipelines/daily.py": a_pipeline(owner="bo", function="max"), "etl/enrich.py": "def main(orders): 1\n"}
    )
    versions.append(deploy(root))
    project = load_project(root)
    roll_back_project(project, project.environment(), versions[0], by="eve")
    return versions


def test_the_history_is_of_one_pipeline_and_says_what_changed(root, deployed, capsys):
    assert typed(root, "history", "daily", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    heads = [
        (one["release"]["number"], one["release"]["action"], one["release"]["by"], one["current"], one["effect"])
        for one in found
    ]
    assert heads == [
        (4, "rollback", "eve", True, "data"),
        (3, "deploy", "ana", False, "data"),
        (1, "deploy", "ana", False, None),
    ]
    assert [one["changed"] for one in found] == ["changed", "changed", "first"]
    assert [(one["kind"], one.get("node")) for one in found[1]["differences"]] == [
        ("pipeline-changed", None),
        ("code-changed", "enrich"),
        ("node-changed", "sums"),
    ]
    assert found[0]["version"] == found[2]["version"]


def test_the_history_for_people_has_a_star_and_lines(root, deployed, capsys):
    assert typed(root, "history", "daily") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"* {deployed[0][:12]}  release 4  rollback by eve")
    assert any(line.split() == ["~", "description", "owner:", "'ana'", "→", "'bo'"] for line in lines)
    assert lines[-2].endswith("the oldest that is kept")
    assert lines[-1].endswith(f"diff daily {deployed[2][:12]} deployed")
    assert typed(root, "history", "daily", "--limit", "1") == 0
    assert "release 3" not in capsys.readouterr().out


def test_without_versions_the_folder_is_compared_with_what_is_deployed(root, deployed, capsys):
    assert typed(root, "diff", "daily") == 0
    out = capsys.readouterr().out
    assert "→ the project's folder" in out
    assert "~ rows         code of transform 'enrich': changed" in out
    assert "      +      max(amount) as amount" in out
    assert "3 differences: 2 can change rows, 1 what is said of it" in out


@pytest.mark.parametrize(("before", "after", "number"), [(0, "deployed", 0), (0, 1, 0), (0, 2, 3), (2, ".", 0)])
def test_two_versions_are_compared(root, deployed, capsys, before, after, number):
    asked = deployed[after][:10] if isinstance(after, int) else after
    assert typed(root, "diff", "daily", deployed[before][:10], asked, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["differences"]) == number
    assert found["before"]["release"]["project_version"] == deployed[before]
    assert (found["after"]["release"] is None) == (after == ".")


def test_a_pipeline_that_is_gone_and_comes_back_is_told(tmp_path, capsys):
    root = a_project(tmp_path)
    deploy(root)
    (root / "pipelines/daily.py").unlink()
    deploy(root)
    assert typed(root, "history", "daily", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found[0]["changed"], found[0]["version"], found[0]["current"]) == ("removed", None, False)
    assert typed(root, "diff", "daily") == 2
    assert "has no pipeline 'daily'" in capsys.readouterr().err
    write(root, {"pipelines/daily.py": a_pipeline()})
    deploy(root)
    assert typed(root, "history", "daily", "--json", "--limit", "1") == 0
    assert [one["changed"] for one in json.loads(capsys.readouterr().out)] == ["first"]


def test_a_pipeline_of_another_project_is_found(tmp_path, capsys):
    root = a_project(tmp_path)
    write(root, {"pipelines/daily.py": a_pipeline(more=', project="finance"')})
    deploy(root)
    assert typed(root, "diff", "daily") == 0
    assert "nothing differs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["diff", "daily", "0000"], "unknown-release", "known: "),
        (["diff", "daily", "deployde"], "unknown-release", "holds a version 'deployde'"),
        (["diff", "dialy"], "unknown-pipeline", "did you mean 'daily'?"),
        (["history", "dialy"], "unknown-pipeline", "did you mean 'daily'?"),
        (["diff", "daily", "--env", "dev-ana"], "never-deployed", "aiflow deploy --env dev-ana"),
        (["history", "daily", "--env", "dev-ana"], "never-deployed", "aiflow deploy --env dev-ana"),
        (["diff", "daily", "", "."], "unknown-release", "holds a version ''"),
        (["diff"], "bad-usage", "PIPELINE"),
    ],
)
def test_what_cannot_be_compared_is_told(root, deployed, capsys, words, code, said):
    assert typed(root, *words, "--json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == code
    assert said in json.dumps(error)


def test_nothing_is_changed_by_looking(root, deployed):
    store = open_bundles(load_project(root).environment())
    before = store.releases()
    DeployedPipeline(store, "shop", "daily").history()
    assert store.releases() == before
