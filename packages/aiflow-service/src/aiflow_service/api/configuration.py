"""Connections and variables of an environment: handed out, changed, and told with all their versions."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import Response

from aiflow_service.access import Role, Scope
from aiflow_service.access.teams import claiming_team, find_team
from aiflow_service.api.answers import SAME, Cursor, Limit, answer, answer_object, answer_page, checked_text, place_of
from aiflow_service.api.bodies import describe_body, read_body
from aiflow_service.api.invalid import NAME_PATTERN
from aiflow_service.api.problem import PROBLEMS, Problem, not_found
from aiflow_service.api.services import CallerOf, ScopeOf, Services, ServicesOf, speak
from aiflow_service.audit import Caller
from aiflow_service.configuration import (
    Conflict,
    Kind,
    LiteralSecret,
    change_item,
    find_item,
    list_items,
    list_versions,
)
from aiflow_service.database import now
from aiflow_service.database.protection import SEES_ALL, seeing
from aiflow_service.ingest.sender import PIPELINES

router = APIRouter(prefix="/api/v1/environments/{environment}", tags=["configuration"], responses=PROBLEMS)

TeamName = Annotated[str | None, Query(pattern=NAME_PATTERN, description="A team's name; else the caller's own.")]
Name: TypeAlias = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
_After = Annotated[int | None, Field(ge=0, lt=2**31)]


def _storable(value: JsonValue) -> JsonValue:
    if len(str(value)) > 65_536:
        raise ValueError("it is longer than 65,536 characters")
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise ValueError("it holds a number that JSON has no word for: infinite, or none") from error
    return value


class Change(BaseModel):
    """The next value of a connection or variable."""

    model_config = ConfigDict(extra="forbid")

    value: Annotated[str | int | float | bool | dict[str, Any], AfterValidator(_storable)]
    """Options of a connection, or the value of a variable; of a secret its reference, ``secret://name``."""
    after: _After = None
    """The version that this one follows; another one, written meanwhile, is then a conflict. 0: there is none."""


@router.get("/configuration")
def configuration(
    environment: Name,
    services: ServicesOf,
    scope: ScopeOf,
    kind: Annotated[Kind | None, Query(description="Connections or variables alone.")] = None,
    team: Annotated[str | None, Query(pattern=NAME_PATTERN, description="That team's alone.")] = None,
    project: Annotated[
        str | None, Query(min_length=1, max_length=200, description="That of the team whose pipelines a project holds.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Hand out the connections and variables that hold in an environment."""
    after = place_of(cursor, 1) or (0,)
    checked_text(project, "project")
    team_id = _team_of_project(scope, services, project, environment) if project and not team else None
    with services.database.reading() as connection:
        if team:
            team_id = find_team(connection, scope, team)
        found, place = list_items(connection, scope, environment, kind, team_id, after=after[0], limit=limit)
    return answer_page(found, place)


@router.get("/configuration/{kind}/{name}", responses=SAME)
def item(
    environment: Name,
    kind: Kind,
    name: Name,
    request: Request,
    services: ServicesOf,
    scope: ScopeOf,
    team: TeamName = None,
) -> Response:
    """Hand out one connection or variable."""
    team_id = _team_of(services, scope, team, Role.VIEWER)
    with services.database.reading() as connection:
        found = find_item(connection, scope, team_id, environment, kind, name)
    if found is None:
        raise not_found(kind)
    return answer_object(request, found)


@router.get("/configuration/{kind}/{name}/versions")
def versions(
    environment: Name,
    kind: Kind,
    name: Name,
    services: ServicesOf,
    scope: ScopeOf,
    team: TeamName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List the versions of one, the newest first; a value of null removed it."""
    place = place_of(cursor, 1)
    team_id = _team_of(services, scope, team, Role.VIEWER)
    with services.database.reading() as connection:
        found, following = list_versions(
            connection, scope, team_id, environment, kind, name, before=place[0] if place else None, limit=limit
        )
    return answer_page(found, following)


@router.put("/configuration/{kind}/{name}", openapi_extra=describe_body(Change))
async def put_item(
    environment: Name,
    kind: Kind,
    name: Name,
    request: Request,
    services: ServicesOf,
    scope: ScopeOf,
    caller: CallerOf,
    team: TeamName = None,
) -> Response:
    """Write the next version of a connection or variable; for editors. A value that looks like a secret is refused."""
    team_id = await asyncio.to_thread(_team_of, services, scope, team, Role.EDITOR, environment)
    change = await read_body(request, Change)
    if kind == "connection" and not isinstance(change.value, dict):
        raise Problem(422, "body-invalid", "body/value: a connection is an object of options", place="body/value")
    place = environment, kind, name
    return answer(await asyncio.to_thread(_change, services, team_id, caller, place, change.value, change.after))


@router.delete("/configuration/{kind}/{name}")
def delete_item(
    environment: Name,
    kind: Kind,
    name: Name,
    services: ServicesOf,
    scope: ScopeOf,
    caller: CallerOf,
    team: TeamName = None,
) -> Response:
    """Remove a connection or variable; its versions stay to be seen. For editors."""
    team_id = _team_of(services, scope, team, Role.EDITOR, environment)
    return answer(_change(services, team_id, caller, (environment, kind, name), None, None))


def _team_of(services: Services, scope: Scope, team: str | None, role: Role, environment: str | None = None) -> int:
    """Return the team whose things are meant. Raises what :func:`speak` and :meth:`Scope.require` do."""
    if team is None:
        team_id = speak(scope, role).team_id
    else:
        with services.database.reading() as connection:
            team_id = find_team(connection, scope, team)
    scope.require(role, team_id, environment)
    return team_id


def _team_of_project(scope: Scope, services: Services, project: str, environment: str) -> int:
    """Return the team of a project's pipelines: that which claims it, if the caller is in it, else the caller's own.

    Raises what :func:`speak` does.
    """
    with seeing(SEES_ALL), services.database.reading() as connection:
        claiming = claiming_team(connection, f"{PIPELINES}{environment}", project)
    if claiming is not None and scope.may(Role.VIEWER, claiming):
        return claiming
    return speak(scope, Role.VIEWER).team_id


def _change(
    services: Services, team_id: int, caller: Caller, place: tuple[str, Kind, str], value: Any, after: int | None
) -> dict[str, Any]:
    environment, kind, name = place
    checked_text(str(value), "value")
    try:
        with services.database.writing() as writing:
            version = change_item(writing, team_id, environment, kind, name, value, now(), caller=caller, after=after)
    except LiteralSecret as error:
        raise Problem(422, "literal-secret", str(error), place="body/value") from error
    except Conflict as error:
        detail = f"{kind} '{name}' has changed meanwhile: {error}"
        raise Problem(409, "version-conflict", detail, place="body/after") from error
    return {"environment": environment, "kind": kind, "name": name, "version": version}
