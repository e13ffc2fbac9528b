"""Scan, group, derive, write."""

import polars as pl

from aiflow_sdk import pipeline, sink, source


def spend_by_customer(orders: pl.LazyFrame) -> pl.LazyFrame:
    return (
        orders.group_by("o_custkey")
        .agg(pl.len().alias("orders"), pl.col("o_totalprice").cast(pl.Float64).sum().alias("spend"))
        .with_columns((pl.col("spend") / pl.col("orders")).alias("average"))
    )


@pipeline(id="spend", schedule=None, owner="bench")
def spend(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders"))
    by_customer = orders.transform(id="by_customer", engine="python", fn="pipelines.spend:spend_by_customer")
    p.write(by_customer, sink.onelake(id="out", table="mart.spend", mode="overwrite"))
