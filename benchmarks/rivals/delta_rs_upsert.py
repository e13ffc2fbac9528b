"""Upsert a Parquet file into a table of orders: bare delta-rs. Arguments: the table, the file."""

import sys

import pyarrow.parquet as pq
from deltalake import DeltaTable

table, file = sys.argv[1:]
(
    DeltaTable(table)
    .merge(
        pq.read_table(file),
        predicate="old.o_orderkey = new.o_orderkey",
        source_alias="new",
        target_alias="old",
    )
    .when_matched_update_all()
    .when_not_matched_insert_all()
    .execute()
)
