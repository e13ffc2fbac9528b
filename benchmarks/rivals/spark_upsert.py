"""Upsert a Parquet file into a table of orders: bare Spark on the JVM. Arguments: the table, the file.

Run by .venv-spark's Python, which `make spark` makes.
"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession

table, file = sys.argv[1:]
jars = Path(sys.prefix, "jars").glob("*.jar")
spark = (
    SparkSession.builder.master("local[*]")
    .config("spark.jars", ",".join(map(str, jars)))
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    .config("spark.sql.shuffle.partitions", "4")
    .config("spark.databricks.delta.snapshotPartitions", "2")
    .config("spark.driver.memory", "2g")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.ui.showConsoleProgress", "false")
    .getOrCreate()
)
spark.sql(
    f"merge into delta.`{table}` old using parquet.`{file}` new on old.o_orderkey = new.o_orderkey "
    "when matched then update set * when not matched then insert *"
)
spark.stop()
