"""One project gives one set of documents: wherever it lies, whoever compiles it, and however its files are saved.

Hypothesis makes projects up. Each is written twice, the second time with all that may not matter turned around, and
compiled by the command line in processes that differ in hash seed, time zone, locale and working folder.
"""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="{}"), max_size=12)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,7}", fullmatch=True).map(lambda name: f"n_{name}")
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
PIPELINES = st.fixed_dictionaries(
    {
        "partition": st.sampled_from(["hour", "day", "week", "month"]),
        "tags": st.lists(st.sampled_from(["a", "b", "c d", "ü"]), unique=True),
        "extra": st.dictionaries(st.sampled_from(["team", "env", "cost_center", "zone"]), TEXTS),
        "params": st.dictionaries(NAMES, PLAIN, max_size=3),
        "options": st.dictionaries(st.sampled_from(["dt", "region", "v"]), TEXTS.filter(bool), max_size=3),
        "user_params": st.dictionaries(NAMES, PLAIN, max_size=4),
        "inputs": st.integers(1, 3),
        "module": st.sampled_from(["jobs.one", "jobs.two", "jobs.deep.three"]),
        "engine": st.sampled_from(["python", "spark"]),
        "branches": st.lists(st.sampled_from(["us", "eu", "apac"]), unique=True, max_size=2),
    }
)

JOBS = {
    "jobs/__init__.py": '"""Käse."""\n',
    "jobs/shared.py": "def helper(x):\n    return x\n",
    "jobs/one.py": "from jobs.shared import helper\n\n\ndef main(inputs, params):  # 日本\n    return helper(inputs)\n",
    "jobs/two.py": "import jobs.deep.three as t\n\n\ndef main(inputs, params):\n    return t.main(inputs, params)\n",
    "jobs/deep/three.py": "def main(inputs, params):\n    return next(iter(inputs.values()))\n",
    "jobs/nobody.py": "1 / 0\n",
}


def literal(value: Any, turned: bool) -> str:
    """Return Python for the value; turned around, dicts are written in the other order."""
    match value:
        case dict():
            items = list(value.items())[:: -1 if turned else 1]
            return "{" + ", ".join(f"{key!r}: {literal(one, turned)}" for key, one in items) + "}"
        case list():
            return "[" + ", ".join(literal(one, turned) for one in value) + "]"
    return repr(value)


def call(turned: bool, **arguments: Any) -> str:
    parts = [f"{name}={literal(value, turned)}" for name, value in arguments.items()]
    return ", ".join(parts[:: -1 if turned else 1])


def module(number: int, spec: dict[str, Any], turned: bool) -> str:
    """Return the text of a module with one pipeline; turned around it says the same in another way."""
    defaults = {"catchup": False, "retries": 0, "timezone": "UTC", "schedule": None} if turned else {}
    form = {"format": "delta"} if turned else {}
    tags = spec["tags"][:: -1 if turned else 1]
    head = call(turned, id=f"p{number}", partition=spec["partition"], tags=tags, params=spec["params"], **defaults)
    extra = call(turned, **spec["extra"])
    ways = [
        call(turned, id=f"i{n}", table=f"raw.t{n}", partitions=spec["options"], **form) for n in range(spec["inputs"])
    ]
    reads = [f"    i{n} = p.read(source.onelake({way}))" for n, way in enumerate(ways)]
    inputs = ", ".join(f"i{n}" for n in range(spec["inputs"]))
    named = "entrypoint" if turned else "fn"
    when = 'p.vars["run_date"]' if turned else '"{{ ds }}"'
    own = call(turned, id="made", engine=spec["engine"], params=spec["user_params"])
    lines = [
        '"""Grüße, 日本."""' if turned else "# Grüße, 日本",
        f"from aiflow_sdk{'.dsl' if turned else ''} import pipeline, sink, source",
        f"@pipeline({head}{', ' + extra if extra else ''})",
        f"def p{number}(p):",
        *reads[:: -1 if turned else 1],
        f"    made = p.transform({inputs}, {named}={spec['module']!r} + ':main', day={when}, {own})",
        '    asked = made.sql("""select *\n  from {made}\n  where 1 = 1 -- é\n""", id="asked")',
        *(
            f"    p.branch_for_region({region!r}).write(asked, sink.onelake(id='out', table='out.p{number}_{region}'))"
            for region in spec["branches"][:: -1 if turned else 1]
        ),
        f"    p.write(asked, sink.onelake({call(turned, id='out', table=f'out.p{number}')}))",
    ]
    return "\n".join(lines) + "\n"


def files_of(specs: Iterable[dict[str, Any]], turned: bool = False) -> dict[str, str]:
    modules = {f"pipelines/m{number}.py": module(number, spec, turned) for number, spec in enumerate(specs)}
    return {"aiflow.toml": 'lock = "lock.txt"\n', "lock.txt": "polars==1\npyarrow==2\n", **modules, **JOBS}


