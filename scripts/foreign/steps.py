"""Do what standard input asks of Spark on the JVM, and print what came of it: both JSON, a list each.

    echo '[{"rows": "/tables/t"}]' | .venv-spark/bin/python scripts/foreign/steps.py

A step is ``{"rows": table}``, ``{"sql": text}`` or ``{"append": table, "select": text, "app": id, "version": number}``.
Its answer: rows (of ``rows`` and ``sql``), or ``{"error": text}``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

sys.path.insert(0, str(Path(__file__).parents[1]))

from foreign.spark import open_spark, told_rows


def take(spark: SparkSession, step: dict[str, Any]) -> Any:
    """Take one step."""
    if "rows" in step:
        return told_rows(spark.read.format("delta").load(step["rows"]))
    if "sql" in step:
        return [row.asDict() for row in spark.sql(step["sql"]).collect()]
    writer = spark.sql(step["select"]).write.format("delta").mode("append")
    if "app" in step:
        writer = writer.option("txnAppId", step["app"]).option("txnVersion", step["version"])
    writer.save(step["append"])
    return None


def main() -> None:
    """Take all steps."""
    spark = open_spark()
    answers: list[Any] = []
    for step in json.load(sys.stdin):
        try:
            answers.append(take(spark, step))
        except (PySparkException, Py4JError) as error:
            answers.append({"error": str(error).strip().splitlines()[0][:500]})
    spark.stop()
    print(json.dumps(answers, default=str))


if __name__ == "__main__":
    main()
