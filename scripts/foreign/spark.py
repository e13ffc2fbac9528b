"""A small Spark with Delta, and rows as JSON tells them."""

from __future__ import annotations

import base64
import datetime as dt
import os
import time
from decimal import Decimal
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

JARS = Path(__file__).parents[2] / ".venv-spark" / "jars"


def open_spark() -> SparkSession:
    """Return a session for small data, of UTC."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    settings = {
        "spark.jars": ",".join(str(path) for path in sorted(JARS.glob("*.jar"))),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.databricks.delta.snapshotPartitions": "1",
        # Small data: what Spark compiles and plans anew would take far longer than it saves.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.extraJavaOptions": "-Duser.timezone=UTC -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    }
    builder = SparkSession.builder.master("local[1]")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def told_rows(frame: DataFrame) -> list[dict[str, object]]:
    """Return the rows, by id: bytes in base64, moments and decimals as text."""
    rows = frame.selectExpr(*(_told(name, kind) for name, kind in frame.dtypes)).orderBy("id").collect()
    return [{key: _plain(value) for key, value in row.asDict(recursive=True).items()} for row in rows]


def _told(name: str, kind: str) -> str:
    """Return the column as an expression whose value Python tells rightly: its moments are of the machine's zone."""
    match kind:
        case "timestamp":
            return f"date_format(`{name}`, \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS'+00:00'\") `{name}`"
        case "timestamp_ntz":
            return f"date_format(`{name}`, \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS\") `{name}`"
        case "variant":
            return f"to_json(`{name}`) `{name}`"
        case _:
            return f"`{name}`"


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dt.date():
            return value.isoformat()
        case Decimal():
            return str(value)
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return str(value)
