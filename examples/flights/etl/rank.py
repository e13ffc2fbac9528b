"""Airlines of one day, the most punctual first, on the Python worker."""

import polars as pl


def main(delays: pl.DataFrame, late_minutes: int) -> pl.DataFrame:
    """Return the airlines with their rank, and whether the day was a late one for them."""
    return delays.sort("delay_minutes", "carrier", nulls_last=True).with_columns(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int32).alias("rank"),
        (pl.col("delay_minutes") > late_minutes).alias("late"),
        pl.col("delay_minutes").round(2),
    )
