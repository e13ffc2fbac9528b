"""A whole project is checked and compiled: every problem at once, and plans that are written only where they change."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from aiflow_sdk.code import path_of_others
from aiflow_sdk.config import Project, load_project
from aiflow_sdk.deployment import CheckReport, CompileReport, check_project, compile_project
from aiflow_sdk.errors import UnknownNameError
from aiflow_sdk.ir import read_pipeline
from aiflow_sdk.plan import Plan, read_plan
from aiflow_sdk.plugins import installed_registry

PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="{id}", schedule="@daily", owner="me"{more})
def flow(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={{"dt": p.vars["run_date"]}}))
    rich = orders.transform(id="enrich", engine="python", entrypoint="etl.{job}:main")
    p.write(rich, sink.onelake(id="out", table="feature.{id}", partition_by=["dt"]))
"""


def a_pipeline(id: str, job: str = "enrich", more: str = "") -> str:
    return PIPELINE.format(id=id, job=job, more=more)


def write(root: Path, files: dict[str, str]) -> Project:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content), encoding="utf-8")
    return load_project(root)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return write(
        tmp_path,
        {
            "aiflow.toml": 'project = "shop"\n[environments.prod]\nlake = "lake-of-prod"\n',
            "pipelines/a.py": a_pipeline("a"),
            "pipelines/b.py": a_pipeline("b", "clean"),
            "etl/enrich.py": "from etl import shared\ndef main(orders): ...\n",
            "etl/clean.py": "def main(orders): ...\n",
            "etl/shared.py": "",
        },
    )


def compile_(project: Project, environment: str = "dev", out: Path | None = None) -> CompileReport:
    return compile_project(project, project.environment(environment), installed_registry(), out)


def check(project: Project, only: str | None = None) -> CheckReport:
    return check_project(project, project.environment(), installed_registry(), only)


def changed(report: CompileReport) -> list[str]:
    return [item.id for item in report.pipelines if item.is_changed]


def plan_of(report: CompileReport, pipeline_id: str) -> Plan:
    (item,) = (item for item in report.pipelines if item.id == pipeline_id)
    return read_plan(item.path.read_bytes())


def test_a_table_of_two_pipelines_is_noted_with_both_places(project: Project) -> None:
    assert check(project).notes == ()
    twin = a_pipeline("twin").replace("feature.twin", "feature.a")
    write(project.root, {"pipelines/twin.py": twin})
    report = check(project)
    assert report.problems == ()
    (note,) = report.notes
    assert note == (
        "pipeline 'a' (pipelines/a.py:8) and pipeline 'twin' (pipelines/twin.py:8) write feature.a, "
        "and what one wrote another replaces"
    )
    # Where each leaves alone what it has no rows of, they may well share a table; of one pipeline alone nobody asks.
    assert check(project, "twin").notes == ()
    for name in ("a", "twin"):
        file = project.root / f"pipelines/{name}.py"
        file.write_text(file.read_text().replace("partition_by", 'mode="overwrite_partitions", partition_by'))
    assert check(project).notes == ()


def test_files_of_one_dataset_in_places_of_their_own_are_not_noted(project: Project) -> None:
    for name, place in (("c", "a={{ ds }}"), ("d", "b={{ ds }}")):
        table = f'sink.onelake(id="out", table="feature.{name}", partition_by=["dt"])'
        files = a_pipeline(name).replace(table, f'sink.files(id="out", path="exports/{place}")')
        write(project.root, {f"pipelines/{name}.py": files})
    assert check(project).notes == ()
    twin = (project.root / "pipelines/d.py").read_text().replace("b={{", "a={{")
    write(project.root, {"pipelines/d.py": twin})
    (note,) = check(project).notes
    assert "write exports, and what one wrote another replaces" in note


def test_each_pipeline_gets_a_plan_and_its_ir(project: Project) -> None:
    report = compile_(project)
    assert report.problems == ()
    assert report.folder == project.root / ".aiflow" / "compiled" / "dev"
    assert [(item.project, item.id, item.path) for item in report.pipelines] == [
        ("shop", name, report.folder / "shop" / name / "plan.json") for name in ("a", "b")
    ]
    plan = plan_of(report, "a")
    assert (plan.project, plan.pipeline_id, plan.environment.name) == ("shop", "a", "dev")
    ir = read_pipeline((report.folder / "shop" / "a" / "ir.json").read_bytes())
    assert (ir.id, ir.fingerprint) == ("a", plan.definition)


