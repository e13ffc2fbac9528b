"""Machine tokens."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from aiflow_service.access import Scope
from aiflow_service.access.teams import find_team
from aiflow_service.access.tokens import Made, Narrowing, list_tokens, make_token, revoke_token
from aiflow_service.api.answers import Cursor, Limit, answer, place_of
from aiflow_service.api.bodies import describe_body, read_body
from aiflow_service.api.problem import PROBLEMS
from aiflow_service.api.services import ScopeOf, Services, ServicesOf
from aiflow_service.api.teams import forget_callers, page_of
from aiflow_service.api.words import Body, Name, Number, RoleName, Text, role_of
from aiflow_service.database import MICROSECONDS, moment_text, now

router = APIRouter(prefix="/api/v1/tokens", tags=["access"], responses=PROBLEMS)

_DAY = 24 * 3600 * MICROSECONDS


class NewToken(Body):
    """What a token is for. Without ``team`` it is for every team; with ``account`` it acts for that service account."""

    name: Text
    team: Name | None = None
    role: RoleName
    environment: Text | None = None
    account: Name | None = None
    days: Annotated[int, Field(ge=1, le=366)] = 90


@router.get("")
def tokens(services: ServicesOf, scope: ScopeOf, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List the caller's tokens, and those of the teams that the caller owns; without their secrets."""
    after = place_of(cursor, 1) or (0,)
    with services.database.reading() as connection:
        return page_of(list_tokens(connection, scope, after=after[0], limit=limit + 1), limit)


@router.post("", status_code=201, openapi_extra=describe_body(NewToken))
async def new_token(request: Request, services: ServicesOf, scope: ScopeOf) -> Response:
    """Make a token. Its secret stands in this answer and nowhere else; one made with a token ends with that one."""
    made = await asyncio.to_thread(_make, services, scope, await read_body(request, NewToken))
    forget_callers(services)
    response = answer({"id": made.id, "secret": made.secret, "expires_at": moment_text(made.expires_at)}, 201)
    response.headers["Cache-Control"] = "no-store"
    return response


@router.delete("/{number}")
def end_token(number: Number, services: ServicesOf, scope: ScopeOf) -> Response:
    """Revoke a token and those made with it: at once here, within a second at other replicas."""
    with services.database.writing() as writing:
        revoke_token(writing, scope, number)
    forget_callers(services)
    return answer({"status": "revoked"})


def _make(services: Services, scope: Scope, wanted: NewToken) -> Made:
    expires_at = now() + wanted.days * _DAY
    with services.database.writing() as writing:
        team_id = find_team(writing.connection, scope, wanted.team) if wanted.team else None
        narrowing = Narrowing(wanted.name, team_id, role_of(wanted.role), wanted.environment, expires_at)
        return make_token(writing, scope, narrowing, wanted.account)
