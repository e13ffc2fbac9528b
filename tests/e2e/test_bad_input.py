"""What people get wrong, typed at the real command line: what is said, where, how it ends, and that the rest goes on.

``broken/check/*.py`` are the mistakes that ``check`` finds: one project holds them all beside a good pipeline, and is
checked once, as words and as data. ``broken/run/*.py`` are those that show only in a run. What is wrong with
``aiflow.toml``, plugins or whole files stands below.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

from projects import Result, aiflow, lay

DAY = "2026-11-20"
GOOD = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="good", schedule="@daily")
def good(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    kept = orders.transform(id="kept", fn="jobs:keep")
    p.write(kept, sink.onelake(id="out", table="mart.good", partition_by=["dt"]))
"""
JOBS = """
import polars as pl

def keep(orders: pl.DataFrame) -> pl.DataFrame:
    return orders

def wants_more(orders: pl.DataFrame, thresold: float) -> pl.DataFrame:
    return orders

def nothing(orders: pl.DataFrame):
    orders.filter(pl.col("amount") > 1)

def wrong_column(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select("amout")
"""


def make_project(root: Path, modules: Mapping[str, str], config: str = "") -> Path:
    """A project with the good pipeline, the given modules, and three tables."""
    (root / "pipelines").mkdir(parents=True)
    (root / "pipelines/__init__.py").touch()
    for name, text in {"good": GOOD, **modules}.items():
        (root / f"pipelines/{name}.py").write_text(text, "utf-8")
    (root / "jobs.py").write_text(JOBS)
    (root / "aiflow.toml").write_text(config)
    lay(root, "raw/orders", [{"id": n, "amount": 1.5 * n, "dt": DAY} for n in range(3)], "dt")
    return root


def rows(root: Path, table: str) -> list[dict[str, Any]]:
    return sorted(pl.read_delta(str(root / ".aiflow/lake" / table)).to_dicts(), key=repr)


class Mistake(NamedTuple):
    """One wrong module, and what its line ``#! code | what is said`` expects."""

    text: str
    line: int
    """The line that is to be named: the one below the mark."""
    code: str
    says: str
    """What stands in the message, the hint or the notes."""


def read_mistakes(folder: str) -> dict[str, Mistake]:
    found = {}
    for path in sorted((Path(__file__).parent / "broken" / folder).glob("*.py")):
        text = path.read_text("utf-8")
        ((line, mark),) = [(n, one) for n, one in enumerate(text.splitlines(), 2) if one.lstrip().startswith("#!")]
        found[path.stem] = Mistake(text, line, *(part.strip() for part in mark.lstrip(" #!").split("|")))
    return found


MISTAKES = read_mistakes("check")
RUNS = read_mistakes("run")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    modules = {f"m_{name}": mistake.text for name, mistake in MISTAKES.items()}
    modules["m_prints"] = 'print("hello from a module")\n' + GOOD.replace("good", "printing")
    return make_project(tmp_path_factory.mktemp("broken") / "shop", modules, "discovery_timeout_seconds = 3\n")


@pytest.fixture(scope="module")
def told(broken: Path) -> Result:
    return aiflow(broken, "check", code=1)


@pytest.fixture(scope="module")
def told_as_data(broken: Path) -> dict[str, Any]:
    result = aiflow(broken, "check", "--json", code=1)
    assert result.err == ""
    (report,) = result.records
    return report


@pytest.mark.parametrize("name", MISTAKES)
def test_check_tells_a_mistake_its_line_and_the_remedy(broken, told, told_as_data, name):
    mistake = MISTAKES[name]
    path = f"pipelines/m_{name}.py"
    here = [one for one in told_as_data["problems"] if (one["where"] or {}).get("path") == path]
    assert [one["code"] for one in here] == [mistake.code], json.dumps(here, indent=1)
    (problem,) = here
    assert problem["where"]["line"] == mistake.line, problem
    said = problem["message"] + " " + (problem["hint"] or "") + " ".join(problem["notes"])
    assert mistake.says in said, problem
    # The same in words: the code, the place, the line itself, and where to read on.
    blocks = [block for block in re.split(r"\n(?=error\[)", told.err) if f"--> {path}:" in block]
    (block,) = blocks
    assert block.startswith(f"error[{mistake.code}]: ")
    assert f"--> {path}:{mistake.line}" in block
    assert f"docs/errors.md#{mistake.code}" in block
    for source, carets in re.findall(r"^ *\d+ \| (.*)\n +\| (.*\^.*)$", block, re.MULTILINE):
        start = carets.index("^")
        assert f"'{source[start : start + carets.count('^')]}'" in problem["message"]


