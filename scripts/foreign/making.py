"""How the foreign tables are made: what their makers share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import SparkSession

Maker = Callable[[SparkSession, str], None]
MAKERS: dict[str, Maker] = {}
ROWS = """
    values (1, 'one', date'2026-11-20'), (2, 'two', date'2026-11-20'), (3, 'three', date'2026-11-20'),
           (4, 'four', date'2026-11-21'), (5, 'five', date'2026-11-21'), (6, null, date'2026-11-22')
    as t(id, text, day)"""
COLUMNS = "id bigint, text string, day date"
PAST = 60 * 86_400
"""Seconds: longer ago than the log of a table is kept."""


def table(make: Maker) -> Maker:
    """Register a maker; its first line of documentation says what is foreign in its table."""
    MAKERS[make.__name__] = make
    return make


def create(
    spark: SparkSession, at: str, columns: str = COLUMNS, tail: str = "partitioned by (day)", **props: str
) -> None:
    """Create the table, empty, with Delta's properties (``_`` for ``.``)."""
    listed = ", ".join(f"'delta.{key.replace('__', '.')}' = '{value}'" for key, value in props.items())
    spark.sql(
        f"create table delta.`{at}` ({columns}) using delta {tail}" + (f" tblproperties ({listed})" if listed else "")
    )


def insert(spark: SparkSession, at: str, rows: str = ROWS, columns: str = "id, text, day") -> None:
    """Insert all rows at once: one file of each partition."""
    spark.sql(f"insert into delta.`{at}` ({columns}) select /*+ coalesce(1) */ {columns} from {rows}")


def one(spark: SparkSession, at: str, number: int, day: str = "2026-11-22") -> None:
    """Insert one more row."""
    insert(spark, at, f"values ({number}, 'n{number}', date'{day}') as t(id, text, day)")


def clean_log(spark: SparkSession, at: str) -> None:
    """Let the log look old, and let Spark clean it: afterwards the checkpoint is all that tells the beginning."""
    before = time.time() - PAST
    for path in sorted(Path(at, "_delta_log").rglob("*")):
        os.utime(path, (before, before))
        before += 1
    jvm = spark.sparkContext._jvm
    log = jvm.org.apache.spark.sql.delta.DeltaLog
    log.clearCache()
    log = log.forTable(spark._jsparkSession, at)
    log.doLogCleanup(log.update(False, jvm.scala.Option.empty(), jvm.scala.Option.empty()), jvm.scala.Option.empty())


def checkpoint(spark: SparkSession, at: str) -> None:
    """Write a checkpoint of the newest version."""
    spark.sparkContext._jvm.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, at).checkpoint()
