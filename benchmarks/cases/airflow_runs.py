"""Runs in a live Airflow, ours against DAGs written by hand; needs ``scripts/airflow_environment.sh``."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import polars as pl
from measure import DATA, ROOT, Row, aiflow, set_aside

from cases.airflow import PYTHON, SCRIPTS

DAYS = [f"2026-01-{day:02}" for day in range(1, 29)]
ROUNDS = 7

PIPELINES = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="first_line", partition="day")
def first_line(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    first = orders.transform(id="first", engine="python", fn="etl.first:main")
    p.write(first, sink.onelake(id="out", table="mart.first", partition_by=["dt"]))

def features(p, table, fuse):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    spend = orders.transform(id="spend", engine="spark", fn="etl.spend:main", fuse=fuse)
    features = spend.transform(id="features", engine="python", fn="etl.features:main", fuse=fuse)
    p.write(features, sink.onelake(id="out", table=table, partition_by=["dt"]))

@pipeline(id="four_nodes", partition="day")
def four_nodes(p):
    features(p, "mart.fused", True)

@pipeline(id="four_nodes_apart", partition="day")
def four_nodes_apart(p):
    features(p, "mart.apart", False)
"""
CODE = {
    "first": """
import time
import polars as pl

def main(orders: pl.DataFrame) -> pl.DataFrame:
    open(MARK, "w").write(str(time.time()))
    return orders
""",
    "spend": """
import time

def main(orders):
    from pyspark.sql import functions as F

    open(MARK, "w").write(str(time.time()))
    return orders.groupBy("user").agg(F.sum("amount").alias("amount"), F.count("*").alias("orders"))
""",
    "features": """
import polars as pl

def main(spend: pl.DataFrame) -> pl.DataFrame:
    return spend.with_columns((pl.col("amount") / pl.col("orders")).alias("average"))
""",
}
HAND_WRITTEN = '''"""DAGs written by hand."""
import datetime

from airflow.sdk import DAG
from airflow.providers.standard.operators.python import ExternalPythonOperator, PythonOperator

LAKE, FRAMES, MARK, ENGINES = {lake!r}, {frames!r}, {mark!r}, {engines!r}


def first(day, lake, mark):
    import time

    import polars as pl

    open(mark, "w").write(str(time.time()))
    orders = pl.scan_delta(f"{{lake}}/raw/orders").filter(pl.col("dt") == day).collect()
    orders.write_delta(
        f"{{lake}}/hand/first", mode="overwrite",
        delta_write_options={{"partition_by": ["dt"], "predicate": f"dt = '{{day}}'"}},
    )


def engines():
    import sys

    if ENGINES not in sys.path:
        sys.path.append(ENGINES)  # as if they were installed beside Airflow
    import polars

    return polars


def read(day):
    pl = engines()
    orders = pl.scan_delta(f"{{LAKE}}/raw/orders").filter(pl.col("dt") == day).drop("dt").collect()
    orders.write_parquet(f"{{FRAMES}}/orders-{{day}}.parquet")


def spend(day):
    import time

    engines()
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer()
    server.start()
    from pyspark.sql import SparkSession, functions as F

    spark = SparkSession.builder.remote(f"sc://localhost:{{server.listening_address[1]}}").getOrCreate()
    open(MARK, "w").write(str(time.time()))
    orders = spark.read.parquet(f"{{FRAMES}}/orders-{{day}}.parquet")
    spend = orders.groupBy("user").agg(F.sum("amount").alias("amount"), F.count("*").alias("orders"))
    spend.write.mode("overwrite").parquet(f"{{FRAMES}}/spend-{{day}}.parquet")


def features(day):
    pl = engines()
    spend = pl.read_parquet(f"{{FRAMES}}/spend-{{day}}.parquet/*.parquet")
    features = spend.with_columns((pl.col("amount") / pl.col("orders")).alias("average"))
    features.write_parquet(f"{{FRAMES}}/features-{{day}}.parquet")


def write(day):
    pl = engines()
    features = pl.read_parquet(f"{{FRAMES}}/features-{{day}}.parquet").with_columns(pl.lit(day).alias("dt"))
    features.write_delta(
        f"{{LAKE}}/hand/features", mode="overwrite",
        delta_write_options={{"partition_by": ["dt"], "predicate": f"dt = '{{day}}'"}},
    )


DAY = "{{{{ dag_run.conf['partition'] }}}}"
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)

with DAG("hand_first_line", schedule=None, start_date=START):
    ExternalPythonOperator(
        task_id="first", python={python!r}, python_callable=first,
        op_kwargs={{"day": DAY, "lake": LAKE, "mark": MARK}}, expect_airflow=False,
    )

with DAG("hand_four_nodes", schedule=None, start_date=START):
    tasks = [PythonOperator(task_id=f.__name__, python_callable=f, op_kwargs={{"day": DAY}})
             for f in (read, spend, features, write)]
    for earlier, later in zip(tasks, tasks[1:]):
        earlier >> later
'''