def test_everything_is_told_at_once_and_counted(told, told_as_data):
    # Beside the mistakes: the good one, the one that prints, and the one whose dataset another took.
    assert told.out.splitlines()[-1] == (
        f"{len(MISTAKES)} errors in {len(MISTAKES)} of {len(MISTAKES) + 3} pipelines; nothing was run"
    )
    assert "m_prints.py printed while it was imported: 'hello from a module'" in told.out
    assert (told_as_data["failed"], told_as_data["pipelines"]) == (len(MISTAKES), len(MISTAKES) + 3)
    assert set(told_as_data["problems"][0]) == {"type", "code", "message", "where", "hint", "retryable", "notes"}


def test_words_and_data_say_the_same(told, told_as_data):
    said = re.findall(r"^error\[(.+?)\]: (.*)$", told.err, re.MULTILINE)
    assert said == [(one["code"], one["message"]) for one in told_as_data["problems"]]


def test_the_others_come_through(broken):
    """One mistake is one pipeline's: those beside it are compiled, run and filled."""
    report = aiflow(broken, "compile", "--out", "plans", "--json", code=1).records[0]
    assert {one["id"] for one in report["pipelines"]} == {"foreign_one", "good", "printing"}
    ran = aiflow(broken, "run", "good", "--date", DAY, "--json").records
    assert ran[-1]["state"] == "succeeded"
    assert len(rows(broken, "mart/good")) == 3
    assert "no error in 1 pipeline" in aiflow(broken, "check", "good").out


def test_a_pipeline_with_a_mistake_is_not_run(broken):
    for name in ("engine", "column", "foreign"):
        words = aiflow(broken, "run", name, "--date", DAY, code=1)
        data = aiflow(broken, "run", name, "--date", DAY, "--json", code=1)
        assert f"error[{MISTAKES[name].code}]" in words.err
        (record,) = data.records
        codes = [one["code"] for one in record["error"].get("problems") or [record["error"]]]
        assert MISTAKES[name].code in codes
        assert not (broken / ".aiflow/lake/mart" / name).exists()


# What shows only in a run.


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Path:
    modules = {f"m_{name}": mistake.text for name, mistake in RUNS.items()}
    return make_project(tmp_path_factory.mktemp("running") / "shop", modules)


def test_what_only_a_run_can_find_is_no_fault_of_the_definition(running):
    assert "no error in 9 pipelines" in aiflow(running, "check").out


@pytest.mark.parametrize("name", RUNS)
def test_a_run_tells_what_is_wrong_and_writes_nothing(running, name):
    mistake = RUNS[name]
    day = "2026-11-23" if name == "partition" else DAY
    words = aiflow(running, "run", name, "--date", day, code=1)
    data = aiflow(running, "run", name, "--date", day, "--json", code=1)
    assert data.err == ""
    last = data.records[-1]
    assert (last["record"], last["state"]) == ("run-finished", "failed")
    (error,) = last["errors"]
    assert error["code"] == mistake.code
    said = " ".join([error["message"], error["hint"] or "", *error["notes"]])
    assert mistake.says.replace("2026-11-20", day) in said
    assert f"error[{mistake.code}]" in words.err
    # Where the node is written, and beside it the line of the user's function where that is to blame.
    place = f"pipelines/m_{name}.py:{mistake.line}"
    if error["where"]["path"].startswith("pipelines/"):
        assert f"{error['where']['path']}:{error['where']['line']}" == place
        assert f"--> {place}" in words.err
    else:
        assert f"of {place}" in error["where"]["about"]
    assert f"{error['where']['line']} | " in words.err
    assert "--resume" in words.out.splitlines()[-1]
    if name == "user_column":
        assert words.err.index("jobs.py") < words.err.index("error[user-code-failed]")
    assert not (running / ".aiflow/lake/mart" / name / "_delta_log").exists()
    assert not list((running / ".aiflow/lake").rglob(f"{name}/**/*.parquet"))
    assert not (running.parent / "outside").exists()


# Partition values that somebody might paste into a query or a path.

VALUES = ["x'; drop table raw.odd; --", 'q"q', "../up", "%2F", "日本 ü", "None"]
ODD = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="odd", params={"value": "x"})
def odd(p):
    rows = p.read(source.onelake(id="rows", table="raw.odd", partitions={"v": "{{ params.value }}"}))
    p.write(rows.sql("select n, v from {rows}"),
            sink.onelake(id="out", table="mart.odd", partition_by=["v"], mode="overwrite_partitions"))
    p.write(rows, sink.files(id="file", path="out/odd", format="parquet", partition_by=["v"]))
