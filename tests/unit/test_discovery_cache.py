"""Unchanged files are not imported again, and what the cache knows is what an import would give."""

import os
import sqlite3
import textwrap
import time
from pathlib import Path

import pytest

from aiflow_sdk.config import Project, load_project
from aiflow_sdk.discovery import Discovery, discover
from aiflow_sdk.errors import StoreError

PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="{id}", owner={owner})
def flow(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders"))
    rich = orders.transform(id="enrich", engine="python", entrypoint="etl.{id}.enrich")
    p.write(rich, sink.onelake(id="out", table="feature.{id}"))
"""


def a_pipeline(id: str, owner: str = '"me"') -> str:
    return PIPELINE.format(id=id, owner=owner)


def write(root: Path, files: dict[str, str]) -> Project:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content), encoding="utf-8")
    return load_project(root)


def facts(discovery: Discovery) -> object:
    return (
        [(found.id, found.module, found.path, found.line, found.ir, found.locations) for found in discovery.pipelines],
        [problem.to_dict() for problem in discovery.problems],
        discovery.marked,
        discovery.notes,
    )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return write(
        tmp_path,
        {
            "pipelines/a.py": "from lib import names\n" + a_pipeline("a", "names.OWNER"),
            "pipelines/b.py": "print('b says hello')\n" + a_pipeline("b"),
            "pipelines/c.py": "import lib.other\n" + a_pipeline("c"),
            "lib/names.py": "OWNER = 'me'\n",
            "lib/other.py": "",
            "lib/unused.py": "",
        },
    )


def test_a_second_look_imports_nothing_and_gives_the_same(project: Project) -> None:
    first = discover(project)
    second = discover(project)
    assert first.imported == ("pipelines.a", "pipelines.b", "pipelines.c")
    assert second.imported == ()
    assert facts(first) == facts(second)


def test_only_what_reaches_a_changed_file_is_imported_again(project: Project) -> None:
    discover(project)
    write(project.root, {"lib/names.py": "OWNER = 'us'\n"})
    found = discover(project)
    assert found.imported == ("pipelines.a",)
    assert [pipeline.ir.owner for pipeline in found.pipelines] == ["us", "me", "me"]
    write(project.root, {"lib/unused.py": "x = 1\n"})
    assert discover(project).imported == ()


def test_an_edit_that_keeps_size_and_moment_is_seen(project: Project) -> None:
    for owner in ("aa", "bb", "cc"):
        write(project.root, {"lib/names.py": f"OWNER = '{owner}'\n"})
        assert discover(project).pipelines[0].ir.owner == owner


def test_a_file_that_is_touched_or_saved_with_other_line_ends_is_unchanged(project: Project) -> None:
    discover(project)
    path = project.root / "pipelines" / "a.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    os.utime(project.root / "pipelines" / "b.py", (1, 1))
    assert discover(project).imported == ()


def test_what_was_built_once_is_not_taken_for_built_twice(project: Project) -> None:
    discover(project)
    assert len(discover(project, twice=True).imported) == 3
    assert discover(project, twice=True).imported == ()
    assert discover(project).imported == ()


def test_modules_that_come_and_go_are_seen(project: Project) -> None:
    discover(project)
    write(project.root, {"pipelines/d.py": a_pipeline("d")})
    found = discover(project)
    assert (found.imported, len(found.pipelines)) == (("pipelines.d",), 4)
    (project.root / "pipelines" / "a.py").unlink()
    for _ in range(2):
        found = discover(project)
        assert (found.imported, [pipeline.id for pipeline in found.pipelines]) == ((), ["b", "c", "d"])


def test_a_new_file_that_an_import_would_now_find_is_seen(project: Project) -> None:
    discover(project)
    (project.root / "lib" / "other").mkdir()
    write(project.root, {"lib/other/__init__.py": ""})
    assert discover(project).imported == ("pipelines.c",)


def test_a_new_file_that_an_entrypoint_now_names_is_seen(project: Project) -> None:
    assert discover(project).pipelines[0].ir.nodes["enrich"].entrypoint == "etl.a.enrich:main"
    write(project.root, {"etl/a.py": "def enrich(orders): ..."})
    found = discover(project)
    assert found.imported == ("pipelines.a",)
    assert found.pipelines[0].ir.nodes["enrich"].entrypoint == "etl.a:enrich"
    (project.root / "etl" / "a.py").unlink()
    assert discover(project).pipelines[0].ir.nodes["enrich"].entrypoint == "etl.a.enrich:main"


def test_data_that_a_module_reads_belongs_to_it(tmp_path: Path) -> None:
    reading = "import json, pathlib\nPATHS = sorted(pathlib.Path('conf').glob('*.json'))\n"
    reading += "NAMES = [json.loads(path.read_text()) for path in PATHS]\n"
    project = write(
        tmp_path,
        {
            "lib/conf.py": reading,
            "pipelines/a.py": "from lib.conf import NAMES\n" + a_pipeline("a", '",".join(NAMES)'),
            "pipelines/b.py": "from lib.conf import NAMES\n" + a_pipeline("b", '",".join(NAMES)'),
            "conf/x.json": '"x"',
        },
    )
    for name, text, owner in [("x", "x", "x"), ("x", "y", "y"), ("z", "z", "y,z")]:
        write(tmp_path, {f"conf/{name}.json": f'"{text}"'})
        assert [found.ir.owner for found in discover(project).pipelines] == [owner, owner]
        assert discover(project).imported == ()
    (tmp_path / "conf" / "x.json").unlink()
    assert [found.ir.owner for found in discover(project).pipelines] == ["z", "z"]


def test_what_a_module_writes_does_not_make_it_new_each_time(tmp_path: Path) -> None:
    text = "import time\nopen('import.log', 'a').write('imported')\n"
    project = write(tmp_path, {"pipelines/a.py": text + a_pipeline("a")})
    assert discover(project).imported
    assert not discover(project).imported


def test_a_module_with_a_problem_is_looked_at_each_time(project: Project) -> None:
    write(project.root, {"pipelines/bad.py": "1 / 0", "pipelines/z.py": a_pipeline("a")})
    first = discover(project)
    second = discover(project)
    assert second.imported == ("pipelines.bad",)
    assert facts(first) == facts(second)
    assert [problem.code for problem in second.problems] == ["module-failed", "duplicate-pipeline"]


def test_a_change_seen_while_looking_for_one_pipeline_is_not_forgotten(project: Project) -> None:
    write(project.root, {"pipelines/c.py": "from lib import names\n" + a_pipeline("c", "names.OWNER")})
    discover(project)
    write(project.root, {"lib/names.py": "OWNER = 'us'\n"})
    assert discover(project, only="a").imported == ("pipelines.a",)
    assert [found.ir.owner for found in discover(project).pipelines] == ["us", "me", "us"]


def test_what_is_installed_belongs_to_the_definition(project: Project) -> None:
    write(project.root, {"aiflow.toml": 'lock = "lock.txt"', "lock.txt": "polars==1"})
    project = load_project(project.root)
    discover(project)
    assert discover(project).imported == ()
    write(project.root, {"lock.txt": "polars==2"})
    assert len(discover(project).imported) == 3


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 100, None])
def test_a_damaged_cache_is_made_anew(project: Project, damage: bytes | None) -> None:
    discover(project)
    (cache,) = (project.root / ".aiflow" / "cache").glob("discovery-*.sqlite")
    cache.write_bytes(damage if damage is not None else cache.read_bytes()[:2000] + b"x" * 20000)
    assert len(discover(project).pipelines) == 3
    assert discover(project).imported == ()


def test_a_cache_that_cannot_be_written_stops_nobody(project: Project) -> None:
    (project.root / ".aiflow").write_text("a file, where a folder should be")
    for _ in range(2):
        assert len(discover(project).pipelines) == 3


def test_a_cache_that_another_process_writes_stops_nobody(project: Project) -> None:
    discover(project)
    (cache,) = (project.root / ".aiflow" / "cache").glob("discovery-*.sqlite")
    with sqlite3.connect(cache) as connection:
        connection.execute("begin immediate")
        began = time.monotonic()
        assert len(discover(project).pipelines) == 3
        assert time.monotonic() - began < 30
    connection.close()


def test_a_definition_that_another_process_replaced_is_not_taken_for_the_old_one(project: Project) -> None:
    discover(project)
    before = discover(project)
    write(project.root, {"pipelines/b.py": a_pipeline("b", '"somebody else"')})
    discover(project)
    assert before.pipelines[0].ir.owner == "me"
    with pytest.raises(StoreError) as caught:
        _ = before.pipelines[1].ir
    assert (caught.value.code, caught.value.retryable) == ("cache-changed", True)


def test_definitions_that_are_damaged_are_made_anew_by_the_next_look(project: Project) -> None:
    discover(project)
    before = discover(project)
    (cache,) = (project.root / ".aiflow" / "cache").glob("discovery-*.sqlite")
    cache.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError):
        _ = before.pipelines[0].ir
    assert [found.ir.id for found in discover(project).pipelines] == ["a", "b", "c"]


def test_the_cache_is_no_business_of_git(project: Project) -> None:
    discover(project)
    assert (project.root / ".aiflow" / "cache" / ".gitignore").read_text() == "*\n"
