"""What people get wrong, typed at the real command line: what is said, where, how it ends, and that the rest goes on.

One project holds a good pipeline beside every mistake that ``check`` finds by itself; it is checked once, as words and
as data. What shows only in a run, in ``aiflow.toml`` or among the plugins has a project of its own.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

DAY = "2026-11-20"
HEAD = "from aiflow_sdk import pipeline, resources, sink, source, window\n"
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


class Result(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def aiflow(root: Path, *words: str, code: int | None = 0, **variables: str) -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "aiflow_sdk.cli", *words],
        cwd=root,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


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


def lay(root: Path, table: str, rows: list[dict[str, Any]], by: str) -> None:
    place = root / ".aiflow/lake" / table
    place.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_delta(str(place), delta_write_options={"partition_by": [by]})


def rows(root: Path, table: str) -> list[dict[str, Any]]:
    return sorted(pl.read_delta(str(root / ".aiflow/lake" / table)).to_dicts(), key=repr)


class Mistake(NamedTuple):
    """One wrong module: the body of its pipeline function, or its whole text. ``#!`` stands on the line to be named."""

    code: str
    says: str
    """What stands in the message or the hint."""
    body: str
    is_whole: bool = False
    arguments: str = 'schedule="@daily"'
    column: str = ""
    """The word that the carets stand under."""


READ = 'orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))\n'
WRITE = 'p.write(%s, sink.onelake(id="out", table="mart.NAME", partition_by=["dt"]))\n'
LONG = "x" * 300

