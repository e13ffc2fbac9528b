"""The audit: searched, exported, verified."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response, StreamingResponse

from aiflow_sdk.audit import Checkpoints, export_line
from aiflow_sdk.config.address import without_credentials
from aiflow_sdk.errors import AiflowError
from aiflow_service.access import Role, Scope
from aiflow_service.api.answers import Cursor, Limit, Moment, answer, answer_page, checked_text, moment_in, place_of
from aiflow_service.api.problem import PROBLEMS, Problem
from aiflow_service.api.services import ScopeOf, Services, ServicesOf
from aiflow_service.audit import AuditFilter, export_entries, list_entries, verify_entries

router = APIRouter(prefix="/api/v1/audit", tags=["audit"], responses=PROBLEMS)

Part = Annotated[str | None, Query(max_length=500)]
_BLOCK_LINES = 500
_verifying = threading.Lock()


class JsonLinesResponse(StreamingResponse):
    """Lines of JSON, as they are read."""

    media_type = "application/x-ndjson"


def filter_of(
    actor: Part = None,
    action: Annotated[
        str | None, Query(max_length=500, description="As `token.made`, or `token` for all that was done to tokens.")
    ] = None,
    object_kind: Part = None,
    object_name: Part = None,
    team: Part = None,
    environment: Part = None,
    result: Literal["done", "denied", "failed"] | None = None,
    since: Moment = None,
    until: Moment = None,
) -> AuditFilter:
    """Return which rows are asked for."""
    return AuditFilter(
        actor=checked_text(actor, "actor"),
        action=checked_text(action, "action"),
        object_kind=checked_text(object_kind, "object_kind"),
        object_name=checked_text(object_name, "object_name"),
        team=checked_text(team, "team"),
        environment=checked_text(environment, "environment"),
        result=result,
        since=moment_in(since, "since"),
        until=moment_in(until, "until"),
    )


FilterOf = Annotated[AuditFilter, Depends(filter_of)]


@router.get("")
def entries(
    services: ServicesOf,
    scope: ScopeOf,
    wanted: FilterOf,
    oldest_first: bool = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List what was done, the newest first."""
    place = place_of(cursor, 1)
    with services.database.reading() as connection:
        found, following = list_entries(
            connection, scope, wanted, behind=place[0] if place else None, limit=limit, oldest_first=oldest_first
        )
    return answer_page(found, following)


@router.get("/export", response_class=JsonLinesResponse)
def export(services: ServicesOf, scope: ScopeOf, wanted: FilterOf) -> JsonLinesResponse:
    """Return rows as JSON lines in the order in which they were recorded, for `aiflow audit verify --file`.

    `X-Audit-Partial` is `true` where rows were left out: by a filter, or because the caller does not see them.
    """
    is_partial = scope.team_ids is not None or not wanted.is_everything
    headers = {"Cache-Control": "no-store", "X-Audit-Partial": "true" if is_partial else "false"}
    return JsonLinesResponse(_lines(services, scope, wanted), headers=headers)


@router.get("/verify")
def verify(services: ServicesOf, scope: ScopeOf) -> Response:
    """Check the whole chain against itself and the checkpoints: a million rows take seconds. For owners of all."""
    scope.require(Role.OWNER, None)
    if not _verifying.acquire(blocking=False):
        raise Problem(429, "audit-verifying", "the audit is being verified already: ask again when that is done")
    try:
        checkpoints = _checkpoints(services)
        with services.database.reading() as connection:
            verdict = verify_entries(connection, checkpoints.found if checkpoints else ())
    finally:
        _verifying.release()
    for kind, says in checkpoints.problems if checkpoints else ():
        verdict.add(kind, None, None, says)
    return answer(verdict.to_dict())


@router.get("/checkpoints")
def checkpoints(services: ServicesOf, scope: ScopeOf) -> Response:
    """List the signed checkpoints, the newest 500, and what is wrong with them. For owners of all."""
    scope.require(Role.OWNER, None)
    found = _checkpoints(services)
    if found is None:
        return answer({"address": None, "keys": [], "count": 0, "items": [], "problems": []})
    newest = [one._asdict() for one in reversed(found.found[-500:])]
    problems = [{"kind": kind, "says": says} for kind, says in found.problems]
    return answer(
        {
            "address": without_credentials(found.address),
            "keys": found.keys,
            "count": found.count,
            "items": newest,
            "problems": problems,
        }
    )


def _checkpoints(services: Services) -> Checkpoints | None:
    writer = services.keeper.checkpoints
    try:
        return writer.read() if writer else None
    except AiflowError as error:
        raise Problem(
            503, "audit-checkpoints-unreachable", f"the checkpoints cannot be read: {error.message}"
        ) from error


def _lines(services: Services, scope: Scope, wanted: AuditFilter) -> Iterator[bytes]:
    with services.database.reading() as connection:
        block: list[str] = []
        for row in export_entries(connection, scope, wanted):
            block.append(export_line(row))
            if len(block) == _BLOCK_LINES:
                yield ("\n".join(block) + "\n").encode()
                block.clear()
        if block:
            yield ("\n".join(block) + "\n").encode()