def test_what_did_not_change_is_neither_compiled_nor_written(project: Project) -> None:
    first = compile_(project)
    stamps = [os.stat(item.path).st_mtime_ns for item in first.pipelines]
    second = compile_(project)
    assert (changed(first), changed(second)) == (["a", "b"], [])
    assert [os.stat(item.path).st_mtime_ns for item in second.pipelines] == stamps
    shutil.rmtree(project.root / ".aiflow" / "cache")
    third = compile_(project)
    assert changed(third) == []
    assert [os.stat(item.path).st_mtime_ns for item in third.pipelines] == stamps


def test_an_edit_of_a_function_changes_the_plans_that_reach_it_and_in_them_its_node_alone(project: Project) -> None:
    before = plan_of(compile_(project), "a")
    write(project.root, {"etl/shared.py": "x = 1"})
    report = compile_(project)
    assert changed(report) == ["a"]
    after = plan_of(report, "a")
    assert before.version != after.version
    assert before.definition == after.definition
    assert {node for node in before.nodes if before.nodes[node] != after.nodes[node]} == {"enrich"}


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 100])
def test_a_damaged_memory_of_plans_is_made_anew(project: Project, damage: bytes) -> None:
    compile_(project)
    memory = project.root / ".aiflow/cache/plans.sqlite"
    memory.write_bytes(damage)
    assert changed(compile_(project)) == []
    compile_(project)
    assert memory.read_bytes().startswith(b"SQLite format 3")


def test_where_no_definition_changed_the_compiler_is_not_even_loaded(project: Project) -> None:
    program = """
import sys
from aiflow_sdk.cli import main
main(["-C", sys.argv[1], "--json", "compile"])
print(sorted({"pydantic", "aiflow_sdk.compiler"} & sys.modules.keys()), file=sys.stderr)
"""

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", program, project.root], capture_output=True, text=True, check=True)

    assert "aiflow_sdk.compiler" in run().stderr
    with (project.root / "pipelines/a.py").open("a") as file:
        file.write("# a remark\n")
    again = run()
    assert again.stderr.strip() == "[]"
    assert [one["changed"] for one in json.loads(again.stdout)["pipelines"]] == [False, False]


def test_plugins_that_are_installed_later_count(project: Project, tmp_path: Path, monkeypatch: Any) -> None:
    compile_(project)
    site = tmp_path / "site"
    (site / "later-1.0.dist-info").mkdir(parents=True)
    (site / "later-1.0.dist-info/entry_points.txt").write_text("[aiflow.sources]\nonelake = later:Other\n")
    (site / "later-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: later\nVersion: 1.0\n")
    (site / "later.py").write_text("")
    monkeypatch.syspath_prepend(site)
    assert {problem.code for problem in compile_(project).problems} == {"duplicate-plugin"}


def test_environments_have_plans_of_their_own(project: Project) -> None:
    compile_(project)
    prod = compile_(project, "prod")
    assert changed(prod) == ["a", "b"]
    assert plan_of(prod, "a").environment.lake == "lake-of-prod"
    write(project.root, {"aiflow.toml": 'project = "shop"\n[environments.prod]\nlake = "elsewhere"\n'})
    project = load_project(project.root)
    assert changed(compile_(project)) == []
    assert plan_of(compile_(project, "prod"), "a").environment.lake == "elsewhere"


