"""Teams, their members, what they claim, and who the caller is."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Request
from starlette.responses import Response

from aiflow_service.access import Scope
from aiflow_service.access.teams import (
    any_team,
    drop_claim,
    find_team,
    list_claims,
    list_members,
    list_teams,
    make_claim,
    make_team,
    set_member,
)
from aiflow_service.api.answers import Cursor, Limit, answer, answer_page, place_of
from aiflow_service.api.bodies import describe_body, read_body
from aiflow_service.api.problem import PROBLEMS
from aiflow_service.api.services import ScopeOf, Services, ServicesOf
from aiflow_service.api.words import Body, Name, Number, RoleName, TeamName, Text, role_of

router = APIRouter(prefix="/api/v1", tags=["access"], responses=PROBLEMS)

_MOST_TEAMS = 500


class NewTeam(Body):
    """A team to be made."""

    name: Name


class MemberRole(Body):
    """The role that a member is given."""

    role: RoleName


class NewClaim(Body):
    """What belongs to a team: a project by its name, namespaces by how their names begin."""

    kind: Literal["project", "namespace"]
    name: Text
    team: Name


@router.get("/whoami")
def whoami(services: ServicesOf, scope: ScopeOf) -> Response:
    """Tell who the caller is here: name, roles, and whether anybody has to sign in at all."""
    with services.database.reading() as connection:
        teams = list_teams(connection, scope, after=0, limit=_MOST_TEAMS)
    everywhere = scope.everywhere.label if scope.everywhere else None
    return answer(
        {
            "name": scope.caller.name,
            "mode": "local" if services.callers is None else "signed-in",
            "principal": scope.caller.principal_id,
            "token": scope.caller.token_id,
            "environment": scope.caller.environment,
            "everywhere": everywhere,
            "teams": [{"name": one["name"], "role": one["role"]} for one in teams],
        }
    )


@router.get("/teams")
def teams(services: ServicesOf, scope: ScopeOf, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List the caller's teams."""
    after = place_of(cursor, 1) or (0,)
    with services.database.reading() as connection:
        return page_of(list_teams(connection, scope, after=after[0], limit=limit + 1), limit)


@router.post("/teams", status_code=201, openapi_extra=describe_body(NewTeam))
async def new_team(request: Request, services: ServicesOf, scope: ScopeOf) -> Response:
    """Make a team; for administrators."""
    wanted = await read_body(request, NewTeam)

    def make() -> int:
        with services.database.writing() as writing:
            return make_team(writing, scope, wanted.name)

    number = await asyncio.to_thread(make)
    forget_callers(services)
    return answer({"id": number, "name": wanted.name}, 201)


@router.get("/teams/{team}")
def team(team: TeamName, services: ServicesOf, scope: ScopeOf) -> Response:
    """Tell of a team, the caller's role in it, and for how many days its things are kept; null is for ever."""
    with services.database.reading() as connection:
        number = find_team(connection, scope, team)
        (found,) = list_teams(connection, scope, after=number - 1, limit=1)
    return answer({**found, "retention": services.retention.of_team(team).model_dump()})


@router.get("/teams/{team}/members")
def members(team: TeamName, services: ServicesOf, scope: ScopeOf, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List a team's members and service accounts with their roles."""
    after = place_of(cursor, 1) or (0,)
    with services.database.reading() as connection:
        number = find_team(connection, scope, team)
        return page_of(list_members(connection, number, after=after[0], limit=limit + 1), limit)


@router.put("/teams/{team}/members/{principal}", openapi_extra=describe_body(MemberRole))
async def give_role(
    team: TeamName, principal: Number, request: Request, services: ServicesOf, scope: ScopeOf
) -> Response:
    """Give somebody a role in a team. Whoever has signed in once is a principal; `whoami` says which."""
    wanted = await read_body(request, MemberRole)
    return await asyncio.to_thread(_set_member, services, scope, team, principal, wanted.role)


@router.delete("/teams/{team}/members/{principal}")
def take_role(team: TeamName, principal: Number, services: ServicesOf, scope: ScopeOf) -> Response:
    """Take a role away that was given here; what somebody's groups give stays theirs."""
    return _set_member(services, scope, team, principal, None)


@router.get("/claims")
def claims(services: ServicesOf, scope: ScopeOf, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List which projects and namespaces belong to the caller's teams."""
    after = place_of(cursor, 1) or (0,)
    with services.database.reading() as connection:
        return page_of(list_claims(connection, scope, after=after[0], limit=limit + 1), limit)


@router.post("/claims", status_code=201, openapi_extra=describe_body(NewClaim))
async def new_claim(request: Request, services: ServicesOf, scope: ScopeOf) -> Response:
    """Say that a project or namespaces belong to a team, for all that is heard of from now on; for administrators."""
    wanted = await read_body(request, NewClaim)

    def make() -> int:
        with services.database.writing() as writing:
            team_id = any_team(writing.connection, scope, wanted.team)
            return make_claim(writing, scope, wanted.kind, wanted.name, team_id)

    return answer({"id": await asyncio.to_thread(make)}, 201)


@router.delete("/claims/{number}")
def end_claim(number: Number, services: ServicesOf, scope: ScopeOf) -> Response:
    """Take a claim back; what came in under it stays the team's. For administrators."""
    with services.database.writing() as writing:
        drop_claim(writing, scope, number)
    return answer({"status": "dropped"})


def _set_member(services: Services, scope: Scope, team: str, principal: int, role: str | None) -> Response:
    with services.database.writing() as writing:
        number = find_team(writing.connection, scope, team)
        set_member(writing, scope, number, principal, role_of(role) if role else None)
    forget_callers(services)
    return answer({"team": team, "principal": principal, "role": role})


def page_of(found: list[dict[str, Any]], limit: int) -> Response:
    """Return a page of rows by their ids, of which one more than the limit was asked for."""
    return answer_page(found[:limit], found[limit - 1]["id"] if len(found) > limit else None)


def forget_callers(services: Services) -> None:
    """Let what was just changed hold from the next request on."""
    if services.callers is not None:
        services.callers.forget()
