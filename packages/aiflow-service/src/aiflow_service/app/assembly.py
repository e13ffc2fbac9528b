"""Puts the service together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import Depends, FastAPI

from aiflow_service import __version__
from aiflow_service.access import Callers
from aiflow_service.access.oidc import Provider
from aiflow_service.access.signin import SignIn
from aiflow_service.api import ROUTERS, Services
from aiflow_service.api.figures import AUDIT_SOUND, GROUP, RUN_SECONDS, RUNS, WAITING, WRITING
from aiflow_service.api.intake import Intake
from aiflow_service.api.parameters import refuse_unknown
from aiflow_service.api.passage import Passage
from aiflow_service.api.problem import describe_problems, install
from aiflow_service.api.services import Changes, scope_of
from aiflow_service.audit import AuditKeeper
from aiflow_service.cost import NO_PRICES, Prices
from aiflow_service.database import Database
from aiflow_service.ingest import EventWriter, GroupWriter, Outcome
from aiflow_service.keeping import FOR_EVER, Retention

_MAX_LABELS = 2_000
"""How many pipelines have figures of their own; of more, those that come later are counted together."""


def create_app(
    database: Database,
    keeper: AuditKeeper,
    prices: Prices = NO_PRICES,
    sign_in: SignIn | None = None,
    retention: Retention = FOR_EVER,
) -> FastAPI:
    """Return the app on a database that is open and migrated.

    Without ``sign_in`` nobody signs in, everybody sees all, and only this machine is served.
    """
    callers = Callers(database, Provider(sign_in) if sign_in.issuer else None) if sign_in else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        changes = Changes()

        def note(outcome: Outcome, events: int, seconds: float) -> None:
            _count(outcome, events, seconds)
            with suppress(RuntimeError):  # the loop has ended, nobody listens any more
                loop.call_soon_threadsafe(changes.ring)

        writer = EventWriter(GroupWriter(database), note)
        WAITING.set_function(lambda: writer.waiting_events)
        AUDIT_SOUND.set_function(lambda: float(keeper.is_sound))
        app.openapi()  # the parameters that requests may have are those of it, and the first one need not wait for it
        address = sign_in.address if sign_in else None
        app.state.services = Services(database, writer, changes, keeper, prices, callers, address, retention)
        try:
            yield
        finally:
            await asyncio.to_thread(writer.close)

    app = _App(
        title="aiflow metadata service",
        version=__version__,
        description="Runs, lineage and versions of every pipeline. Events come in as OpenLineage; see docs/service.md.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        dependencies=[
            Depends(scope_of),
            Depends(refuse_unknown),
        ],  # so that no route can forget who calls, and what for
    )
    for router in ROUTERS:
        app.include_router(router)
    install(app)
    app.add_middleware(Intake)
    app.add_middleware(Passage, local=sign_in is None, on_denied=keeper.deny)
    return app


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            self.openapi_schema = describe_problems(super().openapi())
        return self.openapi_schema


_LABEL_CHARACTERS = 200
"""How long a label may be: each stands in a dozen figures."""


def _count(outcome: Outcome, events: int, seconds: float) -> None:
    GROUP.observe(events)
    WRITING.observe(seconds)
    for pipeline, fold in outcome.ended:
        environment = str(fold.facet("aiflow_run").get("environment") or "")
        labels = pipeline[:_LABEL_CHARACTERS], environment[:_LABEL_CHARACTERS]
        if labels not in _LABELLED and len(_LABELLED) >= _MAX_LABELS:
            labels = ("other", "")
        _LABELLED.add(labels)
        RUNS.labels(*labels, fold.state).inc()
        if fold.seconds is not None:
            RUN_SECONDS.labels(*labels).observe(fold.seconds)


_LABELLED: set[tuple[str, str]] = set()