MISTAKES = {
    "column": Mistake(
        "unknown-column", "did you mean 'amount'?",
        READ + 'p.write(\n    orders.sql(\n        "select id, sum(amout) as amount, dt from {orders} group by all"  #!\n    ),\n'
        '    sink.onelake(id="out", table="mart.NAME", partition_by=["dt"]))\n', column="amout",
    ),
    "engine": Mistake(
        "unknown-engine", "did you mean 'spark'?",
        READ + 'made = orders.transform(id="made", engine="sprak", fn="jobs:keep")  #!\n' + WRITE % "made", column="sprak",
    ),
    "source_plugin": Mistake(
        "unknown-source", "did you mean 'onelake'?",
        'orders = p.read(source.onelak(id="orders", table="raw.orders"))  #!\n' + WRITE % "orders",
    ),
    "sink_plugin": Mistake(
        "unknown-sink", "did you mean 'files'?", READ + 'p.write(orders, sink.flies(id="out", path="a.csv"))  #!\n',
    ),
    "option": Mistake(
        "unknown-option", "did you mean 'partition_by'?",
        READ + 'p.write(orders, sink.onelake(id="out", table="mart.NAME", partiton_by=["dt"]))  #!\n', column="partiton_by",
    ),
    "function": Mistake(
        "unknown-function", "did you mean 'keep'?",
        READ + 'made = orders.transform(id="made", fn="jobs:kep")  #!\n' + WRITE % "made",
    ),
    "function_module": Mistake(
        "unknown-function", "did you mean 'jobs'?",
        READ + 'made = orders.transform(id="made", fn="jbos:keep")  #!\n' + WRITE % "made",
    ),
    "variable": Mistake(
        "unknown-variable", "did you mean 'run_date'?",
        'orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": p.vars["run_dat"]}))  #!\n'
        + WRITE % "orders",
    ),
    "parameter": Mistake(
        "unknown-param", "did you mean 'least'?",
        READ + 'made = orders.transform(id="made", fn="jobs:keep", params={"x": "{{ params.leats }}"})  #!\n' + WRITE % "made",
        arguments='schedule="@daily", params={"least": 1}',
    ),
    "sql_input": Mistake(
        "unknown-input", "did you mean 'orders'?", READ + 'users = p.read(source.onelake(id="users", table="raw.users"))\n'
        'p.write(p.sql("select * from {ordres} join {users} using (id)", orders, users),  #!\n'
        '        sink.onelake(id="out", table="mart.NAME"))\n',
    ),
    "sql_of_itself": Mistake(
        "unknown-input", "loop", 'p.write(p.sql("select * from {loop}", id="loop"),  #!\n'
        '        sink.onelake(id="out", table="mart.NAME"))\n',
    ),
    "foreign": Mistake(
        "foreign-dataset", "source",
        HEAD + 'kept = []\n\n@pipeline(id="foreign_one")\ndef one(p):\n'
        '    orders = p.read(source.onelake(id="orders", table="raw.orders"))\n    kept.append(orders)\n'
        '    p.write(orders, sink.onelake(id="out", table="mart.one"))\n\n'
        'one()\n\n@pipeline(id="foreign")\ndef foreign(p):\n'
        '    p.write(kept[0], sink.onelake(id="out", table="mart.NAME"))  #!\n',
        is_whole=True,
    ),
    "unused": Mistake(
        "unused-node", "p.write", READ + 'orders.transform(id="lost", fn="jobs:keep")  #!\n' + WRITE % "orders",
    ),
    "unread_source": Mistake("unused-node", "orders", READ.strip() + "  #!\n"),
    "read_back": Mistake(
        "sink-read-back", "'out' writes in the same run",
        READ + WRITE % "orders" + 'again = p.read(source.onelake(id="again", table="mart.NAME"))  #!\n'
        'p.write(again, sink.onelake(id="other", table="mart.other"))\n',
    ),
    "signature": Mistake(
        "wrong-signature", "jobs.py:7",
        READ + 'made = orders.transform(id="made", fn="jobs:wants_more", threshold=1.0)  #!\n' + WRITE % "made",
    ),
    "node_id": Mistake(
        "bad-id", "'my_orders'",
        'orders = p.read(source.onelake(id="my orders", table="raw.orders"))  #!\n' + WRITE % "orders",
    ),
    "long_node_id": Mistake(
        "bad-id", "300 characters",
        f'orders = p.read(source.onelake(id="{LONG}", table="raw.orders"))  #!\n' + WRITE % "orders",
    ),
    "pipeline_id": Mistake(
        "bad-id", "'my_pipeline'",
        HEAD + '@pipeline(id="my pipeline")  #!\ndef one(p):\n    ' + 'p.write(p.read(source.onelake(id="a", table="raw.orders")), '
        'sink.onelake(id="out", table="mart.NAME"))\n', is_whole=True,
    ),
    "long_pipeline_id": Mistake(
        "bad-id", "300 characters",
        HEAD + f'@pipeline(id="{LONG}")  #!\ndef one(p):\n    ' + 'p.write(p.read(source.onelake(id="a", table="raw.orders")), '
        'sink.onelake(id="out", table="mart.NAME"))\n', is_whole=True,
    ),
    "leaving_table": Mistake(
        "bad-table-name", "schema.table", 'orders = p.read(source.onelake(id="orders", table="../etc.passwd"))  #!\n'
        + WRITE % "orders",
    ),
    "leaving_sink": Mistake(
        "bad-table-name", "schema.table", READ + 'p.write(orders, sink.onelake(id="out", table="mart/../../x.y"))  #!\n',
    ),
    "leaving_path": Mistake(
        "outside-lake", "lake", READ + 'p.write(orders, sink.onelake(id="out", path="mart/../../outside"))  #!\n',
    ),
    "leaving_files": Mistake(
        "outside-lake", "lake", READ + 'p.write(orders, sink.files(id="out", path="../outside"))  #!\n',
    ),
    "staging": Mistake(
        "outside-lake", "_staging", READ + 'p.write(orders, sink.onelake(id="out", path="_staging/mine"))  #!\n',
    ),
    "no_time": Mistake(
        "no-time-partition", "partition=", READ.strip() + "  #!\n" + WRITE % "orders", arguments="schedule=None",
    ),
    "condition": Mistake(
        "variable-at-build-time", "run time",
        READ + 'if p.vars["run_date"] > "2026-01-01":  #!\n    pass\n' + WRITE % "orders",
    ),
    "secret": Mistake(
        "literal-secret", "secret://",
        READ + 'made = orders.transform(id="made", fn="jobs:keep", params={"password": "hunter2hunter2"})  #!\n'
        + WRITE % "made",
    ),
    "sql": Mistake("bad-sql", "does not parse", READ + WRITE % 'orders.sql("select * from {orders} where (id = 1")  #!\n'),
    "twice": Mistake(
        "duplicate-node-id", "'orders'", READ + 'p.read(source.onelake(id="orders", table="raw.orders"))  #!\n'
        + WRITE % "orders",
    ),
    "schedule": Mistake("bad-schedule", "did you mean '@daily'?", READ + WRITE % "orders", arguments='schedule="@dayly"  #!\n'),
    "clock": Mistake(
        "clock-at-build-time", "p.vars",
        "import datetime\n" + HEAD + "TODAY = datetime.date.today()  #!\n", is_whole=True,
    ),
    "network": Mistake(
        "network-at-build-time", "",
        "import socket\n" + HEAD + 'socket.create_connection(("127.0.0.1", 9))  #!\n', is_whole=True,
    ),
    "syntax": Mistake("module-failed", "was never closed", HEAD + "def one(p:  #!\n", is_whole=True),
    "raises": Mistake("module-failed", "ZeroDivisionError", HEAD + "1 / 0  #!\n", is_whole=True),
    "missing_module": Mistake("module-failed", "no_such_package", HEAD + "import no_such_package  #!\n", is_whole=True),
    "exits": Mistake("module-failed", "sys.exit", "import sys\nsys.exit(3)  #!\n", is_whole=True),
    "dies": Mistake("module-crashed", "exit code 7", "import os\nos._exit(7)  #!\n", is_whole=True),
    "hangs": Mistake("module-timeout", "3 seconds", "import time\ntime.sleep(60)  #!\n", is_whole=True),
    "build_raises": Mistake("build-failed", "KeyError", READ + '{}["a"]  #!\n'),
}  # fmt: skip


