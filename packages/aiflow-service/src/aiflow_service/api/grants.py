"""Grants of datasets between teams."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from annotated_types import MaxLen, MinLen
from fastapi import APIRouter, Query
from pydantic import AfterValidator
from starlette.requests import Request
from starlette.responses import Response

from aiflow_service.access import Role, Scope
from aiflow_service.access.decisions import WantedAccess, decide
from aiflow_service.access.grants import Granted, effective_grants, list_grants, make_grant, revoke_grant
from aiflow_service.access.teams import any_team, find_team, list_teams
from aiflow_service.api.answers import SAME, Cursor, Limit, answer, answer_object, place_of
from aiflow_service.api.bodies import describe_body, read_body
from aiflow_service.api.invalid import NAME_PATTERN
from aiflow_service.api.problem import PROBLEMS, Problem, note_denial
from aiflow_service.api.services import ScopeOf, Services, ServicesOf, speak
from aiflow_service.api.teams import page_of
from aiflow_service.api.words import Body, Name, Number, Text, coming_moment, no_nul
from aiflow_service.database import moment_text, now
from aiflow_service.database.protection import SEES_ALL, seeing

router = APIRouter(prefix="/api/v1/grants", tags=["access"], responses=PROBLEMS)

_MOST_SHOWN = 10


class NewGrant(Body):
    """What a team lets another do: ``dataset`` is a name, or its beginning and ``*``."""

    from_team: Name
    to_team: Name
    dataset: Text
    namespace: Text | None = None
    access: Literal["read", "write"] = "read"
    until: Text | None = None


class TouchedDataset(Body):
    """A dataset that a pipeline reads or writes."""

    namespace: Text
    name: Annotated[str, MaxLen(2000), MinLen(1), AfterValidator(no_nul)]
    access: Literal["read", "write"]


class Question(Body):
    """Which datasets the pipelines of a project touch in an environment."""

    project: Text
    environment: Text
    datasets: Annotated[list[TouchedDataset], MaxLen(5000)]


@router.get("")
def grants(services: ServicesOf, scope: ScopeOf, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List what the caller's teams have granted, and what was granted to them."""
    after = place_of(cursor, 1) or (0,)
    with services.database.reading() as connection:
        return page_of(list_grants(connection, scope, after=after[0], limit=limit + 1), limit)


@router.post("", status_code=201, openapi_extra=describe_body(NewGrant))
async def new_grant(request: Request, services: ServicesOf, scope: ScopeOf) -> Response:
    """Let another team read, or read and write, datasets of the caller's; for its owners."""
    wanted = await read_body(request, NewGrant)
    return answer(await asyncio.to_thread(_granted, services, scope, wanted), 201)


@router.get("/effective", responses=SAME)
def effective(
    request: Request,
    services: ServicesOf,
    scope: ScopeOf,
    team: Annotated[str, Query(pattern=NAME_PATTERN)],
) -> Response:
    """Tell all that a team may touch beside its own: a copy to keep, with the moment that it was made."""
    with services.database.reading() as connection:
        number = find_team(connection, scope, team)
        return answer_object(request, {"team": team, **effective_grants(connection, number)})


@router.post("/decisions", openapi_extra=describe_body(Question))
async def decisions(request: Request, services: ServicesOf, scope: ScopeOf) -> Response:
    """Tell which datasets the pipelines of a project may read and write, and until when: a copy to keep.

    For operators. What they may not is a denial, and stands in the audit; whose a dataset is, is not told.
    """
    asked = await read_body(request, Question)
    team_id, told = await asyncio.to_thread(_decided, services, scope, asked)
    if refused := [f"{one['access']} {one['name']}" for one in told["datasets"] if not one["allowed"]]:
        why = f"{asked.project} in {asked.environment} may not {', '.join(refused[:_MOST_SHOWN])}"
        await note_denial(request, scope.caller, why, team_id)
    return answer(told)


@router.delete("/{number}")
def end_grant(number: Number, services: ServicesOf, scope: ScopeOf) -> Response:
    """Revoke a grant, at once and everywhere; for owners of the team that gave it."""
    with services.database.writing() as writing:
        revoke_grant(writing, scope, number)
    return answer({"status": "revoked"})


def _granted(services: Services, scope: Scope, wanted: NewGrant) -> dict[str, Any]:
    is_prefix = wanted.dataset.endswith("*")
    name = wanted.dataset[:-1] if is_prefix else wanted.dataset
    if "*" in name:
        raise Problem(422, "parameter-invalid", "dataset: a * stands at the end alone", place="body/dataset")
    if wanted.from_team == wanted.to_team:
        raise Problem(422, "parameter-invalid", "to_team: a team may touch its own datasets", place="body/to_team")
    granted = Granted(wanted.namespace, name, is_prefix, wanted.access == "write", coming_moment(wanted.until, "until"))
    with services.database.writing() as writing:
        giver = find_team(writing.connection, scope, wanted.from_team)
        scope.require(Role.OWNER, giver)
        number = make_grant(writing, scope, giver, any_team(writing.connection, scope, wanted.to_team), granted)
    with services.database.reading() as connection:
        return list_grants(connection, scope, after=0, limit=1, grant_id=number)[0]


def _decided(services: Services, scope: Scope, asked: Question) -> tuple[int, dict[str, Any]]:
    sender = speak(scope, Role.OPERATOR)
    touches = [WantedAccess(one.namespace, one.name, one.access == "write") for one in asked.datasets]
    with seeing(SEES_ALL), services.database.reading() as connection:
        team_id = sender.team_for(connection, asked.project, asked.environment)
        scope.require(Role.OPERATOR, team_id, asked.environment)
        (team,) = list_teams(connection, scope, after=team_id - 1, limit=1)
        found = decide(connection, team_id, touches)
    return team_id, {"team": team["name"], "made_at": moment_text(now()), "datasets": found}
