"""Delays of each airline on one day, on Spark."""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F


def main(spark: SparkSession, inputs: dict[str, DataFrame], params: dict) -> DataFrame:
    """Return one row an airline: flights, those that were cancelled, and minutes late on average and at most."""
    flights = inputs["flights"]
    return flights.groupBy("carrier").agg(
        F.count("*").alias("flights"),
        F.sum(F.when(F.col("dep_delay").isNull(), 1).otherwise(0)).alias("cancelled"),
        F.avg("dep_delay").alias("delay_minutes"),
        F.max("dep_delay").alias("worst_minutes"),
    )