def airflow_runs() -> list[Row]:
    """Queued to the user's first line, and the seed's four nodes from trigger to success."""
    folder = DATA / "airflow-runs"
    set_aside(folder)
    mark = folder / "mark"
    _project(folder, mark)
    python = Path(sys.executable)
    (engines,) = (str(path) for path in (python.parents[1] / "lib").glob("python3*/site-packages"))
    frames, dags = folder / "frames", folder / "dags"
    for made in (frames, dags):
        made.mkdir()
    stated = {"lake": str(folder / "lake"), "frames": str(frames), "mark": str(mark)}
    (dags / "hand.py").write_text(HAND_WRITTEN.format(**stated, engines=engines, python=str(python)))
    names = ["first_line", "hand_first_line", "four_nodes", "four_nodes_apart", "hand_four_nodes"]
    done = subprocess.run(
        [PYTHON, SCRIPTS / "latency.py", folder / "home", folder / "store", dags, mark, str(ROUNDS), *names],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    _check(folder / "lake")
    ours, rival = (statistics.median(found[name]["first_line"]) for name in names[:2])
    fused, apart, hand = (statistics.median(found[name]["whole"]) for name in names[2:])
    return [
        Row("airflow_first_line", f"{ours:.2f} s", f"{rival:.2f} s", ours / rival, "≤ 1.2", ours / rival <= 1.2),
        Row("airflow_four_nodes", f"{fused:.1f} s", f"{hand:.1f} s", fused / hand, "stated", None),
        Row("airflow_four_nodes_apart", f"{apart:.1f} s", f"{hand:.1f} s", apart / hand, "stated", None),
        Row("airflow_fusing", f"{fused:.1f} s", f"{apart:.1f} s", fused / apart, "stated", None),
    ]


def _project(folder: Path, mark: Path) -> None:
    for name in ("pipelines", "etl"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
    (folder / "pipelines" / "four.py").write_text(PIPELINES)
    for name, text in CODE.items():
        (folder / "etl" / f"{name}.py").write_text(text.replace("MARK", repr(str(mark))))
    shutil.copy(ROOT / "locks" / "demo.txt", folder / "requirements.txt")
    (folder / "aiflow.toml").write_text(
        f'lock = "requirements.txt"\n[environments.dev]\nlake = "{folder / "lake"}"\nbundles = "{folder / "store"}"\n'
    )
    orders = pl.DataFrame(
        {
            "user": [number % 1_000 for number in range(10_000)] * len(DAYS),
            "amount": [float(number % 97) for number in range(10_000)] * len(DAYS),
            "dt": [day for day in DAYS for _ in range(10_000)],
        }
    )
    (folder / "lake" / "raw" / "orders").mkdir(parents=True)
    orders.write_delta(folder / "lake" / "raw" / "orders", delta_write_options={"partition_by": ["dt"]})
    subprocess.run(aiflow("deploy"), cwd=folder, check=True, capture_output=True)


def _check(lake: Path) -> None:
    """Assert that all ways made the same rows."""
    columns = ["dt", "user", "amount", "orders", "average"]
    hand, fused, apart = (
        pl.read_delta(str(lake / table)).with_columns(pl.col("dt").cast(pl.String)).select(columns).sort("dt", "user")
        for table in ("hand/features", "mart/fused", "mart/apart")
    )
    assert hand.height == 1_000 * (ROUNDS + 1), hand.height
    assert hand.equals(fused)
    assert hand.equals(apart)
