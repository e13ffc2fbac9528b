"""What a service is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiflow_service.access.signin import SignIn

DEFAULT_PORT = 8765


@dataclass(frozen=True)
class Settings:
    """``port`` 0 takes any that is free; ``database`` as SQLAlchemy writes addresses."""

    database: str
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    log_level: str = "INFO"
    sign_in: SignIn | None = None
    """None: nobody signs in, and the service listens on loopback alone."""


def default_database(folder: Path) -> str:
    """Return the address of the database of a project's folder."""
    return f"sqlite:///{folder.absolute() / '.aiflow' / 'service.db'}"
