"""Tables whose columns and partitions are of another kind than ours."""

from __future__ import annotations

from pyspark.sql import SparkSession

from foreign.making import ROWS, create, insert, table


@table
def column_mapping_name(spark: SparkSession, at: str) -> None:
    """Columns by name, one renamed to what another one was called, one dropped and made anew."""
    create(spark, at, "id bigint, text string, note string, day date")
    insert(spark, at, f"(select *, concat('note ', id) note from (select * from {ROWS}))", "id, text, note, day")
    spark.sql(f"alter table delta.`{at}` set tblproperties ('delta.columnMapping.mode' = 'name')")
    spark.sql(f"alter table delta.`{at}` drop column note")
    spark.sql(f"alter table delta.`{at}` rename column text to note")
    spark.sql(f"alter table delta.`{at}` add column text string")
    insert(
        spark,
        at,
        "values (7, 'new text', 'new note', date'2026-11-22') as t(id, text, note, day)",
        "id, text, note, day",
    )


@table
def column_mapping_id(spark: SparkSession, at: str) -> None:
    """Columns by field id, of a name that Parquet forbids too, the partition column renamed."""
    create(spark, at, "id bigint, `odd name` string, d date", "partitioned by (d)", columnMapping__mode="id")
    insert(spark, at, f"(select id, text `odd name`, day d from {ROWS})", "id, `odd name`, d")
    spark.sql(f"alter table delta.`{at}` rename column d to day")


@table
def type_widening(spark: SparkSession, at: str) -> None:
    """Columns that were narrower in older files, a partition column among them."""
    columns = "id int, small tinyint, real float, amount decimal(6, 2), d date, part smallint"
    create(spark, at, columns, "partitioned by (part)", enableTypeWidening="true", feature__timestampNtz="supported")
    names = "id, small, real, amount, d, part"
    insert(spark, at, f"values (1, 1Y, 0.5F, 1.25BD, date'2026-11-20', 1S) as t({names})", names)
    for name, kind in (
        ("id", "bigint"),
        ("small", "int"),
        ("real", "double"),
        ("amount", "decimal(12, 4)"),
        ("d", "timestamp_ntz"),
        ("part", "int"),
    ):
        spark.sql(f"alter table delta.`{at}` alter column {name} type {kind}")
    wide = "5000000000L, 70000, 0.1D, 12345678.9876BD, timestamp_ntz'2026-11-21 01:02:03', 70000"
    insert(spark, at, f"values ({wide}) as t({names})", names)


@table
def variant(spark: SparkSession, at: str) -> None:
    """A column of type variant."""
    create(spark, at, "id bigint, text string, day date, free variant")
    insert(spark, at, f"(select *, parse_json(concat('{{\"n\": ', id, '}}')) free from {ROWS})", "id, text, day, free")


@table
def timestamps(spark: SparkSession, at: str) -> None:
    """Moments as Spark writes them (INT96) and local times, of years that nanoseconds cannot hold too."""
    create(spark, at, "id bigint, moment timestamp, wall timestamp_ntz, d date, day date")
    moments = ("2026-11-20 01:02:03.123456", "0001-01-01 00:00:00", "1582-10-10 12:00:00", "9999-12-31 23:59:59.999999")
    rows = ", ".join(
        f"({number}, timestamp'{text} UTC', timestamp_ntz'{text}', date'{text[:10]}', date'2026-11-20')"
        for number, text in enumerate(moments, 1)
    )
    insert(spark, at, f"values {rows} as t(id, moment, wall, d, day)", "id, moment, wall, d, day")


@table
def odd_partition_values(spark: SparkSession, at: str) -> None:
    """Partition values that have to be written otherwise in a path."""
    create(spark, at, "id bigint, text string, part string", "partitioned by (part)")
    values = [
        "a/b",
        "%2F",
        "it''s",
        "a b",
        " x ",
        "日本 é",
        "",
        "../x",
        "a=b",
        "a:b",
        "null",
        "__HIVE_DEFAULT_PARTITION__",
    ]
    values += ["a\\\\b", 'a"b', "a#b?c", "a%", "+", "a\\nb", "x" * 100]
    rows = [f"({number}, 't', '{value}')" for number, value in enumerate(values, 1)] + [
        f"({len(values) + 1}, 't', null)"
    ]
    insert(spark, at, f"values {', '.join(rows)} as t(id, text, part)", "id, text, part")


@table
def partition_types(spark: SparkSession, at: str) -> None:
    """A partition column of every type but binary."""
    kinds = {
        "p_string": ("string", "'a'"),
        "p_long": ("bigint", "-5000000000L"),
        "p_int": ("int", "-7"),
        "p_short": ("smallint", "7S"),
        "p_byte": ("tinyint", "7Y"),
        "p_bool": ("boolean", "true"),
        "p_date": ("date", "date'2026-11-20'"),
        "p_moment": ("timestamp", "timestamp'2026-11-20 05:00:00 UTC'"),
        "p_wall": ("timestamp_ntz", "timestamp_ntz'2026-11-20 05:06:07.123456'"),
        "p_decimal": ("decimal(10, 3)", "1.500BD"),
        "p_float": ("float", "0.5F"),
        "p_double": ("double", "0.1D"),
    }
    listed = ", ".join(kinds)
    create(
        spark,
        at,
        "id bigint, " + ", ".join(f"{name} {kind}" for name, (kind, _) in kinds.items()),
        f"partitioned by ({listed})",
    )
    values = ", ".join(value for _, value in kinds.values())
    nulls = ", ".join(f"cast(null as {kind})" for kind, _ in kinds.values())
    insert(spark, at, f"values (1, {values}), (2, {nulls}) as t(id, {listed})", f"id, {listed}")


@table
def partition_binary(spark: SparkSession, at: str) -> None:
    """A partition column of bytes."""
    create(spark, at, "id bigint, part binary", "partitioned by (part)")
    insert(spark, at, "values (1, X'4142'), (2, null) as t(id, part)", "id, part")


@table
def nested(spark: SparkSession, at: str) -> None:
    """Structs in lists in structs, maps, and a field that was added to a struct later."""
    kinds = {
        "id": "bigint",
        "day": "date",
        "s": "struct<a: int, inner: struct<b: string>>",
        "l": "array<struct<x: bigint, y: array<string>>>",
        "m": "map<string, int>",
    }
    create(spark, at, ", ".join(f"{name} {kind}" for name, kind in kinds.items()))
    names = ", ".join(kinds)
    record = "named_struct('a', 1, 'inner', named_struct('b', 'é')) s"
    items = "array(named_struct('x', 1L, 'y', array('p', null))) l"
    insert(spark, at, f"(select 1L id, date'2026-11-20' day, {record}, {items}, map('k', 1) m)", names)
    spark.sql(f"alter table delta.`{at}` add column (s.late double)")
    insert(
        spark,
        at,
        "(select 2L id, date'2026-11-20' day, named_struct('a', 2, 'inner', null, 'late', 0.5D) s, null l, map() m)",
        names,
    )


@table
def added_column(spark: SparkSession, at: str) -> None:
    """A column that older files lack, and files whose columns stand in another order."""
    create(spark, at)
    insert(spark, at)
    spark.sql(f"alter table delta.`{at}` add column extra int first")
    insert(spark, at, "values (7, 'seven', date'2026-11-22', 7) as t(id, text, day, extra)", "id, text, day, extra")
