"""Tables that ask something of whoever writes them."""

from __future__ import annotations

from pyspark.sql import SparkSession

from foreign.making import create, insert, one, table


@table
def plain(spark: SparkSession, at: str) -> None:
    """Nothing is foreign in it but the writer."""
    create(spark, at)
    insert(spark, at)


@table
def identity_column(spark: SparkSession, at: str) -> None:
    """Numbers that the writer has to give."""
    create(spark, at, "id bigint, text string, day date, number bigint generated always as identity")
    insert(spark, at)


@table
def generated_column(spark: SparkSession, at: str) -> None:
    """A column that the writer has to compute."""
    from pyspark.sql.types import DateType, LongType, StringType

    maker = spark._jvm.io.delta.tables.DeltaTable.create(spark._jsparkSession).location(at)
    column = spark._jvm.io.delta.tables.DeltaTable.columnBuilder
    for name, kind in (("id", LongType()), ("text", StringType()), ("day", DateType())):
        maker = maker.addColumn(column(spark._jsparkSession, name).dataType(kind.simpleString()).build())
    twice = column(spark._jsparkSession, "twice").dataType("bigint").generatedAlwaysAs("id * 2").build()
    maker.addColumn(twice).partitionedBy(spark.sparkContext._gateway.new_array(spark._jvm.String, 0)).execute()
    insert(spark, at)


@table
def check_constraint(spark: SparkSession, at: str) -> None:
    """Every id is below 100."""
    create(spark, at)
    insert(spark, at)
    spark.sql(f"alter table delta.`{at}` add constraint small check (id < 100)")


@table
def not_null(spark: SparkSession, at: str) -> None:
    """A column that may not be null."""
    create(spark, at, "id bigint not null, text string, day date")
    insert(spark, at)


@table
def column_default(spark: SparkSession, at: str) -> None:
    """A column with a default."""
    create(spark, at, "id bigint, text string default 'none', day date", feature__allowColumnDefaults="supported")
    insert(spark, at)


@table
def varchar(spark: SparkSession, at: str) -> None:
    """Texts of at most five characters."""
    create(spark, at, "id bigint, text varchar(5), day date")
    insert(spark, at)


@table
def change_data_feed(spark: SparkSession, at: str) -> None:
    """Changes are recorded in files of their own."""
    create(spark, at, enableChangeDataFeed="true")
    insert(spark, at)
    spark.sql(f"update delta.`{at}` set text = 'FIVE' where id = 5")
    spark.sql(f"delete from delta.`{at}` where id = 2")


@table
def append_only(spark: SparkSession, at: str) -> None:
    """No row may ever go."""
    create(spark, at, appendOnly="true")
    insert(spark, at)


@table
def clustered(spark: SparkSession, at: str) -> None:
    """Liquid clustering."""
    create(spark, at, tail="cluster by (day)")
    insert(spark, at)
    one(spark, at, 7)
    spark.sql(f"optimize delta.`{at}`")


@table
def row_tracking(spark: SparkSession, at: str) -> None:
    """Every row has a number that stays."""
    create(spark, at, enableRowTracking="true")
    insert(spark, at)
    spark.sql(f"update delta.`{at}` set text = 'FIVE' where id = 5")


@table
def iceberg_compat(spark: SparkSession, at: str) -> None:
    """Files that Iceberg could read: more is asked of a writer."""
    create(spark, at, columnMapping__mode="name", enableIcebergCompatV2="true")
    insert(spark, at)
