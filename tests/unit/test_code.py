"""What a function reaches is found by reading: fingerprints, closures, and where a function stands."""

import ast
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from aiflow_sdk.code import CodeIndex, enter_project, lock_fingerprint, scan_sources
from aiflow_sdk.config import Project
from aiflow_sdk.errors import ConfigurationError, DefinitionError, UnknownNameError


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(
        tmp_path / "shop",
        {
            "etl/__init__.py": "",
            "etl/orders.py": "import etl.shared\nfrom etl import dates\n\ndef main(orders): ...\n",
            "etl/users.py": "def main(users): ...\n",
            "etl/shared.py": "VALUE = 1\n",
            "etl/dates.py": "def parse(text): ...\n",
        },
    )


def test_a_fingerprint_sees_every_file_that_is_reached_and_no_other(root: Path) -> None:
    index = CodeIndex(root)
    before = {name: index.fingerprint(f"etl.{name}:main") for name in ("orders", "users")}
    write(root, {"etl/shared.py": "VALUE = 2\n"})
    after = {name: index.fingerprint(f"etl.{name}:main") for name in ("orders", "users")}
    assert before["orders"] != after["orders"]
    assert before["users"] == after["users"]
    assert after == {name: CodeIndex(root).fingerprint(f"etl.{name}:main") for name in after}


def test_a_fingerprint_is_the_same_wherever_the_project_lies_and_however_lines_end(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "other"
    shutil.copytree(root, copy)
    for path in copy.rglob("*.py"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert CodeIndex(copy).fingerprint("etl.orders:main") == CodeIndex(root).fingerprint("etl.orders:main")


@pytest.mark.parametrize(
    ("statement", "reached"),
    [
        ("import a.b.c", ["a/__init__.py", "a/b/__init__.py", "a/b/c.py"]),
        ("import a.b.c as x, n.m", ["a/__init__.py", "a/b/__init__.py", "a/b/c.py", "n/m.py"]),
        ("from a.b import c", ["a/__init__.py", "a/b/__init__.py", "a/b/c.py"]),
        ("from a.b import (\n    c,  # this one\n    NAME,\n)", ["a/__init__.py", "a/b/__init__.py", "a/b/c.py"]),
        ("from a.b.c import NAME", ["a/__init__.py", "a/b/__init__.py", "a/b/c.py"]),
        ("from a import *", ["a/__init__.py"]),
        ("from n import m", ["n/m.py"]),
        ("def f():\n    if True:\n        import n.m", ["n/m.py"]),
        (
            "try:\n    import n.m\nexcept ImportError:\n    from a.b import c",
            ["a/__init__.py", "a/b/__init__.py", "a/b/c.py", "n/m.py"],
        ),
        ("x = 1; import n.m", ["n/m.py"]),
        ("if 1: import n.m", ["n/m.py"]),
        ("match 1:\n    case 1:\n        import n.m", ["n/m.py"]),
        ("from a.b \\\n    import c", ["a/__init__.py", "a/b/__init__.py", "a/b/c.py"]),
        ("from . import start2", ["pkg/start2.py"]),
        ("from .inner import deep", ["pkg/inner/deep.py"]),
        ("from ..n import m", ["n/m.py"]),
        ("from .. import n", []),
        ("from ... import x", []),
        ("import os, json, no.such.module", []),
        ("import größe", ["größe.py"]),
        ("'import n.m'", []),
        ("# import n.m", []),
    ],
)
def test_imports_of_every_form_are_followed(tmp_path: Path, statement: str, reached: list[str]) -> None:
    write(
        tmp_path,
        {
            "a/__init__.py": "",
            "a/b/__init__.py": "",
            "a/b/c.py": "NAME = 1",
            "n/m.py": "",
            "größe.py": "",
            "pkg/start.py": statement,
            "pkg/start2.py": "",
            "pkg/inner/deep.py": "",
        },
    )
    assert CodeIndex(tmp_path).closure("pkg.start:main") == tuple(sorted([*reached, "pkg/start.py"]))


def test_modules_that_import_each_other_end(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "import b", "b.py": "import a"})
    assert CodeIndex(tmp_path).closure("a") == CodeIndex(tmp_path).closure("b") == ("a.py", "b.py")


def test_a_folder_that_is_a_package_itself_may_be_named_from_above(tmp_path: Path) -> None:
    root = write(tmp_path / "user_repo", {"etl/x.py": "from user_repo.etl import y", "etl/y.py": "", "__init__.py": ""})
    assert CodeIndex(root).closure("user_repo.etl.x:main") == ("__init__.py", "etl/x.py", "etl/y.py")


def test_a_package_hides_a_module_of_its_name_and_a_mere_folder_does_not(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "", "a/__init__.py": "", "b.py": "", "b/c.py": ""})
    assert CodeIndex(tmp_path).closure("a") == ("a/__init__.py",)
    assert CodeIndex(tmp_path).closure("b") == ("b.py",)