def write(root: Path, files: dict[str, str], *, windows: bool = False) -> Path:
    """Write the files; as Windows editors do with carriage returns and a byte order mark."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text.replace("\n", "\r\n").encode("utf-8-sig") if windows and text else text.encode()
        path.write_bytes(content)
    return root


def compiled(root: Path, cwd: Path | None = None, **variables: str) -> dict[str, str]:
    """Compile by the command line in a process of its own; return the documents by their place."""
    environment = {**os.environ, **variables}
    for name in [name for name, value in environment.items() if not value]:
        del environment[name]
    command = [sys.executable, "-m", "aiflow_sdk.cli", "-C", str(root), "--json", "compile", "--out", str(root / "out")]
    done = subprocess.run(command, cwd=cwd or root, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return {
        path.relative_to(root / "out").as_posix(): path.read_bytes().decode()
        for path in sorted((root / "out").rglob("*.json"))
    }


@settings(max_examples=3)
@given(specs=st.lists(PIPELINES, min_size=6, max_size=10))
def test_the_same_project_gives_the_same_documents(tmp_path_factory, specs):
    folder = tmp_path_factory.mktemp("projects")
    expected = compiled(write(folder / "plain", files_of(specs)), PYTHONHASHSEED="0")
    assert len(expected) == 2 * len(specs)
    there = write(folder / "a b" / "Größe 日本" / "deep" / "jobs", files_of(specs), windows=True)
    assert compiled(there, cwd=folder, PYTHONHASHSEED="4242", TZ="Asia/Tokyo", LC_ALL="C", PYTHONUTF8="0") == expected
    turned = write(folder / "turned", files_of(specs, turned=True))
    link = folder / "link"
    link.symlink_to(turned)
    assert irs(compiled(link, PYTHONHASHSEED="random", TZ="America/New_York", PYTHONOPTIMIZE="1")) == irs(expected)


def irs(documents: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in documents.items() if name.endswith("ir.json")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    spec = {
        "partition": "day", "tags": ["b", "a"], "extra": {"team": "t"}, "params": {"n_x": 1}, "options": {"dt": "x"},
        "user_params": {"n_deep": {"n_a": [1, {"n_b": None}]}}, "inputs": 2, "module": "jobs.two", "engine": "spark",
        "branches": ["us"],
    }  # fmt: skip
    return write(tmp_path / "project", files_of([spec, {**spec, "module": "jobs.one"}]))


def plan(documents: dict[str, str], name: str = "p0") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(documents[f"default/{name}/plan.json"])
    return found


def test_what_was_compiled_before_makes_no_difference(project, tmp_path):
    """The cache, the compiled bytecode and the plans of an earlier time are no input."""
    first = compiled(project)
    assert compiled(project) == first
    other = write(tmp_path / "other", {name: (project / name).read_text() for name in files_in(project)})
    assert not (other / ".aiflow").exists()
    assert compiled(other, PYTHONDONTWRITEBYTECODE="1", PYTHONPYCACHEPREFIX=str(tmp_path / "pyc")) == first


def files_in(root: Path) -> list[str]:
    return [
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix in (".py", ".toml", ".txt") and ".aiflow" not in path.parts
    ]


def test_only_what_a_function_reaches_makes_its_code(project):
    first = compiled(project)
    (project / "jobs/nobody.py").write_text("2 / 0\n")
    (project / "README.md").write_text("changed")
    assert compiled(project) == first
    (project / "jobs/deep/three.py").write_text(JOBS["jobs/deep/three.py"].replace("next(", " next("))
    second = compiled(project)
    codes = [{node["id"]: node["code"] for node in plan(one)["nodes"] if node["code"]} for one in (first, second)]
    assert codes[0].keys() == codes[1].keys() == {"made"}
    assert codes[0] != codes[1]
    assert plan(first)["definition"] == plan(second)["definition"]
    assert plan(first)["version"] != plan(second)["version"]
    assert second["default/p1/plan.json"] == first["default/p1/plan.json"]


def test_a_file_saved_on_windows_is_the_same_file(project):
    first = compiled(project)
    write(project, {name: (project / name).read_text() for name in files_in(project)}, windows=True)
    assert b"\r\n" in (project / "jobs/one.py").read_bytes()
    assert compiled(project) == first


def test_a_set_that_decides_the_order_is_found(project):
    """What a hash seed can change is refused: the two builds of ``check`` and ``compile`` differ in theirs."""
    (project / "pipelines/unstable.py").write_text(
        textwrap.dedent("""
        from aiflow_sdk import pipeline, sink, source

        @pipeline(id="unstable")
        def unstable(p):
            first = list({f"raw.t{n}" for n in range(20)})[0]
            p.write(p.read(source.onelake(id="a", table=first)), sink.onelake(id="b", table="out.b"))
        """)
    )
    command = [sys.executable, "-m", "aiflow_sdk.cli", "--json", "check"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem["code"] == "unstable-pipeline"
    assert (problem["where"]["path"], problem["where"]["line"]) == ("pipelines/unstable.py", 7)
