"""What runs cost."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from aiflow_service.api.answers import Moment, answer, checked_text, moment_in
from aiflow_service.api.problem import PROBLEMS
from aiflow_service.api.services import ScopeOf, ServicesOf
from aiflow_service.cost import CostFilter, sum_costs
from aiflow_service.database import moment_text

router = APIRouter(prefix="/api/v1", tags=["cost"], responses=PROBLEMS)

Word = Annotated[str | None, Query(max_length=500)]


@router.get("/cost")
def cost(
    services: ServicesOf,
    scope: ScopeOf,
    by: Literal["team", "project", "pipeline", "node", "day"] = "team",
    since: Annotated[Moment, Query(alias="from", description="Attempts that ended from then on.")] = None,
    until: Annotated[Moment, Query(alias="to", description="Attempts that ended before then.")] = None,
    team: Word = None,
    project: Word = None,
    pipeline: Word = None,
    environment: Word = None,
) -> Response:
    """Sum up what was used and what that cost; what could not be measured is estimated, and told apart.

    By node: a task is what is measured, so the nodes of one task are told together.
    """
    wanted = CostFilter(
        moment_in(since, "from"),
        moment_in(until, "to"),
        checked_text(team, "team"),
        checked_text(project, "project"),
        checked_text(pipeline, "pipeline"),
        checked_text(environment, "environment"),
    )
    with services.database.reading() as connection:
        found, is_cut = sum_costs(connection, scope, services.prices, by, wanted)
    told = {"by": by, "currency": services.prices.currency, "from": moment_text(wanted.since)}
    return answer({**told, "to": moment_text(wanted.until), "items": found, "is_cut": is_cut})
