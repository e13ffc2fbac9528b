"""Pipelines are found in a child process, and what is wrong with one module is told of that one alone."""

import logging
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from aiflow_sdk.code import enter_project
from aiflow_sdk.config import Project, load_project
from aiflow_sdk.discovery import Discovery, discover, discover_here, discover_pipelines
from aiflow_sdk.errors import AiflowError, ConfigurationError, UnknownNameError

PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="{id}", schedule="@daily", owner={owner})
def flow(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={{"dt": p.vars["run_date"]}}))
    rich = orders.transform(id="enrich", engine="python", entrypoint="etl.enrich:main")
    p.write(rich, sink.onelake(id="out", table="feature.{id}", partition_by=["dt"]))
"""


def a_pipeline(id: str, owner: str = '"me"') -> str:
    return PIPELINE.format(id=id, owner=owner)


def write(root: Path, files: dict[str, str | bytes]) -> Project:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else textwrap.dedent(content).encode())
    return load_project(root)


def ids(discovery: Discovery) -> list[str]:
    return [pipeline.id for pipeline in discovery.pipelines]


def told(discovery: Discovery) -> list[tuple[str, str]]:
    return [(problem.code, str(problem.where).partition(",")[0]) for problem in discovery.problems]


def test_every_module_below_the_package_is_found(tmp_path: Path) -> None:
    project = write(
        tmp_path,
        {
            "pipelines/__init__.py": "",
            "pipelines/b.py": a_pipeline("b"),
            "pipelines/a.py": a_pipeline("a1") + a_pipeline("a2").replace("def flow", "def other"),
            "pipelines/nested/deep/n.py": a_pipeline("n"),
            "pipelines/größe.py": a_pipeline("groesse"),
            "pipelines/crlf.py": b"\xef\xbb\xbf" + a_pipeline("crlf").replace("\n", "\r\n").encode(),
            "pipelines/test_b.py": "1 / 0",
            "pipelines/tests/x.py": "1 / 0",
            "pipelines/__main__.py": "1 / 0",
            "pipelines/not-a-name.py": "1 / 0",
            "etl/enrich.py": "1 / 0",
        },
    )
    discovery = discover(project)
    assert ids(discovery) == ["a1", "a2", "b", "crlf", "groesse", "n"]
    assert discovery.problems == ()
    assert [note.split()[0] for note in discovery.notes] == ["pipelines/not-a-name.py"]
    first = discovery.pipelines[0]
    assert (first.path, first.line, first.module) == ("pipelines/a.py", 4, "pipelines.a")
    assert first.ir.nodes["enrich"].entrypoint == "etl.enrich:main"
    assert first.ir.fingerprint == first.fingerprint
    assert first.ir.to_json() == first.ir_json
    assert first.locations["enrich"].path == "pipelines/a.py"
    assert first.locations["enrich"].line == 7


def test_a_module_that_goes_wrong_is_told_by_itself_and_the_others_come_through(tmp_path: Path) -> None:
    project = write(
        tmp_path,
        {
            "aiflow.toml": "discovery_timeout_seconds = 2",
            "pipelines/a_first.py": a_pipeline("first"),
            "pipelines/b_fails.py": "import lib.broken\n",
            "lib/broken.py": "x = 1\ny = 1 / 0\n",
            "pipelines/c_hangs.py": "import time\n\ndef wait():\n    while True:\n        time.sleep(0.05)\n\nwait()\n",
            "pipelines/d_exits.py": "import sys\nsys.exit(3)\n",
            "pipelines/e_ends.py": "import os\n\nos._exit(0)\n",
            "pipelines/f_faults.py": "import ctypes\n\nctypes.string_at(0)\n",
            "pipelines/g_syntax.py": "x = 1\ndef f(:\n",
            "pipelines/h_missing.py": "\nimport no_such_package_anywhere\n",
            "pipelines/i_interrupts.py": "\nraise KeyboardInterrupt\n",
            "pipelines/j_partly.py": a_pipeline("fine") + a_pipeline("bad").replace("flow(p):", "bad(p):\n    {}['x']"),
            "pipelines/k_wrong.py": a_pipeline("wrong").replace('engine="python"', "engine=3"),
            "pipelines/l_again.py": a_pipeline("first"),
            "pipelines/m_recursion.py": "def f():\n    f()\nf()\n",
            "pipelines/z_last.py": a_pipeline("last"),
        },
    )
    discovery = discover(project)
    assert ids(discovery) == ["first", "fine", "last"]
    places = told(discovery)
    assert places[:8] == [
        ("module-failed", "lib/broken.py:2"),
        ("module-timeout", "pipelines/c_hangs.py:5"),
        ("module-failed", "pipelines/d_exits.py:2"),
        ("module-crashed", "pipelines/e_ends.py:3"),
        ("module-crashed", "pipelines/f_faults.py:3"),
        ("module-failed", "pipelines/g_syntax.py:2"),
        ("module-failed", "pipelines/h_missing.py:2"),
        ("module-failed", "pipelines/i_interrupts.py:2"),
    ]
    assert ("build-failed", "pipelines/j_partly.py:14") in places
    assert any(place.startswith("pipelines/k_wrong.py:") for _, place in places)
    assert ("module-failed", "pipelines/m_recursion.py:2") in places
    assert places[-1] == ("duplicate-pipeline", "pipelines/l_again.py:4")
    assert "pipelines/a_first.py:4" in str(discovery.problems[-1])
    assert all(problem.hint for problem in discovery.problems if problem.code.startswith("module-c"))


def test_a_failed_import_tells_the_users_lines_alone(tmp_path: Path) -> None:
    project = write(tmp_path, {"pipelines/a.py": "import lib\n", "lib.py": "import time\ntime.time()\nx = 1 / 0\n"})
    (problem,) = discover(project).problems[-1:]
    assert problem.notes[0].startswith("Traceback")
    assert problem.notes[-1] == "ZeroDivisionError: division by zero"
    assert not any("aiflow_sdk" in note or "importlib" in note for note in problem.notes)


def test_prints_do_no_harm_and_are_noted(tmp_path: Path) -> None:
    text = "import os, sys\nprint('hello')\nos.system('echo from a shell')\nos.write(1, b'raw')\nsys.stdout.close()\n"
    project = write(tmp_path, {"pipelines/a.py": text + a_pipeline("a"), "pipelines/b.py": a_pipeline("b")})
    discovery = discover(project)
    assert ids(discovery) == ["a", "b"]
    (note,) = discovery.notes
    assert all(part in note for part in ("pipelines/a.py", "hello", "from a shell", "raw"))


HALVES = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="owner", schedule=None, owner="\\ud800")
def owner(p):
    p.write(p.read(source.files(id="a", path="a.csv")), sink.onelake(id="b", table="a.b"))

@pipeline(id="time", schedule="0 3 * * *\\udcff", owner="me")
def time(p):
    p.write(p.read(source.files(id="a", path="a.csv")), sink.onelake(id="b", table="a.b"))

@pipeline(id="query", schedule=None, owner="me")
def query(p):
    a = p.read(source.files(id="a", path="a.csv"))
    p.write(p.sql("select '\\udfff' from {a}", a, id="q"), sink.onelake(id="b", table="a.b"))
"""


