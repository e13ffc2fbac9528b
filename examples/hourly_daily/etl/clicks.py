"""Counts of clicks, lazily: nothing is read before the sink asks for it."""

import polars as pl


def count_pages(raw: pl.LazyFrame) -> pl.LazyFrame:
    """Return one row a page."""
    return raw.group_by("page").agg(pl.len().cast(pl.Int64).alias("clicks"))


def sum_pages(hours: pl.LazyFrame, dt: str) -> pl.LazyFrame:
    """Return one row a page, and from how many hours it comes."""
    return (
        hours.group_by("page")
        .agg(pl.sum("clicks"), pl.col("hour").n_unique().cast(pl.Int64).alias("hours"))
        .with_columns(pl.lit(dt).alias("dt"))
    )