"""


def test_any_text_may_be_a_partitions_value(tmp_path):
    root = make_project(tmp_path / "shop", {"odd": ODD})
    lay(root, "raw/odd", [{"n": n, "v": value} for n, value in enumerate([*VALUES, None])], "v")
    for n, value in enumerate(VALUES):
        assert "done in" in aiflow(root, "run", "odd", "--param", f"value={value}").out
        assert rows(root, "mart/odd") == sorted(
            ({"n": one, "v": text} for one, text in enumerate(VALUES[: n + 1])), key=repr
        )
        # The folder is replaced whole: it holds the one value, below the lake however it is written.
        (file,) = (root / ".aiflow/lake/out/odd").rglob("*.parquet")
        assert pl.read_parquet(file, hive_partitioning=False)["n"].to_list() == [n]
    assert {path.name for path in root.parent.iterdir()} == {"shop"}
    absent = aiflow(root, "run", "odd", "--param", "value=a'", code=1)
    assert "error[input-absent]" in absent.err


# aiflow.toml, environments and clusters.

CONFIGS = {
    'pipelins = ["pipelines"]': ("unknown-setting", 1, "did you mean 'pipelines'?"),
    'pipelines = ["pipelins"]': ("unknown-package", None, "did you mean 'pipelines'?"),
    "pipelines = 3": ("bad-setting", 1, "pipelines"),
    "[environments.dev]\nlaek = '.aiflow/lake'": ("unknown-setting", 2, "did you mean 'lake'?"),
    'default_environment = "prod"\n[environments.prdo]\nlake = "lake"': (
        "unknown-environment",
        1,
        "did you mean 'prdo'?",
    ),
    "pipelines = [": ("bad-toml", 1, ""),
    'lock = "requirments.txt"': ("missing-lock", None, "requirments.txt"),
}


@pytest.mark.parametrize("config", CONFIGS)
def test_a_typo_in_the_settings_says_where_it_looked(tmp_path, config):
    code, line, says = CONFIGS[config]
    root = make_project(tmp_path / "shop", {}, config + "\n")
    words = aiflow(root, "check", code=None)
    data = aiflow(root, "check", "--json", code=None)
    assert (words.code, data.code) == (1, 1), words.err + words.out
    (report,) = data.records
    problems = report.get("problems") or report["error"].get("problems") or [report["error"]]
    assert [one["code"] for one in problems] == [code], problems
    (problem,) = problems
    said = " ".join([problem["message"], problem["hint"] or "", *problem["notes"]])
    assert says in said
    assert f"error[{code}]" in words.err
    if line:
        assert (problem["where"]["path"], problem["where"]["line"]) == ("aiflow.toml", line)
        assert str(root) in said or "aiflow.toml:" in words.err


CLUSTERED = GOOD.replace("good", "clustered").replace(
    'fn="jobs:keep"', 'engine="spark", fn="jobs:keep", resources=resources.spark(cluster="emr-flihgts")'
).replace("import pipeline,", "import pipeline, resources,")  # fmt: skip


def test_a_cluster_is_looked_for_where_it_matters(tmp_path):
    config = '[environments.prod]\nlake = "lake"\n[environments.prod.clusters.emr-flights]\nkind = "local"\n'
    root = make_project(tmp_path / "shop", {"clustered": CLUSTERED}, config)
    aiflow(root, "check")  # in dev every cluster is this machine
    (root / "aiflow.toml").write_text(config + "[environments.dev.clusters.emr-flihgts]\nkind = 'lokal'\n")
    (problem,) = aiflow(root, "check", "--json", code=1).records[0]["problems"]
    assert (problem["code"], problem["hint"]) == ("unknown-cluster", "did you mean 'local'?")
    assert "emr-flihgts" in problem["where"]["about"]
    (root / "aiflow.toml").write_text(config)
    (problem,) = aiflow(root, "check", "--env", "prod", "--json", code=1).records[0]["problems"]
    assert (problem["code"], problem["hint"]) == ("unknown-cluster", "did you mean 'emr-flights'?")
    assert (problem["where"]["path"], problem["where"]["line"]) == ("pipelines/clustered.py", 7)
    assert "did you mean 'prod'?" in aiflow(root, "check", "--env", "prdo", code=2).err


# Plugins.


def install(site: Path, package: str, text: str, points: str) -> None:
    """What an installer leaves of a package."""
    module = package.replace("-", "_")
    (site / f"{module}-1.0.dist-info").mkdir(parents=True)
    (site / f"{module}.py").write_text(text)
    (site / f"{module}-1.0.dist-info/METADATA").write_text(f"Name: {package}\nVersion: 1.0\n")
    (site / f"{module}-1.0.dist-info/entry_points.txt").write_text(points)


NUMBERS = '''
from aiflow_sdk.plugins import DatasetName, Source

class Numbers(Source, kind="numbers"):
    """Numbers."""

    def dataset(self):
        return DatasetName("memory", "numbers")

    def schema(self):
        import pyarrow as pa

        return pa.schema({"n": pa.int64()})

    def scan(self, request):
        import pyarrow as pa

        yield pa.RecordBatch.from_pylist([{"n": 1}], schema=self.schema())
'''
COUNTED = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="counted")
def counted(p):
    p.write(p.read(source.numbers(id="numbers")), sink.onelake(id="out", table="mart.counted"))
"""


