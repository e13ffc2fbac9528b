"""What a service is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiflow_service.access.signin import SignIn
from aiflow_service.database.connection import address_of
from aiflow_service.keeping import FOR_EVER, Retention

DEFAULT_PORT = 8765
GREATEST_PORT = 65_535
FILES_LIE = "beside SQLite's file, else in .aiflow where the service is started"
"""Where a service keeps files of its own unless it is told; the documents say it in the same words."""


@dataclass(frozen=True)
class Settings:
    """``port`` 0 takes any that is free; ``database`` as SQLAlchemy writes addresses."""

    database: str
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    log_level: str = "INFO"
    sign_in: SignIn | None = None
    """None: nobody signs in, and the service listens on loopback alone."""
    home: Path | None = None
    """Where the service keeps files of its own. None: :data:`FILES_LIE`."""
    audit_checkpoints: str | None = None
    """Where the audit's checkpoints are kept: a folder, or an object store's address. None: in ``folder``."""
    audit_key: Path | None = None
    """The file with the key that signs them, made where there is none. None: in ``folder``."""
    prices: Path | None = None
    """The file that says what things cost; see :func:`aiflow_service.cost.read_prices`."""

    retention: Retention = FOR_EVER
    """For how long things are kept."""

    @property
    def folder(self) -> Path:
        """Where the service keeps files of its own."""
        if self.home is not None:
            return self.home
        url = address_of(self.database)
        if url.get_backend_name() == "sqlite" and url.database:
            return Path(url.database).absolute().parent
        return Path().absolute() / ".aiflow"


def default_database(folder: Path) -> str:
    """Return the address of the database of a project's folder."""
    return f"sqlite:///{folder.absolute() / '.aiflow' / 'service.db'}"