def test_half_a_character_is_told_of_where_it_stands_and_hides_no_other_pipeline(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"pipelines/a.py": HALVES + a_pipeline("sound"), "pipelines/b.py": a_pipeline("b")}
    discovery = discover(write(tmp_path, files), twice=True)
    assert ids(discovery) == ["sound", "b"]
    assert [(problem.code, problem.where and problem.where.about) for problem in discovery.problems] == [
        ("not-plain-data", "pipeline 'owner'"),
        ("bad-schedule", "pipeline 'time'"),
        ("not-plain-data", "pipeline 'query', node 'q'"),
    ]


def test_what_imports_leaves_the_processor_to_what_compiles(tmp_path: Path) -> None:
    text = "import os\nprint('nice', os.nice(0))\n"
    (note,) = discover(write(tmp_path, {"pipelines/a.py": text + a_pipeline("a")})).notes
    assert f"nice {min(os.nice(0) + 3, 19)}" in note


def test_what_a_module_starts_does_not_outlive_discovery(tmp_path: Path) -> None:
    text = "import subprocess\nopen('pid.txt', 'w').write(str(subprocess.Popen(['sleep', '600']).pid))\n"
    discovery = discover(write(tmp_path, {"pipelines/a.py": text + a_pipeline("a")}))
    assert ids(discovery) == ["a"]
    state = Path(f"/proc/{(tmp_path / 'pid.txt').read_text()}/stat")
    patience = time.monotonic() + 5
    while state.exists() and state.read_text().split()[2] not in "ZX" and time.monotonic() < patience:
        time.sleep(0.01)
    assert not state.exists() or state.read_text().split()[2] in "ZX"


