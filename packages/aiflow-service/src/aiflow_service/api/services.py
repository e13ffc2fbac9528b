"""What the routes work with; the app puts it together once.

What routes depend on is asynchronous although it waits for nothing: FastAPI would call it in a thread otherwise.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from aiflow_service.access import EVERYTHING, Scope
from aiflow_service.database import Database
from aiflow_service.database.tables import DEFAULT_TEAM_ID
from aiflow_service.ingest import EventWriter


class Changes:
    """A bell for those who wait until something is written."""

    def __init__(self) -> None:
        self._bell = asyncio.Event()

    def bell(self) -> asyncio.Event:
        """Return the bell that the next write rings."""
        return self._bell

    def ring(self) -> None:
        """Say that something was written; in the loop's thread."""
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()

    @staticmethod
    async def wait(bell: asyncio.Event, seconds: float) -> None:
        """Wait until a bell is rung, or so long: other replicas, which write too, ring their own."""
        try:
            await asyncio.wait_for(bell.wait(), seconds)
        except TimeoutError:
            return


@dataclass
class Services:
    """The parts of a running service."""

    database: Database
    writer: EventWriter
    changes: Changes
    is_ending: bool = False
    """Whether whoever listens has to be let go."""


async def services_of(request: Request) -> Services:
    """Return the parts of the service that a request came to."""
    found: Services = request.app.state.services
    return found


async def scope_of(request: Request) -> Scope:
    """Return what the caller sees. The one place where that is decided; now everybody on this machine sees all."""
    return EVERYTHING


async def team_of(request: Request) -> int:
    """Return the team that the caller speaks for: what it tells of belongs to it."""
    return DEFAULT_TEAM_ID


ServicesOf = Annotated[Services, Depends(services_of)]
ScopeOf = Annotated[Scope, Depends(scope_of)]
TeamOf = Annotated[int, Depends(team_of)]