def test_nothing_is_imported(tmp_path: Path) -> None:
    write(tmp_path, {"boom.py": "raise SystemExit\ndef main(x): ...", "broken.py": "def f(:"})
    index = CodeIndex(tmp_path)
    assert index.function_source("boom:main").line == 2
    assert index.closure("broken") == ("broken.py",)
    assert "boom" not in sys.modules


def test_a_snapshot_gives_the_same_as_looking(root: Path) -> None:
    live, snapshot = CodeIndex(root), CodeIndex(root, snapshot=scan_sources(root))
    for name in ("orders", "users"):
        assert live.fingerprint(f"etl.{name}:main") == snapshot.fingerprint(f"etl.{name}:main")
        assert live.function_source(f"etl.{name}:main")[:2] == snapshot.function_source(f"etl.{name}:main")[:2]


def test_an_edit_that_keeps_size_and_moment_is_seen(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "x = 1"})
    index = CodeIndex(tmp_path)
    seen = set()
    for value in range(5):
        write(tmp_path, {"a.py": f"x = {value}"})
        seen.add(index.fingerprint("a:main"))
    assert len(seen) == 5


def test_a_module_outside_the_project_reaches_nothing(tmp_path: Path) -> None:
    index = CodeIndex(tmp_path)
    assert index.closure("pydantic.main:BaseModel") == ()
    assert index.function_source("json:dumps") == (None, None, None)
    assert CodeIndex(tmp_path, foreign=True).closure("only_there.mod:f") == ()


@pytest.mark.parametrize(
    ("entrypoint", "hint"),
    [
        ("etl.ordrs:main", "did you mean 'etl.orders'?"),
        ("no_such_package.x:main", None),
        ("etl:main", "known: "),
    ],
)
def test_an_unknown_function_is_told_with_the_nearest(root: Path, entrypoint: str, hint: str | None) -> None:
    with pytest.raises(UnknownNameError) as caught:
        CodeIndex(root).function_source(entrypoint)
    assert caught.value.code == "unknown-function"
    if hint and hint.startswith("did"):
        assert caught.value.hint == hint


def test_an_unknown_function_of_a_known_module_is_told_with_its_neighbours(root: Path) -> None:
    write(root, {"etl/users.py": "def clean_users(users): ...\n"})
    with pytest.raises(UnknownNameError) as caught:
        CodeIndex(root).function_source("etl.users:clean_user")
    assert caught.value.hint == "did you mean 'clean_users'?"
    assert caught.value.where
    assert caught.value.where.path == "etl/users.py"


@pytest.mark.parametrize(
    ("text", "line", "tells"),
    [
        ("def main(a, b): ...", 1, True),
        ("async def main(a): ...", 1, True),
        ("if True:\n    def main(a): ...\nelse:\n    def main(b): ...", 4, True),
        ("from aiflow_sdk import transform\n@transform(engine='python')\ndef main(a): ...", 3, True),
        ("@cached\ndef main(a): ...", 2, False),
        ("main = lambda a: a", 1, False),
        ("class main: ...", 1, False),
        ("main, other = 1, 2", 1, False),
        ("main: object = print", 1, False),
        ("def __getattr__(name): ...", None, False),
        ("from json import dumps as main", None, False),
        ("from json import *", None, False),
    ],
)
def test_what_the_text_tells_of_a_function(tmp_path: Path, text: str, line: int | None, tells: bool) -> None:
    write(tmp_path, {"jobs.py": text})
    found = CodeIndex(tmp_path).function_source("jobs:main")
    assert (found.path, found.line) == ("jobs.py", line)
    assert isinstance(found.definition, ast.FunctionDef | ast.AsyncFunctionDef) is tells


