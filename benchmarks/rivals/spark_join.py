"""Join, group, write: a bare Sail script."""

from pysail.spark import SparkConnectServer
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

server = SparkConnectServer("127.0.0.1", 0)
server.start()
_, port = server.listening_address
spark = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()
orders = spark.read.format("delta").load(".aiflow/lake/raw/orders")
lineitem = spark.read.format("delta").load(".aiflow/lake/raw/lineitem")
(
    lineitem.join(orders, lineitem.l_orderkey == orders.o_orderkey)
    .groupBy("o_orderdate", "o_orderpriority")
    .agg(F.sum(F.col("l_extendedprice").cast("double")).alias("revenue"), F.count("*").alias("items"))
    .write.format("delta")
    .mode("overwrite")
    .save(".aiflow/lake/bare/revenue")
)
spark.stop()
server.stop()
