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


def rank_pages(days: pl.LazyFrame) -> pl.LazyFrame:
    """Return the day's pages with their rank, the one with most clicks first."""
    return days.sort(["clicks", "page"], descending=[True, False]).with_row_index("rank", 1).cast({"rank": pl.Int32})
