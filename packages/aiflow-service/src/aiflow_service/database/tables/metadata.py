"""The collection of all tables, and the table that hands out numbers."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = BigInteger().with_variant(Integer, "sqlite")
"""A row's number; SQLite then uses it as the row's place, without an index beside it."""

counters = Table(
    "counters",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""The last number handed out, by the table that it is for; read and raised only in a writing transaction.

``service`` tells this database from others (:mod:`aiflow_service.database.identity`).
``dataset_merges`` counts how often two datasets turned out to be one: whoever remembers ids forgets them when it grows.
"""
