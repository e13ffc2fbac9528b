"""Statements that go to the driver itself."""

import itertools
import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from aiflow_service.database import Database, open_database
from aiflow_service.database.bulk import KeptStatement, read_rows
from aiflow_service.database.migration import migrate


@pytest.fixture
def opened(database: str) -> Iterator[Database]:
    found = open_database(database)
    yield found
    found.close()


def test_what_the_driver_raises_is_raised_as_of_sqlalchemy(opened: Database) -> None:
    with opened.reading() as connection, pytest.raises(DBAPIError) as caught:
        read_rows(connection, "SELECT secret FROM nowhere", {})
    assert caught.value.orig is not None


@pytest.mark.parametrize("is_ahead", [False, True])
def test_of_a_session_that_the_server_ended_it_is_known(postgres, is_ahead: bool) -> None:
    opened = open_database(postgres.database())
    migrate(opened)

    def wait_for_the_end() -> None:
        with opened.writing() as writing:
            writing.connection.exec_driver_sql("SET idle_in_transaction_session_timeout = 50")
            time.sleep(0.5)
            with writing.ahead() if is_ahead else nullcontext():
                if not is_ahead:
                    read_rows(writing.connection, "SELECT 1", {})

    with pytest.raises(DBAPIError) as caught:
        wait_for_the_end()
    assert caught.value.connection_invalidated
    with opened.writing() as writing:
        assert read_rows(writing.connection, "SELECT 1", {}) == [(1,)]
    opened.close()


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
