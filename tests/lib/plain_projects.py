"""A project with a node of every kind that can be ejected."""

from pathlib import Path

from projects import lay

SHOP = """
from aiflow_sdk import pipeline, sink, source, window


@pipeline(id="shop", schedule="@daily", timezone="Europe/Berlin", params={"least": 2, "who": "it's me"}, retries=1,
          retry_backoff=2)
def shop(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": p.vars["run_date"]}))
    week = p.read(source.onelake(id="week", table="raw.orders", partitions={"dt": window.last(7)}))
    prices = p.read(source.files(id="prices", path="data/prices.csv", types={"price": "double"}))
    notes = p.read(source.files(id="notes", path="data/notes/*.jsonl"))
    big = p.sql(
        '''
        select o.*, p.price, '{{ params.who }}' as who, {{ params.who }} as me, {{ ds }} as made, {'a': 1}.a as one
        from {orders} o join {prices} p using (product)
        where o.pieces >= {{ params.least }} and o.dt = {{ ds }}
        ''',
        orders, prices, id="big",
    )
    p.write(big, sink.onelake(id="big_out", table="out.big", partition_by=["dt"]))
    p.write(big, sink.files(id="big_files", path="files/big", partition_by=["dt", "product"]))
    p.write(big, sink.files(id="big_csv", path="files/big-{{ ds_nodash }}.csv"))
    p.write(big, sink.files(id="big_jsonl", path="files/all.jsonl"))
    sums = p.transform(week, notes, id="sums", engine="python", fn="jobs.tables:sums", day="{{ ds.offset(-1) }}")
    p.write(sums, sink.onelake(id="sums_out", table="out.sums"))
    spark = orders.transform(id="counted", engine="spark", fn="jobs.tables:counted", tag="t-{{ ds_nodash }}", extra=1)
    said = spark.sql("select product, n, 'x' as x from {counted} where n > 0", id="said", engine="spark")
    p.write(said, sink.onelake(id="said_out", table="out.said", partition_by=["dt"]))
    p.write(orders, sink.onelake(id="copy", table="out.copy", mode="append"))
    p.write(orders, sink.onelake(id="found", table="out.found", mode="overwrite_partitions", partition_by=["product"]))
    p.write(orders, sink.onelake(id="merged", table="out.merged", mode="upsert", keys=["id"], order_by="pieces"))
    p.write(orders, sink.onelake(id="fresh", table="out.fresh", mode="error_if_exists", partition_by=["dt"]))
    for region in ["us", "eu"]:
        b = p.branch_for_region(region)
        mine = b.transform(orders, id="mine", engine="python", fn="jobs.tables:mine", region=region)
        b.write(mine, sink.onelake(id="mine_out", table=f"out.mine_{region}", partition_by=["dt"]))
"""
MONTHLY = """
from datetime import timedelta

from aiflow_sdk import dataset, pipeline, resources, sink, source, window


@pipeline(
    id="monthly",
    description="The month's orders, and what was said of them.",
    schedule="0 5 1 * *",
    owner="team_shop",
    tags=["month"],
    start_date="2026-01-01",
    catchup=True,
    concurrency=2,
    timeout_minutes=90,
    retries=2,
    retry_delay_minutes=0.5,
    notify=["mailto:shop@company.com"],
    pool="shop",
)
def monthly(p):
    days = p.read(
        source.onelake(id="days", table="raw.d", partitions={"dt": window.covering()}, complete=20, wait_minutes=30)
    )
    last = p.read(source.onelake(id="last", table="raw.orders", partitions={"dt": window.latest(), "kind": ["a", "b"]}))
    old = p.read(source.onelake(id="old", path="raw/orders", version=3))
    joined = p.transform(days, last, old, id="joined", engine="python", fn="jobs.tables:joined", keep=[1, {"a": None}])
    month = "{{ ds.format('%Y-%m') }}"
    more = joined.transform(
        id="more", engine="python", fn="jobs.tables:more", retries=0, timeout_minutes=5, month=month
    )
    p.write(joined, sink.onelake(id="joined_out", table="out.joined", time="month", partition_by=["month", "kind"]))
    p.write(more, sink.onelake(id="more_out", table="out.more", schema_evolution="widen"))


@pipeline(id="store", schedule=dataset("raw.orders") & (dataset("raw.a") | dataset("raw.b")), partition="day")
def store(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    counted = orders.transform(
        id="counted",
        engine="spark",
        fn="jobs.tables:counted",
        tag="secret://tag",
        resources=resources.spark(conf={"spark.sql.shuffle.partitions": "8"}),
    )
    p.write(counted, sink.onelake(id="counted_out", table="out.counted", partition_by=["dt"]))
    p.write(orders, sink.onelake(id="kept", table="out.STORAGE", partition_by=["dt"]))
"""
ODD = r"""
from aiflow_sdk import pipeline, sink, source


@pipeline(
    id="odd",
    description='"STORAGE" in \"\"\"three\"\"\" and at the end\\',
    schedule="@daily",
    notify=["mailto:a\nimport os  # \0\r\x0c@company.com"],
)
def odd(p):
    rows = p.read(source.onelake(id="rows", table="raw.STORAGE", partitions={"dt": "{{ ds }}", "kind": ""}))
    said = p.sql("select *, 'STORAGE' as x from {rows}", rows, id="said", fuse=False)
    p.write(said, sink.onelake(id="STORAGE", table="out.STORAGE", partition_by=["dt"], mode="append"))
    p.write(said, sink.files(id="READ_ALSO", path='files/STORAGE\"\"\"b.csv'))
"""

