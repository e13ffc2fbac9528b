"""Whether the service lives and can work, and its figures."""

from __future__ import annotations

import sqlalchemy as sa
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import PlainTextResponse, Response

from aiflow_service.access import Role
from aiflow_service.api.answers import answer
from aiflow_service.api.problem import PROBLEMS, problem_response
from aiflow_service.api.services import ScopeOf, ServicesOf

router = APIRouter(tags=["health"], responses=PROBLEMS)


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def live() -> Response:
    """Say that the process answers."""
    return answer({"status": "ok"})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
def ready(services: ServicesOf) -> Response:
    """Say whether requests can be served: the database answers. And for how many days things are kept, unless a team
    has it otherwise, which is told at the team; null is for ever.
    """
    try:
        with services.database.reading() as connection:
            connection.execute(sa.text("SELECT 1"))
    except SQLAlchemyError:
        return problem_response(
            503, "database-unreachable", "the database does not answer", headers={"Retry-After": "5"}
        )
    kind = "postgresql" if services.database.is_postgres else "sqlite"
    return answer({"status": "ok", "database": kind, "retention": services.retention.model_dump(exclude={"teams"})})


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(scope: ScopeOf) -> PlainTextResponse:
    """Return the figures for Prometheus; they name pipelines, so that who asks has to see every team's."""
    scope.require(Role.VIEWER, None)
    return PlainTextResponse(generate_latest(), media_type=CONTENT_TYPE_LATEST)
