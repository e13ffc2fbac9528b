"""Grants of datasets between teams."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from aiflow_service.access import Role
from aiflow_service.access.grants import Granted, effective_grants, list_grants, make_grant, revoke_grant
from aiflow_service.access.teams import any_team, find_team
from aiflow_service.api.answers import SAME, Cursor, Limit, answer, answer_object, place_of
from aiflow_service.api.problem import PROBLEMS, Problem
from aiflow_service.api.services import ScopeOf, ServicesOf
from aiflow_service.api.teams import page_of
from aiflow_service.api.words import NAME_PATTERN, Body, Name, Number, Text, coming_moment

router = APIRouter(prefix="/api/v1/grants", tags=["access"], responses=PROBLEMS)


class NewGrant(Body):
    """What a team lets another do: ``dataset`` is a name, or its beginning and ``*``."""

    from_team: Name
    to_team: Name
    dataset: Text
    namespace: Text | None = None
    access: Literal["read", "write"] = "read"
    until: Text | None = None


@router.get("")
def grants(services: ServicesOf, scope: ScopeOf, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List what the caller's teams have granted, and what was granted to them."""
    after = place_of(cursor, 1) or (0,)
    with services.database.reading() as connection:
        return page_of(list_grants(connection, scope, after=after[0], limit=limit + 1), limit)


@router.post("", status_code=201)
def new_grant(wanted: NewGrant, services: ServicesOf, scope: ScopeOf) -> Response:
    """Let another team read, or read and write, datasets of the caller's; for its owners."""
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
        return answer(list_grants(connection, scope, after=0, limit=1, grant_id=number)[0], 201)


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


@router.delete("/{number}")
def end_grant(number: Number, services: ServicesOf, scope: ScopeOf) -> Response:
    """Revoke a grant, at once and everywhere; for owners of the team that gave it."""
    with services.database.writing() as writing:
        revoke_grant(writing, scope, number)
    return answer({"status": "revoked"})