TABLES = """
from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def sums(week: pd.DataFrame, notes: pa.Table, day, context) -> pd.DataFrame:
    context.logger.info("%s notes", notes.num_rows)
    made = week.groupby("product", as_index=False)["pieces"].sum()
    return made.assign(day=day, notes=notes.num_rows, ds=context.ds, discount=week["discount"].sum())


def counted(spark, inputs: dict[str, DataFrame], params):
    from pyspark.sql import functions as F

    made = inputs["orders"].groupBy("product").agg(F.count("*").alias("n"))
    return made.withColumn("tag", F.lit(params["tag"]))


def joined(days, last, old, keep) -> pa.Table:
    raise NotImplementedError


def more(joined, month: str):
    raise NotImplementedError


def mine(orders: duckdb.DuckDBPyRelation, region, **rest):
    return orders.filter(f"region = '{region}'").project("id, product, pieces, dt")
"""


TOML = """
pipelines = ["pipelines"]
default_environment = "dev"

[environments.prod]
lake = "s3://company-lake/main"
storage = { region = "eu-west-1", access_key_id = "secret://lake-key", secret_access_key = "secret://lake-secret" }

[environments.odd]
lake = "STORAGE"
reads_from = "prod"
secrets = { provider = "airflow" }
"""


def lay_shop(root: Path) -> Path:
    """Write the project and its table of orders, and return its folder."""
    for path, text in {
        "pipelines/__init__.py": "",
        "pipelines/shop.py": SHOP,
        "pipelines/others.py": MONTHLY,
        "pipelines/odd.py": ODD,
        "jobs/__init__.py": "",
        "jobs/tables.py": TABLES,
        "data/prices.csv": "product,price\ntea,3\ncup,\n",
        "data/notes/a.jsonl": '{"text": "one"}\n{"text": "two"}\n',
        "aiflow.toml": TOML,
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")
    rows = [
        {
            "id": n,
            "product": ("tea", "cup", "pot")[n // 3 % 3],
            "pieces": n % 5,
            "discount": None if n % 4 else n,
            "region": ("us", "eu")[n % 2],
            "dt": f"2026-11-{18 + n % 3}",
        }
        for n in range(60)
    ]
    lay(root, "raw/orders", rows, "dt")
    return root
