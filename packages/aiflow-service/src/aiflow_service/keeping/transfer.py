"""Backs up, restores and moves whole databases; whatever interrupts it, nothing is there by half."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import URL

from aiflow_sdk.audit import DATABASE_FILLED
from aiflow_sdk.errors import ConfigurationError
from aiflow_service import __version__
from aiflow_service.audit import Caller, Entry, record, verify_entries
from aiflow_service.audit.entries import SERVICE
from aiflow_service.database import Database, Writing, open_database
from aiflow_service.database.connection import address_of, is_absent
from aiflow_service.database.identity import renew_identity
from aiflow_service.database.migration import migrating
from aiflow_service.keeping.archive import Archive, write_archive
from aiflow_service.keeping.contents import Block, Header, read_blocks, read_header, write_contents

_OTHERS = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND application_name = 'aiflow-service' AND pid <> pg_backend_pid()"
)


class Transferred(Struct):
    """What was done."""

    rows: dict[str, int]
    """How many, by table."""
    digest: str | None = None
    """SHA-256 of the file that was written."""
    findings: tuple[str, ...] = ()
    """What is wrong with the audit that was restored or moved: it was so before."""


def back_up(address: str, path: Path) -> Transferred:
    """Write all that a database holds at one moment to a new file; services may go on meanwhile.

    Raises what opening the database does, ``ConfigurationError`` where the file is there, ``StoreError`` where it
    cannot be written.
    """
    _refuse_absent(address)
    database = open_database(address)
    try:
        with database.reading() as connection:
            header = read_header(connection)
            digest, rows = write_archive(path, header, read_blocks(connection, header))
    finally:
        database.close()
    return Transferred(rows, digest)


def restore(path: Path, address: str, digest: str | None = None) -> Transferred:
    """Bring what a file holds into an empty database, in one transaction, and migrate it to this version.

    Raises ``ConfigurationError`` for a file that is not whole, or not the one of this SHA-256, before anything is
    changed, and where the database holds something.
    """
    with closing(Archive(path, digest)) as archive:
        database = open_database(address)
        try:
            return _fill(database, archive.header, archive.blocks(), {"file": path.name, "digest": digest or ""})
        finally:
            database.close()


def move(source: str, target: str) -> Transferred:
    """Bring all that a database holds into an empty one; the first stays as it was, and nobody writes to it meanwhile.

    Raises ``ConfigurationError`` where a service uses the first, or the second holds something.
    """
    if _place_of(source) == _place_of(target):
        raise ConfigurationError(
            "database-address", "both addresses are the same database's", hint="name an empty one with --to"
        )
    _refuse_absent(source)
    _refuse_locked(source)
    old = open_database(source)
    try:
        with old.reading() as connection:
            read_header(connection)  # which says where there is nothing
            if old.is_postgres and connection.execute(_OTHERS).scalar():
                raise _in_use()
        new = open_database(target)
        try:
            with old.writing(), old.reading() as connection:
                header = read_header(connection)
                facts = {"from": address_of(source).get_backend_name()}
                return _fill(new, header, read_blocks(connection, header), facts)
        finally:
            new.close()
    finally:
        old.close()


def _fill(database: Database, header: Header, blocks: Iterable[Block], facts: dict[str, str]) -> Transferred:
    with migrating(database) as connection:
        rows = write_contents(connection, header, blocks)
        verdict = verify_entries(connection, ())
        writing = Writing(connection)
        details = {**facts, "made_at": header.made_at, "revision": header.revision, "version": __version__}
        entry = Entry(Caller(SERVICE, origin=os.uname().nodename), DATABASE_FILLED, "database", "", details=details)
        record(writing, entry)
        if "file" in facts:  # senders have told more to the one that was backed up; a moved one goes on
            renew_identity(writing)
        writing.store_numbers()
    return Transferred(rows, findings=tuple(finding.says for finding in verdict.findings))


def _place_of(address: str) -> URL:
    """Return an address with SQLite's file as it is called from the root, however it was written."""
    url = address_of(address)
    is_file = url.get_backend_name() == "sqlite" and url.database
    return url.set(database=str(Path(str(url.database)).resolve())) if is_file else url


def _refuse_absent(address: str) -> None:
    if is_absent(address):
        place = Path(str(address_of(address).database)).absolute()
        raise ConfigurationError(
            "database-empty",
            f"there is no database at {place}, and none was made",
            hint="see that the path is right: sqlite:///FILE is relative to this folder, sqlite:////FILE is not",
        )


def _refuse_locked(address: str) -> None:
    """Return if nobody has SQLite's file open: a lock of all of it is to be had."""
    url = address_of(address)
    if url.get_backend_name() != "sqlite" or not url.database or not Path(url.database).exists():
        return
    with closing(sqlite3.connect(url.database, timeout=1.0, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            raise _in_use() from error
        except sqlite3.DatabaseError:
            return  # opening it says what is wrong with it


def _in_use() -> ConfigurationError:
    return ConfigurationError(
        "database-in-use",
        "a service uses the database that is to be moved, and would go on writing to it",
        hint="end every service on it, move, then start them on the new one",
    )
