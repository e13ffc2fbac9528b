"""Connections and variables of an environment: handed out, changed, and told with all their versions."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import Response

from aiflow_service.api.answers import Cursor, Limit, answer, answer_object, answer_page, checked_text, place_of
from aiflow_service.api.bodies import describe_body, read_body
from aiflow_service.api.problem import PROBLEMS, Problem, not_found
from aiflow_service.api.services import ScopeOf, Services, ServicesOf, TeamOf
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

router = APIRouter(prefix="/api/v1/environments/{environment}", tags=["configuration"], responses=PROBLEMS)

Name: TypeAlias = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
_After = Annotated[int | None, Field(ge=0, lt=2**31)]


def _is_short(value: JsonValue) -> JsonValue:
    if len(str(value)) > 65_536:
        raise ValueError("it is longer than 65,536 characters")
    return value


class Change(BaseModel):
    """The next value of a connection or variable."""

    model_config = ConfigDict(extra="forbid")

    value: Annotated[str | int | float | bool | dict[str, Any], AfterValidator(_is_short)]
    """Options of a connection, or the value of a variable; of a secret its reference, ``secret://name``."""
    after: _After = None
    """The version that this one follows; another one, written meanwhile, is then a conflict. 0: there is none."""


@router.get("/configuration")
def configuration(
    environment: Name,
    services: ServicesOf,
    scope: ScopeOf,
    kind: Annotated[Kind | None, Query(description="Connections or variables alone.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Hand out the connections and variables that hold in an environment."""
    after = place_of(cursor, 1) or (0,)
    with services.database.reading() as connection:
        found, place = list_items(connection, scope, environment, kind, after=after[0], limit=limit)
    return answer_page(found, place)


@router.get("/configuration/{kind}/{name}")
def item(environment: Name, kind: Kind, name: Name, request: Request, services: ServicesOf, scope: ScopeOf) -> Response:
    """Hand out one connection or variable."""
    with services.database.reading() as connection:
        found = find_item(connection, scope, environment, kind, name)
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
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List the versions of one, the newest first; a value of null removed it."""
    place = place_of(cursor, 1)
    with services.database.reading() as connection:
        found, following = list_versions(
            connection, scope, environment, kind, name, before=place[0] if place else None, limit=limit
        )
    return answer_page(found, following)


@router.put("/configuration/{kind}/{name}", openapi_extra=describe_body(Change))
async def put_item(
    environment: Name, kind: Kind, name: Name, request: Request, services: ServicesOf, team_id: TeamOf
) -> Response:
    """Write the next version of a connection or variable. A value that looks like a secret is refused."""
    change = await read_body(request, Change)
    if kind == "connection" and not isinstance(change.value, dict):
        raise Problem(422, "body-invalid", "body/value: a connection is an object of options", place="body/value")
    place = environment, kind, name
    return answer(await asyncio.to_thread(_change, services, team_id, place, change.value, change.after))


@router.delete("/configuration/{kind}/{name}")
def delete_item(environment: Name, kind: Kind, name: Name, services: ServicesOf, team_id: TeamOf) -> Response:
    """Remove a connection or variable; its versions stay to be seen."""
    return answer(_change(services, team_id, (environment, kind, name), None, None))


def _change(
    services: Services, team_id: int, place: tuple[str, Kind, str], value: Any, after: int | None
) -> dict[str, Any]:
    environment, kind, name = place
    checked_text(str(value), "value")
    try:
        with services.database.writing() as writing:
            version = change_item(writing, team_id, environment, kind, name, value, now(), after=after)
    except LiteralSecret as error:
        raise Problem(422, "literal-secret", str(error), place="body/value") from error
    except Conflict as error:
        detail = f"{kind} '{name}' has changed meanwhile: {error}"
        raise Problem(409, "version-conflict", detail, place="body/after") from error
    return {"environment": environment, "kind": kind, "name": name, "version": version}