def test_threads_and_exit_handlers_do_not_hold_up_discovery(tmp_path: Path) -> None:
    text = "import atexit, threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n"
    text += "atexit.register(time.sleep, 60)\n"
    began = time.monotonic()
    assert ids(discover(write(tmp_path, {"pipelines/a.py": text + a_pipeline("a")}))) == ["a"]
    assert time.monotonic() - began < 30


def test_a_pipeline_that_another_module_imports_is_one_pipeline(tmp_path: Path) -> None:
    project = write(
        tmp_path,
        {
            "pipelines/a.py": "from pipelines.z import flow\n",
            "pipelines/factory.py": a_pipeline("unused").replace("@", "def make(name):\n  return (lambda f: f)\n#"),
            "pipelines/m.py": "from lib import flow\nalso = flow\n",
            "pipelines/n.py": "from lib import flow\n",
            "pipelines/z.py": a_pipeline("z"),
            "lib.py": a_pipeline("shared"),
        },
    )
    discovery = discover(project)
    assert sorted(ids(discovery)) == ["shared", "z"]
    assert discovery.problems == ()


def test_pipelines_made_by_a_function_are_told_apart(tmp_path: Path) -> None:
    factory = """
        from aiflow_sdk import pipeline, sink, source
        def make(name):
            @pipeline(id=name)
            def flow(p):
                p.write(p.read(source.onelake(id="a", table="raw.a")), sink.onelake(id="b", table="raw.b"))
            return flow
    """
    project = write(
        tmp_path,
        {
            "lib.py": factory,
            "pipelines/a.py": "from lib import make\none, two = make('one'), make('two')\n",
            "pipelines/b.py": "from pipelines.a import one\n",
            "pipelines/c.py": "from lib import make\nmine = make('two')\n",
        },
    )
    discovery = discover(project)
    assert ids(discovery) == ["one", "two"]
    assert [code for code, _ in told(discovery)] == ["duplicate-pipeline"]


def test_a_pipeline_of_another_project_may_bear_the_same_id(tmp_path: Path) -> None:
    other = a_pipeline("a").replace('owner="me"', 'project="ads"')
    discovery = discover(write(tmp_path, {"pipelines/a.py": a_pipeline("a"), "pipelines/b.py": other}))
    assert [(found.project, found.id) for found in discovery.pipelines] == [(None, "a"), ("ads", "a")]
    assert discovery.pipeline("ads/a").project == "ads"
    assert discovery.pipeline("default/a").project is None
    for name in ("nonsense/a", "default/nonsense"):
        with pytest.raises(UnknownNameError) as unknown:
            discovery.pipeline(name)
        assert unknown.value.code == "unknown-pipeline"
    with pytest.raises(UnknownNameError, match="write one of: ads/a, default/a") as ambiguous:
        discovery.pipeline("a")
    assert ambiguous.value.code == "ambiguous-pipeline"


def test_a_pipeline_of_a_project_is_found_though_another_of_its_id_is_remembered(tmp_path: Path) -> None:
    other = a_pipeline("a").replace('owner="me"', 'project="ads"')
    project = write(tmp_path, {"pipelines/a.py": a_pipeline("a"), "pipelines/b.py": other})
    assert discover(project, only="default/a").pipeline("default/a").module == "pipelines.a"
    assert discover(project, only="ads/a").pipeline("ads/a").module == "pipelines.b"
    assert discover(project, only="ads/a").imported == ()
    with pytest.raises(UnknownNameError):
        discover(project, only="nonsense/a").pipeline("nonsense/a")
    write(tmp_path, {"pipelines/a.py": a_pipeline("a") + "# edited"})
    with pytest.raises(UnknownNameError, match="2 projects have a pipeline 'a'"):
        discover(project, only="a").pipeline("a")


def test_the_projects_own_plugins_are_found_wherever_they_lie(tmp_path: Path) -> None:
    plugin = """
        from aiflow_sdk import register_{type}
        from aiflow_sdk.plugins import Source
        @register_{type}("{kind}")
        class Plugin(Source): ...
    """
    project = write(
        tmp_path,
        {
            "pipelines/a.py": "from lib.rss import Plugin\n" + a_pipeline("a"),
            "lib/rss.py": plugin.format(type="source", kind="rss"),
            "lib/nobody_imports_it.py": plugin.format(type="sink", kind="feed"),
            "tests/test_x.py": plugin.format(type="engine", kind="never"),
        },
    )
    expected = (("sink", "feed", "lib.nobody_imports_it:Plugin"), ("source", "rss", "lib.rss:Plugin"))
    assert discover(project).marked == expected
    again = discover(project)
    assert (again.marked, again.imported) == (expected, ())
    write(tmp_path, {"lib/nobody_imports_it.py": "x = 1"})
    assert discover(project).marked == expected[1:]