def test_two_packages_that_claim_one_name_are_an_error_that_names_both(tmp_path):
    root, site = make_project(tmp_path / "shop", {"counted": COUNTED}), tmp_path / "site"
    install(site, "numbers-one", NUMBERS, "[aiflow.sources]\nnumbers = numbers_one:Numbers\n")
    aiflow(root, "run", "counted", PYTHONPATH=str(site))
    assert rows(root, "mart/counted") == [{"n": 1}]
    install(site, "numbers-two", NUMBERS, "[aiflow.sources]\nnumbers = numbers_two:Numbers\n")
    for words in (["check"], ["run", "counted"], ["plugins", "numbers"]):
        told = aiflow(root, *words, code=1, PYTHONPATH=str(site))
        said = told.err or told.out  # `plugins` shows it beside the others
        assert "the source 'numbers' is claimed by" in said
        assert "numbers-one" in said
        assert "numbers-two" in said
        data = aiflow(root, *words, "--json", code=1, PYTHONPATH=str(site)).out
        assert '"duplicate-plugin"' in data or words[0] == "plugins"
    # Who does not use it is not stopped by it.
    assert "done in" in aiflow(root, "run", "good", "--date", DAY, PYTHONPATH=str(site)).out


def test_a_plugin_that_cannot_be_loaded_is_told_to_who_uses_it(tmp_path):
    root, site = make_project(tmp_path / "shop", {"counted": COUNTED}), tmp_path / "site"
    install(site, "numbers-one", "import no_such_driver\n", "[aiflow.sources]\nnumbers = numbers_one:Numbers\n")
    told = aiflow(root, "check", code=1, PYTHONPATH=str(site))
    assert "error[broken-plugin]" in told.err
    assert "no_such_driver" in told.err
    assert "1 error in 1 of 2 pipelines" in told.out
    assert "done in" in aiflow(root, "run", "good", "--date", DAY, PYTHONPATH=str(site)).out


# Files as Windows writes them.


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(tmp_path):
    mistake = MISTAKES["column"]
    root = make_project(tmp_path / "shop", {"column": mistake.text}, 'pipelines = ["pipelines"]\n')
    for path in (*root.rglob("*.py"), root / "aiflow.toml"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    told = aiflow(root, "check", code=1)
    assert f"--> pipelines/column.py:{mistake.line}" in told.err
    assert re.search(r"\^\^\^\^\^ did you mean 'amount'\?$", told.err, re.MULTILINE)
    assert "\r" not in told.err + told.out
    assert "done in" in aiflow(root, "run", "good", "--date", DAY).out
    assert len(rows(root, "mart/good")) == 3
    (root / "aiflow.toml").write_bytes(b'\xef\xbb\xbfpipelines = ["pipelines"]\r\nlokc = "x"\r\n')
    assert "--> aiflow.toml:2" in aiflow(root, "check", code=1).err


# A module that does what it should not.


def test_a_module_that_hangs_is_ended_with_what_it_started(tmp_path):
    text = "import subprocess, time\nsubprocess.Popen(['sleep', '4711'])\ntime.sleep(4711)\n"
    root = make_project(tmp_path / "shop", {"hangs": text}, "discovery_timeout_seconds = 1.5\n")
    told = aiflow(root, "check", code=1)
    assert "error[module-timeout]" in told.err
    assert "--> pipelines/hangs.py:3" in told.err
    processes = [path.read_text() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [one for one in processes if one.startswith("sleep\x004711")]
    assert "done in" in aiflow(root, "run", "good", "--date", DAY).out
    # Where it might be the one that is meant it is imported, too, and not waited for.
    told = aiflow(root, "run", "goood", "--date", DAY, code=1)
    assert "did you mean 'good'?" in told.err
    assert "error[module-timeout]" in told.err


def test_what_a_module_prints_does_not_mix_with_the_data(tmp_path):
    text = "import os, sys\nprint('{')\nprint('oops', file=sys.stderr)\nos.write(1, b'raw')\n"
    root = make_project(tmp_path / "shop", {"good": text + GOOD, "noise": text})
    for words in (["check"], ["compile"], ["show", "good"], ["run", "good", "--date", DAY]):
        result = aiflow(root, *words, "--json")
        assert result.err == ""
        assert all(isinstance(record, dict) for record in result.records)
