"""Statements that go to the driver itself."""

import itertools
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from aiflow_service.database import Database, open_database
from aiflow_service.database.bulk import KeptStatement, read_rows


@pytest.fixture
def opened(database: str) -> Iterator[Database]:
    found = open_database(database)
    yield found
    found.close()


def test_what_the_driver_raises_is_raised_as_of_sqlalchemy(opened: Database) -> None:
    with opened.reading() as connection, pytest.raises(DBAPIError) as caught:
        read_rows(connection, "SELECT secret FROM nowhere", {})
    assert caught.value.orig is not None


def test_a_kept_statement_has_its_lists_and_asks_its_functions_each_time(opened: Database) -> None:
    counted = itertools.count()
    counter = sa.bindparam(None, callable_=lambda: next(counted), type_=sa.BigInteger)
    given = sa.bindparam("given", type_=sa.BigInteger)
    statement = sa.select(given, counter).where(given.in_([1, 2, 3]))
    kept = KeptStatement(statement, is_postgres=opened.is_postgres)
    with opened.reading() as connection:
        ((_, first),), ((_, second),) = (kept.read(connection, {"given": value}) for value in (2, 3))
        assert first < second
        assert not kept.read(connection, {"given": 4})
        with pytest.raises(AssertionError, match="values are missing: \\['given'\\]"):
            kept.read(connection, {})
