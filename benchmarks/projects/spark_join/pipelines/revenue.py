"""Join, group, write, on Spark."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from aiflow_sdk import pipeline, sink, source


def revenue_by_day(orders: DataFrame, lineitem: DataFrame) -> DataFrame:
    return (
        lineitem.join(orders, lineitem.l_orderkey == orders.o_orderkey)
        .groupBy("o_orderdate", "o_orderpriority")
        .agg(F.sum(F.col("l_extendedprice").cast("double")).alias("revenue"), F.count("*").alias("items"))
    )


@pipeline(id="revenue", schedule=None, owner="bench")
def revenue(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders"))
    lineitem = p.read(source.onelake(id="lineitem", table="raw.lineitem"))
    by_day = p.transform(orders, lineitem, id="by_day", engine="spark", fn="pipelines.revenue:revenue_by_day")
    p.write(by_day, sink.onelake(id="out", table="mart.revenue", mode="overwrite"))
