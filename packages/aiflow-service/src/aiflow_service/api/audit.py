"""The audit: searched, exported, verified."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Annotated, Literal

from annotated_types import MaxLen
from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from aiflow_sdk.audit import Checkpoints, export_line
from aiflow_sdk.config.address import without_credentials
from aiflow_sdk.errors import AiflowError
from aiflow_service.access import Role, Scope
from aiflow_service.api.answers import Cursor, Limit, Moment, answer, answer_page, checked_text, moment_in, place_of
from aiflow_service.api.bodies import describe_body, read_body
from aiflow_service.api.problem import PROBLEMS, Problem
from aiflow_service.api.services import CallerOf, ScopeOf, Services, ServicesOf
from aiflow_service.api.words import Body, Text
from aiflow_service.audit import (
    AuditFilter,
    Caller,
    TakenEntry,
    export_entries,
    last_taken,
    list_entries,
    take_entries,
    verify_entries,
)
from aiflow_service.database import MICROSECONDS, moment_text, now
from aiflow_service.database.tables import DEFAULT_TEAM_ID
from aiflow_service.ingest import Sender

router = APIRouter(prefix="/api/v1/audit", tags=["audit"], responses=PROBLEMS)

Part = Annotated[str | None, Query(max_length=500)]
_BLOCK_LINES = 500
_AHEAD = 24 * 3600 * MICROSECONDS
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
    if checkpoints:
        verdict.compare(checkpoints)
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


class AirflowEntry(Body):
    """An entry of an Airflow's event log; `environment`, `project` and `pipeline` where its DAG is one of aiflow's."""

    number: Annotated[int, Field(ge=0, lt=2**62)]
    at: Annotated[str, MaxLen(60)]
    event: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,200}$")]
    user: Text | None = None
    dag_id: Text | None = None
    run_id: Text | None = None
    task_id: Text | None = None
    environment: Text | None = None
    project: Text | None = None
    pipeline: Text | None = None
    extra: Annotated[str, MaxLen(100_000)] | None = None


class AirflowLog(Body):
    """What was read of an Airflow's event log; `source` is the Airflow's address."""

    source: Text
    entries: Annotated[list[AirflowEntry], MaxLen(1_000)]


@router.get("/airflow")
def airflow_log(
    services: ServicesOf, scope: ScopeOf, source: Annotated[str, Query(min_length=1, max_length=500)]
) -> Response:
    """Say how far an Airflow's event log was taken in: when the newest entry was made. For owners of all."""
    scope.require_unlimited(Role.OWNER, None)
    named = checked_text(source, "source") or ""
    with services.database.reading() as connection:
        found = last_taken(connection, named)
    return answer({"source": named, "last_at": moment_text(found)})


@router.post("/airflow", openapi_extra=describe_body(AirflowLog))
async def take_airflow_log(request: Request, services: ServicesOf, scope: ScopeOf, caller: CallerOf) -> Response:
    """Take entries of an Airflow's event log in, each once, as rows of their own. For owners of all."""
    scope.require_unlimited(Role.OWNER, None)
    log = await read_body(request, AirflowLog)
    entries = [_taken(number, one) for number, one in enumerate(log.entries)]
    recorded = await run_in_threadpool(_take, services, caller, log.source, entries)
    return answer({"recorded": recorded})


def _take(services: Services, caller: Caller, source: str, entries: list[TakenEntry]) -> int:
    sender = Sender(DEFAULT_TEAM_ID, speaks_for_all=True)
    with services.database.writing() as writing:
        return take_entries(
            writing,
            caller,
            source,
            entries,
            lambda project, environment: sender.team_for(writing.connection, project, environment),
        )


def _taken(number: int, one: AirflowEntry) -> TakenEntry:
    moment = moment_in(one.at, f"entries/{number}/at")
    if moment is None or not 0 <= moment <= now() + _AHEAD:
        raise Problem(422, "body-invalid", f"body/entries/{number}/at: {one.at} lies before 1970 or ahead of now")
    return TakenEntry(moment=moment, **one.model_dump(exclude={"at"}))


def _checkpoints(services: Services) -> Checkpoints | None:
    writer = services.keeper.checkpoints
    try:
        return writer.read() if writer else None
    except AiflowError as error:
        raise Problem(
            503, "audit-checkpoints-unreachable", f"the checkpoints cannot be read: {error.message}"
        ) from error


def _lines(services: Services, scope: Scope, wanted: AuditFilter) -> Iterator[bytes]:
    """Yield the lines, each block of a transaction of its own: rows only come, and whoever reads slowly holds none."""
    behind = None
    while True:
        with services.database.reading() as connection:
            rows = list(export_entries(connection, scope, wanted, behind=behind, limit=_BLOCK_LINES))
        if rows:
            behind = rows[-1].seq
            yield "".join(f"{export_line(row)}\n" for row in rows).encode()
        if len(rows) < _BLOCK_LINES:
            return