def test_plans_that_were_deleted_or_edited_are_written_again(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = compile_(project, out=out)
    text = first.pipelines[0].path.read_bytes()
    first.pipelines[0].path.write_bytes(text.replace(b"raw.orders", b"raw.others"))
    first.pipelines[1].path.unlink()
    second = compile_(project, out=out)
    assert changed(second) == ["a", "b"]
    assert second.pipelines[0].path.read_bytes() == text


def test_a_plan_whose_pipeline_is_gone_is_removed(project: Project) -> None:
    folder = compile_(project).folder
    (folder / "shop" / "notes").mkdir()
    (folder / "shop" / "notes" / "mine.txt").touch()
    (project.root / "pipelines" / "b.py").unlink()
    write(project.root, {"pipelines/c.py": "1 / 0"})
    assert compile_(project).removed == (), "a module that fails may be the one that defines it"
    (project.root / "pipelines" / "c.py").unlink()
    report = compile_(project)
    assert report.removed == ("shop/b",)
    assert sorted(path.name for path in (folder / "shop").iterdir()) == ["a", "notes"]


def test_a_pipeline_with_a_problem_is_told_and_the_others_are_compiled(project: Project) -> None:
    old = compile_(project).folder / "shop" / "a" / "plan.json"
    content = old.read_bytes()
    write(
        project.root,
        {"pipelines/a.py": a_pipeline("a", "enrihc"), "pipelines/b.py": a_pipeline("b", "clean", ", tags=['x']")},
    )
    report = compile_(project)
    assert changed(report) == ["b"]
    (problem,) = report.problems
    assert (problem.code, problem.hint) == ("unknown-function", "did you mean 'etl.enrich'?")
    assert problem.where
    assert (problem.where.path, problem.where.line) == ("pipelines/a.py", 7)
    assert old.read_bytes() == content
    assert compile_(project).problems[0].to_dict() == problem.to_dict()


def test_a_project_name_cannot_lead_out_of_the_folder(project: Project, tmp_path: Path) -> None:
    write(
        project.root,
        {
            "pipelines/a.py": a_pipeline("a", more=", project='../../x'"),
            "pipelines/b.py": a_pipeline("b", more=", project='..'"),
        },
    )
    out = tmp_path / "one" / "two" / "three"
    report = compile_(project, out=out)
    assert {problem.code for problem in report.problems} <= {"bad-id"}
    assert all(item.path.resolve().is_relative_to(out) for item in report.pipelines)
    assert list(tmp_path.glob("**/x")) == []


def test_no_half_written_file_is_left(project: Project) -> None:
    report = compile_(project)
    names = {path.name for path in report.folder.rglob("*") if path.is_file()}
    assert names == {"plan.json", "ir.json"}
    assert all(json.loads(path.read_bytes()) for path in report.folder.rglob("*.json"))


def test_a_check_tells_every_problem_and_writes_no_plan(project: Project) -> None:
    assert (check(project).pipelines, check(project).problems) == (2, ())
    write(
        project.root,
        {
            "pipelines/b.py": a_pipeline("b", "claen", ", retries=-1"),
            "pipelines/c.py": "\n1 / 0",
            "pipelines/d.py": a_pipeline("d", "nope").replace('onelake(id="orders"', 'onelak(id="orders"'),
            "pipelines/e.py": a_pipeline("e", "nope"),
        },
    )
    report = check(project)
    assert (report.pipelines, report.failed) == (5, 4)
    assert {problem.where.path for problem in report.problems if problem.where} == {
        f"pipelines/{name}.py" for name in "bcde"
    }
    assert all(problem.where and problem.where.line for problem in report.problems)
    assert not (project.root / ".aiflow" / "compiled").exists()


def test_one_pipeline_can_be_checked_alone(project: Project) -> None:
    write(project.root, {"pipelines/bad.py": "1 / 0", "pipelines/worse.py": a_pipeline("worse", more=", retries=-1")})
    assert (check(project, "a").pipelines, check(project, "a").problems) == (1, ())
    assert check(project, "shop/a").problems == ()
    worse = check(project, "worse")
    assert (worse.pipelines, worse.failed) == (1, 1)
    assert all("'worse'" in str(problem.where) for problem in worse.problems)
    with pytest.raises(UnknownNameError) as caught:
        check(project, "aa")
    assert caught.value.code == "unknown-pipeline"


def test_an_unstable_pipeline_is_not_compiled(project: Project) -> None:
    more = ", description=','.join({'p', 'q', 'r', 's', 't', 'u'})"
    write(project.root, {"pipelines/a.py": a_pipeline("a", more=more)})
    report = compile_(project)
    assert [problem.code for problem in report.problems] == ["unstable-pipeline"]
    assert [item.id for item in report.pipelines] == ["b"]


def test_a_plugin_of_the_projects_own_belongs_to_the_plan(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(project.root))
    plugin = """
        from aiflow_sdk import register_source
        from aiflow_sdk.plugins import DatasetName, Source
        LIMIT = 1
        @register_source("deployment_rss")
        class Rss(Source):
            url: str
            def dataset(self): return DatasetName("rss", self.url)
            def scan(self, request): yield from ()
    """
    reading = 'source.onelake(id="orders", table="raw.orders", partitions={"dt": p.vars["run_date"]})'
    text = a_pipeline("a").replace(reading, 'source.deployment_rss(id="orders", url="x")')
    assert text != a_pipeline("a")
    write(project.root, {"deployment_plugins.py": plugin, "pipelines/a.py": text.replace(', partition_by=["dt"]', "")})
    report = compile_(project)
    assert report.problems == ()
    assert plan_of(report, "a").nodes["orders"].plugin == "deployment_plugins:Rss"
    assert changed(compile_(project)) == []


def test_a_thousand_unchanged_pipelines_are_quick(tmp_path: Path) -> None:
    text = "from aiflow_sdk import pipeline, sink, source\n"
    for number in range(300):
        text += a_pipeline(f"p{number}").replace("def flow", f"def flow{number}").partition("source\n")[2]
    project = write(tmp_path, {"pipelines/all.py": text, "etl/enrich.py": "def main(orders): ..."})
    began = time.process_time()
    assert len(changed(compile_(project))) == 300
    cold = time.process_time() - began
    began = time.process_time()
    assert changed(compile_(project)) == []
    assert time.process_time() - began < cold / 4


@pytest.mark.parametrize("out", [None, "build/plans"])
def test_a_project_without_pipelines_has_no_plans(project: Project, out: str | None) -> None:
    folder = project.root / out if out else None
    more = ', project="ads"'
    write(project.root, {"pipelines/a.py": a_pipeline("a", more=more)})
    report = compile_(project, out=folder)
    assert [(item.project, item.id) for item in report.pipelines] == [("ads", "a"), ("shop", "b")]
    stranger = report.folder / "elsewhere" / "x" / "plan.json"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("{}")
    (project.root / "pipelines" / "a.py").write_text("")
    assert compile_(project, out=folder).removed == ("ads/a",)
    (project.root / "pipelines" / "b.py").write_text("")
    assert compile_(project, out=folder).removed == ("shop/b",)
    assert sorted(report.folder.rglob("*.json")) == [stranger]


def test_plans_of_the_project_are_removed_though_nothing_is_remembered(project: Project) -> None:
    report = compile_(project)
    shutil.rmtree(project.root / ".aiflow" / "cache")
    for name in ("a", "b"):
        (project.root / "pipelines" / f"{name}.py").unlink()
    assert compile_(project).removed == ("shop/a", "shop/b")
    assert list(report.folder.iterdir()) == []


PLUGIN = """
import os, sys
print("loud"); os.system("echo louder"); sys.stderr.write("loudest")
{more}
from aiflow_sdk import register_source
from aiflow_sdk.plugins import DatasetName, Source
@register_source("{kind}")
class Rss(Source):
    url: str
    def dataset(self): return DatasetName("rss", self.url)
    def scan(self, request): yield from ()
"""


def a_plugin(kind: str, more: str = "") -> dict[str, str]:
    reading = 'source.onelake(id="orders", table="raw.orders", partitions={"dt": p.vars["run_date"]})'
    text = a_pipeline("a").replace(reading, f'source.{kind}(id="orders", url="x")').replace(', partition_by=["dt"]', "")
    return {f"{kind}.py": PLUGIN.format(kind=kind, more=more), "pipelines/a.py": text}


def test_a_plugins_module_is_imported_in_children_alone_and_what_it_prints_is_not_seen(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    write(project.root, a_plugin("loud_rss"))
    path = list(sys.path)
    assert check(project).problems == ()
    report = compile_(project)
    assert report.problems == ()
    assert plan_of(report, "a").nodes["orders"].plugin == "loud_rss:Rss"
    assert "loud_rss" not in sys.modules
    assert sys.path == path
    assert capfd.readouterr() == ("", "")


def test_what_is_wrong_with_an_own_plugins_options_has_its_place(project: Project) -> None:
    files = a_plugin("strict_rss")
    write(project.root, {**files, "pipelines/a.py": files["pipelines/a.py"].replace("url=", "ulr=")})
    wrong = {problem.code: problem for problem in check(project).problems}
    assert set(wrong) == {"unknown-option", "missing-option"}
    assert str(wrong["unknown-option"].where) == "pipelines/a.py:6, pipeline 'a', node 'orders'"
    assert wrong["unknown-option"].hint == "did you mean 'url'?"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("raise ValueError('not here')", "not here"),
        ("os._exit(3)", "their process ended"),
        ("import time; time.sleep(60)", "no answer within 5 seconds"),
    ],
)
def test_a_plugins_module_that_cannot_be_imported_to_compile_is_told(project: Project, more: str, said: str) -> None:
    files = a_plugin("moody_rss", f"if 'aiflow_sdk.workspace' in sys.modules: {more}")
    files["pipelines/c.py"] = files["pipelines/a.py"].replace('id="a"', 'id="c"').replace("feature.a", "feature.c")
    write(project.root, {**files, "aiflow.toml": 'project = "shop"\ndiscovery_timeout_seconds = 5\n'})
    report = compile_(load_project(project.root))
    for problem in report.problems:
        assert (problem.code, problem.where and problem.where.path) == ("broken-plugin", "moody_rss.py")
        assert said in str(problem)
    assert [item.id for item in report.pipelines] == ["b"]
    assert len(report.problems) == 2


def test_the_plugin_of_another_interpreters_project_is_imported_there(project: Project) -> None:
    other = project.root / "other-python"
    other.write_text(f'#!/bin/sh\nPYTHONPATH="{os.pathsep.join(path_of_others())}" exec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    toml = 'project = "shop"\npython = "other-python"\n'
    write(project.root, {**a_plugin("far_rss"), "aiflow.toml": toml})
    report = compile_(load_project(project.root))
    assert report.problems == ()
    assert [item.id for item in report.pipelines] == ["a", "b"]
    assert "far_rss" not in sys.modules