def test_a_package_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    project = write(
        tmp_path, {"aiflow.toml": 'pipelines = ["pipeline", "pipelines"]', "pipelines/a.py": a_pipeline("a")}
    )
    discovery = discover(project)
    assert ids(discovery) == ["a"]
    (problem,) = discovery.problems
    assert (problem.code, problem.hint) == ("unknown-package", "did you mean 'pipelines'?")


@pytest.mark.parametrize("entry", ["teams/ads/flows", "teams.ads.flows", "./teams/ads/flows/", "teams", "."])
def test_packages_are_named_as_packages_or_as_folders(tmp_path: Path, entry: str) -> None:
    project = write(tmp_path, {"aiflow.toml": f'pipelines = ["{entry}"]', "teams/ads/flows/a.py": a_pipeline("a")})
    (found,) = discover(project).pipelines
    assert found.module == "teams.ads.flows.a"


def test_a_module_hidden_by_another_of_its_name_is_told(tmp_path: Path) -> None:
    project = write(
        tmp_path, {"aiflow.toml": 'pipelines = ["json"]', "json/a.py": "", "json/__init__.py": a_pipeline("x")}
    )
    assert {code for code, _ in told(discover(project))} <= {"shadowed-module", "module-failed"}
    assert told(discover(project))


def test_an_interpreter_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    files = {"pipelines/a.py": a_pipeline("a")}
    with pytest.raises(ConfigurationError) as caught:
        discover(write(tmp_path, {**files, "aiflow.toml": 'python = "venv/bin/python"'}))
    assert caught.value.code == "broken-interpreter"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=60)
    with pytest.raises(ConfigurationError) as caught:
        discover(load_project(tmp_path))
    assert caught.value.code == "broken-interpreter"
    assert any("aiflow_sdk" in note for note in caught.value.notes)


def test_the_users_own_interpreter_is_used(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nOWN_ONE=yes exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    project = write(
        tmp_path,
        {"aiflow.toml": 'python = "python"', "pipelines/a.py": "import os" + a_pipeline("a", 'os.environ["OWN_ONE"]')},
    )
    if subprocess.run([sys.executable, "-c", "import aiflow_sdk"], env={}, cwd="/").returncode:
        pytest.skip("aiflow is not installed in this interpreter, only on its path")
    assert [found.ir.owner for found in discover(project).pipelines] == ["yes"]


def test_a_package_on_the_import_path_is_discovered_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path,
        {
            "user_repo/pipelines/user_features.py": a_pipeline("features").replace(
                "etl.enrich:main", "etl_jobs.enrich"
            ),
            "user_repo/etl_jobs/enrich.py": "def main(orders): ...",
        },
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("user_repo.pipelines", "user_repo.pipelines.user_features"):
        (ir,) = discover_pipelines(name)
        assert (ir.id, ir.nodes["enrich"].entrypoint) == ("features", "etl_jobs.enrich:main")
    assert not any(name.startswith("user_repo") for name in sys.modules)
    for folder in (tmp_path / "user_repo", str(tmp_path / "user_repo"), tmp_path / "user_repo" / "pipelines"):
        assert [ir.id for ir in discover_pipelines(folder)] == ["features"]


def test_a_package_by_name_may_use_imports_relative_to_what_is_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path,
        {
            "shop_repo/__init__.py": "",
            "shop_repo/names.py": "OWNER = 'us'",
            "shop_repo/pipelines/__init__.py": "",
            "shop_repo/pipelines/a.py": "from ..names import OWNER" + a_pipeline("a", "OWNER"),
        },
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [ir.owner for ir in discover_pipelines("shop_repo.pipelines")] == ["us"]


def test_a_project_that_this_process_was_about_before_hides_no_folder_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # entering a project changes it
    before = write(tmp_path / "before", {"pipelines/__init__.py": "", "pipelines/b.py": a_pipeline("b")})
    project = write(tmp_path / "after", {"pipelines/a.py": a_pipeline("a")})
    enter_project(before.root)
    assert ids(discover(project)) == ["a"]


def test_an_unknown_package_or_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        discover_pipelines("no_such_repo.pipelines")
    assert caught.value.code == "unknown-package"
    with pytest.raises(AiflowError):
        discover_pipelines(tmp_path / "nowhere")


def test_what_is_wrong_is_logged_and_the_others_are_returned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, {"pipelines/a.py": "\n1 / 0", "pipelines/b.py": a_pipeline("b")})
    with caplog.at_level(logging.ERROR):
        assert [ir.id for ir in discover_pipelines(tmp_path)] == ["b"]
    assert "pipelines/a.py:2" in caplog.text


