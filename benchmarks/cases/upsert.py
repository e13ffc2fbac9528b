"""One row in a hundred of SF1 orders merged into the table, against the bare drivers."""

from __future__ import annotations

import shutil
from pathlib import Path

from measure import DATA, ROOT, Command, Row, aiflow, compare, python, set_aside, tpch

FOLDER = DATA / "lake_upsert"
SPARK = ROOT / ".venv-spark" / "bin" / "python"
RIVALS = ROOT / "benchmarks" / "rivals"

PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="upsert")
def upsert(p):
    changes = p.read(source.files(id="changes", path="changes.parquet"))
    p.write(changes, sink.onelake(id="orders", table="raw.orders", mode="upsert", keys=["o_orderkey"]))
"""


def _tables() -> dict[str, Path]:
    """Lay a project and two bare tables of SF1 orders beside it; return name → table."""
    import polars as pl

    set_aside(FOLDER)
    (FOLDER / "pipelines").mkdir(parents=True)
    (FOLDER / "pipelines" / "upsert.py").write_text(PIPELINE)
    (FOLDER / "aiflow.toml").write_text("")
    orders = pl.read_parquet(tpch(1, "orders") / "orders.parquet")
    # Half of the changed rows are there, half are new.
    changed = orders.gather_every(100)
    new = pl.col("o_orderkey").rank().cast(pl.Int64) % 2 == 0
    key = pl.when(new).then(-pl.col("o_orderkey")).otherwise(pl.col("o_orderkey"))
    changed.with_columns(key.alias("o_orderkey"), o_comment=pl.lit("changed")).write_parquet(FOLDER / "changes.parquet")
    orders.write_delta(str(FOLDER / "base"))
    return {"ours": FOLDER / ".aiflow" / "lake" / "raw" / "orders", "bare": FOLDER / "bare"}


def _anew(table: Path) -> None:
    set_aside(table)
    shutil.copytree(FOLDER / "base", table)


def lake_upsert() -> list[Row]:
    """Whole processes: `aiflow run`, a script of delta-rs, and one of Spark where `make spark` has made its place."""
    import polars as pl

    tables = _tables()
    changes = FOLDER / "changes.parquet"
    ours = Command(aiflow("run", "upsert"), FOLDER, before=lambda: _anew(tables["ours"]))

    def rival(script: str, interpreter: Path | str) -> Command:
        arguments = [interpreter, RIVALS / script, tables["bare"], changes]
        return Command(arguments, FOLDER, before=lambda: _anew(tables["bare"]))

    rows = [compare("lake_upsert", ours, rival("delta_rs_upsert.py", python()[0]), None)]
    check = [pl.scan_delta(str(table)).sort("o_orderkey").collect() for table in tables.values()]
    assert check[0].equals(check[1]), "the two tables differ"
    if SPARK.exists():
        rows.append(compare("lake_upsert_spark", ours, rival("spark_upsert.py", SPARK), None, times=3))
    return rows
