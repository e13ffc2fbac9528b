"""Tables whose log tells the files in another way than ours: deletion vectors, checkpoints, transactions."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import SparkSession

from foreign.making import checkpoint, clean_log, create, insert, one, table


@table
def deletion_vectors(spark: SparkSession, at: str) -> None:
    """Rows deleted, updated and merged by deletion vectors; of one file all rows."""
    create(spark, at, enableDeletionVectors="true")
    insert(spark, at)
    spark.sql(f"delete from delta.`{at}` where id = 2")
    spark.sql(f"delete from delta.`{at}` where id = 6")
    spark.sql(f"update delta.`{at}` set text = 'FIVE' where id = 5")
    spark.sql(
        f"merge into delta.`{at}` t using (values (3, 'THREE'), (7, 'seven') as s(id, text)) s on t.id = s.id "
        "when matched then update set text = s.text "
        "when not matched then insert (id, text, day) values (s.id, s.text, date'2026-11-23')"
    )


@table
def deletion_vectors_unpartitioned(spark: SparkSession, at: str) -> None:
    """A deletion vector over a file of many rows."""
    create(spark, at, tail="", enableDeletionVectors="true")
    insert(spark, at, "(select id, cast(id as string) text, date'2026-11-20' day from range(5000))")
    spark.sql(f"delete from delta.`{at}` where id > 9 and id % 1000 != 0")


@table
def deletion_vectors_purged(spark: SparkSession, at: str) -> None:
    """Deletion vectors are allowed, were used, and the files were written anew without them."""
    create(spark, at, enableDeletionVectors="true")
    insert(spark, at)
    spark.sql(f"delete from delta.`{at}` where id = 2")
    spark.sql(f"reorg table delta.`{at}` apply (purge)")


@table
def deletion_vectors_dropped(spark: SparkSession, at: str) -> None:
    """The feature was dropped again, which leaves checkpointProtection behind."""
    create(spark, at, enableDeletionVectors="true")
    insert(spark, at)
    spark.sql(f"delete from delta.`{at}` where id = 2")
    spark.sql(f"alter table delta.`{at}` drop feature deletionVectors")


def _checkpointed(spark: SparkSession, at: str) -> None:
    insert(spark, at)
    for number in (7, 8):
        one(spark, at, number)
    spark.sql(f"delete from delta.`{at}` where id = 2")
    checkpoint(spark, at)
    one(spark, at, 9)
    clean_log(spark, at)


@table
def cleaned_log(spark: SparkSession, at: str) -> None:
    """The log begins with a checkpoint."""
    create(spark, at)
    _checkpointed(spark, at)


@table
def multipart_checkpoint(spark: SparkSession, at: str) -> None:
    """The log begins with a checkpoint of several files."""
    create(spark, at)
    spark.conf.set("spark.databricks.delta.checkpoint.partSize", "2")
    _checkpointed(spark, at)
    spark.conf.unset("spark.databricks.delta.checkpoint.partSize")


@table
def v2_checkpoint_parquet(spark: SparkSession, at: str) -> None:
    """The log begins with a checkpoint of the second kind, its head in Parquet."""
    _v2_checkpoint(spark, at, "parquet")


@table
def v2_checkpoint_json(spark: SparkSession, at: str) -> None:
    """The log begins with a checkpoint of the second kind, its head in JSON."""
    _v2_checkpoint(spark, at, "json")


def _v2_checkpoint(spark: SparkSession, at: str, head: str) -> None:
    spark.conf.set("spark.databricks.delta.checkpointV2.topLevelFileFormat", head)
    create(spark, at, checkpointPolicy="v2")
    _checkpointed(spark, at)
    for old in Path(at, "_delta_log").glob("?" * 20 + ".checkpoint.parquet"):
        old.unlink()  # written beside it for readers that know no other


@table
def struct_stats_checkpoint(spark: SparkSession, at: str) -> None:
    """The log begins with a checkpoint whose statistics are columns, not JSON."""
    create(spark, at, checkpoint__writeStatsAsStruct="true", checkpoint__writeStatsAsJson="false")
    _checkpointed(spark, at)


@table
def optimized(spark: SparkSession, at: str) -> None:
    """Small files were made one."""
    create(spark, at)
    insert(spark, at)
    for number in (7, 8):
        one(spark, at, number, "2026-11-20")
    spark.sql(f"optimize delta.`{at}` zorder by (id)")


@table
def in_commit_timestamps(spark: SparkSession, at: str) -> None:
    """Commits tell their own time."""
    create(spark, at, enableInCommitTimestamps="true")
    insert(spark, at)


@table
def spark_transactions(spark: SparkSession, at: str) -> None:
    """Application transactions that Spark wrote, of odd names."""
    create(spark, at)
    insert(spark, at)
    for number, app in enumerate(("app", "../ä 'b'", "with/slash"), 7):
        frame = spark.sql(f"select {number}L id, 'n' text, date'2026-11-22' day").coalesce(1)
        frame.write.format("delta").mode("append").option("txnAppId", app).option("txnVersion", number).save(at)


@table
def vacuum_protocol_check(spark: SparkSession, at: str) -> None:
    """A reader feature that changes nothing for readers."""
    create(spark, at, feature__vacuumProtocolCheck="supported")
    insert(spark, at)


@table
def without_statistics(spark: SparkSession, at: str) -> None:
    """The log does not tell how many rows a file has."""
    spark.conf.set("spark.databricks.delta.stats.collect", "false")
    create(spark, at)
    insert(spark, at)
    spark.conf.unset("spark.databricks.delta.stats.collect")


@table
def random_prefixes(spark: SparkSession, at: str) -> None:
    """Files that lie in no folder of their partition."""
    create(spark, at, randomizeFilePrefixes="true")
    insert(spark, at)