@pytest.mark.parametrize("statement", ["from impl import main", "from impl import *", "from .impl import run as main"])
def test_a_function_is_followed_to_where_it_is_defined(tmp_path: Path, statement: str) -> None:
    write(tmp_path, {"api.py": statement, "impl.py": "\ndef main(a): ...\n\ndef run(a): ..."})
    found = CodeIndex(tmp_path).function_source("api:main")
    assert found.path == "impl.py"
    assert found.definition


def test_functions_that_import_each_other_in_a_circle_end(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "from b import main", "b.py": "from a import main"})
    assert CodeIndex(tmp_path).function_source("a:main").definition is None


def test_a_method_is_found_in_its_class(tmp_path: Path) -> None:
    write(tmp_path, {"jobs.py": "class Jobs:\n    x = 1\n\n    @staticmethod\n    def run(a): ...\n"})
    assert CodeIndex(tmp_path).function_source("jobs:Jobs.run")[:2] == ("jobs.py", 5)


def test_a_syntax_error_is_told_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, {"jobs.py": "x = 1\ndef main(:\n"})
    with pytest.raises(DefinitionError) as caught:
        CodeIndex(tmp_path).function_source("jobs:main")
    assert caught.value.code == "syntax-error"
    assert caught.value.where
    assert (caught.value.where.path, caught.value.where.line) == ("jobs.py", 2)


def test_the_scan_leaves_out_what_no_import_can_name(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a/b.py": "",
            "größe.py": "",
            "not-a-name.py": "",
            "dt=2026-11-20/x.py": "",
            ".venv/lib/x.py": "",
            "venv/pyvenv.cfg": "",
            "venv/lib/x.py": "",
            "a/__pycache__/x.py": "",
            "node_modules/x.py": "",
            "2024/x.py": "",
            "a/data.csv": "",
        },
    )
    os.symlink(tmp_path / "a", tmp_path / "linked")
    os.symlink(tmp_path, tmp_path / "a" / "circle")
    unimportable: list[str] = []
    assert sorted(scan_sources(tmp_path, unimportable)) == ["a/b.py", "größe.py", "linked/b.py"]
    assert unimportable == ["not-a-name.py"]


def test_the_lock_file_counts_by_its_content(tmp_path: Path) -> None:
    project = Project(tmp_path, lock="requirements.lock")
    with pytest.raises(ConfigurationError) as caught:
        lock_fingerprint(project)
    assert caught.value.code == "missing-lock"
    seen = []
    for text in ("polars==1.0\n", "polars==1.1\n", "polars==1.0\r\n"):
        write(tmp_path, {"requirements.lock": text})
        time.sleep(0.02)
        seen.append(lock_fingerprint(project))
    assert seen[0] == seen[2] != seen[1]


def test_without_a_lock_file_what_is_installed_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lock_fingerprint(Project(tmp_path))
    (tmp_path / "site" / "some_package-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert lock_fingerprint(Project(tmp_path)) != before


def test_the_fingerprint_of_what_is_installed_is_quick(tmp_path: Path) -> None:
    project = Project(tmp_path)
    lock_fingerprint(project)
    began = time.perf_counter()
    for _ in range(100):
        lock_fingerprint(project)
    assert time.perf_counter() - began < 20


def test_a_project_leaves_the_import_path_when_another_is_entered(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    one, two, given = tmp_path / "one", tmp_path / "two", tmp_path / "given"
    sys.path.append(str(given))
    for root in (one, two, given, one):
        enter_project(root)
        assert sys.path[0] == str(root)
        assert [str(other) in sys.path for other in (one, two)] == [root == one, root == two]
    assert sys.path.count(str(given)) == 1