def text_of(name: str, mistake: Mistake) -> str:
    if mistake.is_whole:
        return mistake.body.replace("NAME", name)
    head = f'{HEAD}\n@pipeline(id="{name}", {mistake.arguments})\ndef {name}(p):\n'
    return head + textwrap.indent(mistake.body.replace("NAME", name), "    ")


def line_of(text: str) -> int:
    (line,) = [number for number, line in enumerate(text.splitlines(), 1) if "#!" in line]
    return line


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    modules = {f"m_{name}": text_of(name, mistake) for name, mistake in MISTAKES.items()}
    modules["m_prints"] = 'print("hello from a module")\n' + GOOD.replace("good", "printing")
    return make_project(
        tmp_path_factory.mktemp("broken") / "shop", modules, "discovery_timeout_seconds = 3\n"
    )


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
    text = text_of(name, mistake)
    path = f"pipelines/m_{name}.py"
    here = [one for one in told_as_data["problems"] if (one["where"] or {}).get("path") == path]
    assert [one["code"] for one in here] == [mistake.code], json.dumps(here, indent=1)
    (problem,) = here
    assert problem["where"]["line"] == line_of(text), problem
    said = problem["message"] + " " + (problem["hint"] or "") + " ".join(problem["notes"])
    assert mistake.says.replace("NAME", name) in said, problem
    # The same in words: the code, the place, the line itself, and where to read on.
    blocks = [block for block in re.split(r"\n(?=error\[)", told.err) if f"--> {path}:" in block]
    (block,) = blocks
    assert block.startswith(f"error[{mistake.code}]: ")
    assert f"--> {path}:{line_of(text)}" in block
    assert f"docs/errors.md#{mistake.code}" in block
    if mistake.column:
        source, carets = re.findall(r"^ *\d+ \| (.*)\n +\| (.*)$", block, re.MULTILINE)[0]
        start = carets.index("^")
        assert source[start : start + carets.count("^")] == mistake.column
