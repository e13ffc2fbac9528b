"""What the pipeline's nodes call."""

import polars as pl
from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def keep(orders: pl.LazyFrame, least: float, dt: str, token: str) -> pl.LazyFrame:
    """Return the orders worth keeping."""
    assert token == "sesame"
    return orders.filter(pl.col("amount") >= float(least)).with_columns(dt=pl.lit(dt))


def totals(inputs: dict[str, DataFrame], spark) -> DataFrame:
    """Return what each user spent."""
    return inputs["today"].groupBy("user_id").agg(F.sum("amount").alias("amount"))


def rank(totals: pl.DataFrame, context) -> pl.DataFrame:
    """Return the users by what they spent."""
    return totals.sort("amount", descending=True).with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32))
