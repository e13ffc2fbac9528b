"""Sixty million rows, lazily: filtered and derived, nothing grouped."""

import polars as pl

from aiflow_sdk import pipeline, sink, source


def discount(lineitem: pl.LazyFrame) -> pl.LazyFrame:
    price = pl.col("l_extendedprice").cast(pl.Float64) * (1 - pl.col("l_discount").cast(pl.Float64))
    return lineitem.select("l_orderkey", "l_linenumber", "l_shipdate", price.alias("price"))


@pipeline(id="discounted", schedule=None, owner="bench")
def discounted(p):
    lineitem = p.read(source.onelake(id="lineitem", table="raw.lineitem"))
    prices = lineitem.transform(id="discount", engine="python", fn="pipelines.discounted:discount")
    p.write(prices, sink.onelake(id="out", table="mart.discounted", mode="overwrite"))
