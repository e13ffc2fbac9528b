"""Scan, group, derive, write: bare polars."""

import polars as pl

(
    pl.scan_delta(".aiflow/lake/raw/orders")
    .group_by("o_custkey")
    .agg(pl.len().alias("orders"), pl.col("o_totalprice").cast(pl.Float64).sum().alias("spend"))
    .with_columns((pl.col("spend") / pl.col("orders")).alias("average"))
    .collect()
    .write_delta(".aiflow/lake/bare/spend", mode="overwrite")
)