def test_only_the_module_of_the_wanted_pipeline_is_imported(tmp_path: Path) -> None:
    names = ("one", "two", "three")
    project = write(tmp_path, {f"pipelines/{name}.py": a_pipeline(f"flow_{name}") for name in names})
    found = discover(project, only="flow_two")
    assert (found.imported, found.pipeline("flow_two").id) == (("pipelines.two",), "flow_two")
    with pytest.raises(UnknownNameError) as caught:
        discover(project, only="flow_too").pipeline("flow_too")
    assert caught.value.hint == "did you mean 'flow_two'?"


@pytest.fixture
def clean_modules():
    before, path = set(sys.modules), list(sys.path)
    hooks = list(sys.path_hooks)
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("pipelines", "etl", "lib"):
            del sys.modules[name]
    sys.path[:], sys.path_hooks[:] = path, hooks
    sys.path_importer_cache.clear()


@pytest.mark.usefixtures("clean_modules")
def test_here_means_in_this_process(tmp_path: Path) -> None:
    project = write(
        tmp_path,
        {
            "pipelines/a.py": a_pipeline("a").replace('entrypoint="etl.enrich:main"', "fn=lambda orders: orders"),
            "pipelines/b.py": a_pipeline("b"),
            "pipelines/c.py": "import sys\nsys.exit()",
        },
    )
    found = discover_here(project, only="a")
    assert found.imported == ("pipelines.a",)
    assert found.pipeline("a").functions["enrich"]("rows") == "rows"
    assert "pipelines.a" in sys.modules
    assert "pipelines.b" not in sys.modules
    assert discover_here(project, only="a").pipeline("a").functions, "a function cannot come from the cache"
    assert sorted(ids(discover_here(project))) == ["a", "b"]


@pytest.mark.usefixtures("clean_modules")
def test_here_a_second_project_is_not_mistaken_for_the_first(tmp_path: Path) -> None:
    for name in ("one", "two"):
        project = write(tmp_path / name, {"pipelines/a.py": a_pipeline(name), "etl/enrich.py": f"NAME = {name!r}"})
        assert ids(discover_here(project)) == [name]


@pytest.mark.usefixtures("clean_modules")
def test_here_what_a_child_found_need_not_be_imported(tmp_path: Path) -> None:
    project = write(tmp_path, {"pipelines/a.py": a_pipeline("a")})
    assert discover(project).imported
    found = discover_here(project, only="a")
    assert (ids(found), found.imported) == (["a"], ())
    assert "pipelines.a" not in sys.modules


def test_the_caller_is_left_as_it_was(tmp_path: Path) -> None:
    before = (os.getcwd(), list(sys.path), set(os.environ), len(os.listdir("/proc/self/fd")))
    discover(write(tmp_path, {"pipelines/a.py": a_pipeline("a")}))
    assert (os.getcwd(), list(sys.path), set(os.environ), len(os.listdir("/proc/self/fd"))) == before


@pytest.mark.usefixtures("clean_modules")
def test_here_a_pipeline_that_is_only_looked_for_is_looked_for_in_a_child(tmp_path: Path) -> None:
    computed = a_pipeline("hidden").replace('id="hidden"', 'id="hid" + "den"').replace("hidden", "h")
    project = write(
        tmp_path,
        {
            "pipelines/dies.py": "import os\nos._exit(7)",
            "pipelines/hangs.py": "import time\ntime.sleep(99)",
            "pipelines/computed.py": computed,
            "aiflow.toml": "discovery_timeout_seconds = 2",
        },
    )
    found = discover_here(project, only="nowhere")
    assert {problem.code for problem in found.problems} == {"module-crashed", "module-timeout"}
    with pytest.raises(UnknownNameError):
        found.pipeline("nowhere")
    assert "pipelines.computed" not in sys.modules
    assert discover_here(project, only="hidden").pipeline("hidden").module == "pipelines.computed"
