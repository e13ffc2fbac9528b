"""The database: one engine by its address, tables, migrations, and what differs between PostgreSQL and SQLite."""

from aiflow_service.database.connection import Database, Writing, open_database
from aiflow_service.database.moments import MICROSECONDS, moment_text, now
from aiflow_service.database.schema import UnfitDatabase

__all__ = ["MICROSECONDS", "Database", "UnfitDatabase", "Writing", "moment_text", "now", "open_database"]
