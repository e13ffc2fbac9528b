"""Whether the service lives and can work, and its figures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import PlainTextResponse, Response

from aiflow_service import __version__
from aiflow_service.access import Role
from aiflow_service.api.answers import answer
from aiflow_service.api.problem import PROBLEMS, problem_response, unfit_problem
from aiflow_service.api.services import ScopeOf, ServicesOf
from aiflow_service.database import UnfitDatabase, moment_text, now
from aiflow_service.database.identity import identity_of
from aiflow_service.database.schema import NOTHING_OF_ALL
from aiflow_service.database.tables import counters

router = APIRouter(tags=["health"], responses=PROBLEMS)


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def live() -> Response:
    """Say that the process answers."""
    return answer({"status": "ok"})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
def ready(services: ServicesOf) -> Response:
    """Say whether requests can be served: the database answers, and has all tables. And for how many days things are
    kept, unless a team has it otherwise, which is told at the team; null is for ever.
    """
    try:
        services.database.require_file()
        with services.database.reading() as connection:
            connection.execute(NOTHING_OF_ALL)
    except UnfitDatabase as error:
        return unfit_problem(error)
    except SQLAlchemyError:
        return problem_response(
            503, "database-unreachable", "the database does not answer", headers={"Retry-After": "5"}
        )
    kind = "postgresql" if services.database.is_postgres else "sqlite"
    return answer({"status": "ok", "database": kind, "retention": services.retention.model_dump(exclude={"teams"})})


@router.get("/api/v1/service")
def service(services: ServicesOf, scope: ScopeOf) -> Response:
    """Say which service this is: its version and schema, the `id` of its database, what time it is.

    `id` is another one after a backup was restored; `events` is the number of the newest event. A sender that knows
    another `id`, or a greater number, has told that to another service, or to what has been put back since.
    """
    with services.database.reading() as connection:
        connection.execute(NOTHING_OF_ALL)  # else what is said of its schema is not so
        last = sa.select(counters.c.value).where(counters.c.name == "events")
        told = {
            "id": identity_of(connection),
            "version": __version__,
            "schema": MigrationContext.configure(connection).get_current_revision(),
            "events": connection.execute(last).scalar() or 0,
            "at": moment_text(now()),
        }
    return answer(told)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(scope: ScopeOf) -> PlainTextResponse:
    """Return the figures for Prometheus; they name pipelines, so that who asks has to see every team's."""
    scope.require(Role.VIEWER, None)
    return PlainTextResponse(generate_latest(), media_type=CONTENT_TYPE_LATEST)
