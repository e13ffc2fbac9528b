"""Orders of one day by user, on Spark."""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F


def main(spark: SparkSession, inputs: dict[str, DataFrame], params: dict) -> DataFrame:
    """Return how many orders each user placed, and for how much."""
    return (
        inputs["orders_onelake"]
        .groupBy("user_id")
        .agg(F.count("*").alias("order_cnt"), F.sum("amount").alias("order_amt"))
    )
