"""Compiling many pipelines: what aiflow adds to importing the user's modules twice."""

from __future__ import annotations

import statistics
from pathlib import Path

from measure import DATA, Command, Row, aiflow, python, run, set_aside

PER_FILE = 10

PIPELINE = """
@pipeline(id="p{number}", schedule="0 3 * * *", owner="team_{team}")
def p{number}(p):
    orders = p.read(source.onelake(id="orders", table="raw.t{number}", partitions={{"dt": "{{{{ ds }}}}"}}))
    spend = orders.transform(id="spend", engine="python", fn="etl.spend:main", least={number})
    p.write(spend, sink.onelake(id="out", table="mart.t{number}", partition_by=["dt"]))
"""

IMPORT_TWICE = """
import importlib, pathlib, sys
sys.path.insert(0, ".")
for path in sorted(pathlib.Path("pipelines").glob("m*.py")):
    importlib.import_module(f"pipelines.{path.stem}")
"""


def project_of(pipelines: int, name: str = "compile") -> Path:
    """Return a project with so many pipelines, ten a file, made anew."""
    folder = DATA / f"{name}-{pipelines}"
    set_aside(folder)
    for name in ("pipelines", "etl"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("")
    (folder / "etl" / "spend.py").write_text("def main(orders, least): return orders\n")
    for first in range(0, pipelines, PER_FILE):
        body = "".join(PIPELINE.format(number=first + i, team=first % 7) for i in range(PER_FILE))
        (folder / "pipelines" / f"m{first:06}.py").write_text("from aiflow_sdk import pipeline, sink, source\n" + body)
    return folder


def _measure(pipelines: int) -> list[Row]:
    folder = project_of(pipelines)
    importing = Command(python("-c", IMPORT_TWICE), folder)
    run(importing)
    imported = 2 * statistics.median(run(importing).seconds for _ in range(3))
    compile_all = Command(aiflow("--json", "compile"), folder, before=lambda: set_aside(folder / ".aiflow"))
    cold = statistics.median(run(compile_all).seconds for _ in range(3))
    per_pipeline = 1000 * (cold - imported) / pipelines
    changed = folder / "pipelines" / "m000000.py"
    edits = iter(range(100))

    def edit() -> None:
        changed.write_text(changed.read_text() + f"# {next(edits)}\n")

    warm = statistics.median(run(Command(aiflow("--json", "compile"), folder, before=edit)).seconds for _ in range(5))
    plans = len(list((folder / ".aiflow" / "compiled").rglob("plan.json")))
    assert plans == pipelines, f"{plans} plans of {pipelines} pipelines"
    name = f"compile_{pipelines}"
    return [
        Row(name, f"{per_pipeline:.2f} ms", "1.00 ms", per_pipeline, "≤ 1", per_pipeline <= 1),
        Row(f"{name}_changed", f"{warm:.2f} s", f"{cold:.2f} s", warm / cold, "≤ 0.02", warm / cold <= 0.02),
    ]


def compile_1000() -> list[Row]:
    """1,000 pipelines in 100 files."""
    rows = _measure(1_000)
    # A whole process takes its start-up time however little there is to do; the bound is stated for 10,000.
    return [rows[0], Row(rows[1].name, rows[1].ours, rows[1].rival, rows[1].ratio, "stated", None)]


def compile_10000() -> list[Row]:
    """10,000 pipelines in 1,000 files."""
    return _measure(10_000)
