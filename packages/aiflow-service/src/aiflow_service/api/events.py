"""Events as they came, and what was refused."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from aiflow_service.access import Role, Scope
from aiflow_service.api.answers import (
    Cursor,
    Limit,
    Moment,
    Word,
    answer,
    answer_page,
    checked_text,
    moment_in,
    place_of,
)
from aiflow_service.api.ingest import replay
from aiflow_service.api.problem import PROBLEMS, Problem, not_found
from aiflow_service.api.services import CallerOf, ScopeOf, Services, ServicesOf
from aiflow_service.audit import Entry, record
from aiflow_service.database import Writing, now
from aiflow_service.database.tables import DEFAULT_TEAM_ID
from aiflow_service.events import (
    EventFilter,
    event_body,
    list_events,
    list_refusals,
    mark_replayed,
    refused_body,
    team_of_refusal,
)
from aiflow_service.ingest import Sender, Submission

router = APIRouter(prefix="/api/v1", tags=["events"], responses=PROBLEMS)

Number = Annotated[int, Path(ge=1, lt=2**62)]
Among = Annotated[int | None, Query(ge=1, lt=2**62)]


class AsItCameResponse(Response):
    """What somebody sent, which may be anything."""

    media_type = "application/octet-stream"


@router.get("/events")
def events(
    services: ServicesOf,
    scope: ScopeOf,
    run: Word = None,
    job: Among = None,
    dataset: Among = None,
    since: Moment = None,
    until: Moment = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List events in the order in which they arrived: of a run, a job, a dataset; by their own times."""
    after = place_of(cursor, 1) or (0,)
    wanted = EventFilter(
        run_uid=checked_text(run, "run"),
        job_id=job,
        dataset_id=dataset,
        since=moment_in(since, "since"),
        until=moment_in(until, "until"),
    )
    with services.database.reading() as connection:
        found, place = list_events(connection, scope, wanted, after=after[0], limit=limit)
    return answer_page([with_raw(one) for one in found], place)


@router.get("/events/{number}")
def event(number: Number, services: ServicesOf, scope: ScopeOf) -> Response:
    """Return an event byte for byte as it came."""
    with services.database.reading() as connection:
        body = event_body(connection, scope, number)
    if body is None:
        raise not_found("event")
    return Response(body, media_type="application/json")


@router.get("/lineage/refused")
def refused(
    services: ServicesOf, scope: ScopeOf, code: Word = None, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List what was refused and why, the newest first."""
    place = place_of(cursor, 1)
    before, wanted = place[0] if place else None, checked_text(code, "code")
    with services.database.reading() as connection:
        found, following = list_refusals(connection, scope, before=before, limit=limit, code=wanted)
    return answer_page(found, following)


@router.get("/lineage/refused/{number}", response_class=AsItCameResponse)
def refused_event(number: Number, services: ServicesOf, scope: ScopeOf) -> AsItCameResponse:
    """Return what was refused, as it came; of what is very long the beginning."""
    with services.database.reading() as connection:
        found = refused_body(connection, scope, number)
    if found is None:
        raise not_found("refused event")
    return AsItCameResponse(found[0])


@router.post("/lineage/refused/{number}/replay")
async def replay_refused(number: Number, services: ServicesOf, scope: ScopeOf, caller: CallerOf) -> Response:
    """Take what was refused after all, where today's rules allow it."""
    team_id, submissions = await asyncio.to_thread(_submissions_of, services, scope, number)
    entry = Entry(
        caller, "refusal.replayed", "refusal", str(number), team_id=team_id, details={"events": len(submissions)}
    )

    def note(writing: Writing) -> None:
        mark_replayed(writing, number, now())
        record(writing, entry)

    await asyncio.to_thread(services.writer.write_together, submissions, note)
    return answer({"status": "accepted", "events": len(submissions)})


def _submissions_of(services: Services, scope: Scope, number: int) -> tuple[int, list[Submission]]:
    """Return what a refused body holds, and whose it is."""
    with services.database.reading() as connection:
        team_id = team_of_refusal(connection, scope, number)
        found = refused_body(connection, scope, number)
    if found is None or team_id is None:
        raise not_found("refused event")
    scope.require(Role.OPERATOR, team_id)
    raw, is_whole = found
    if not is_whole:
        raise Problem(409, "refusal-cut", "only the beginning of this was kept; it has to be sent again")
    speaks_for_all = team_id == DEFAULT_TEAM_ID and scope.may(Role.OPERATOR, None)
    submissions, refusals = replay(raw, Sender(team_id, speaks_for_all, scope.caller.environment))
    if refusals:
        raise refusals[0]
    return team_id, submissions


def with_raw(told: dict[str, Any]) -> dict[str, Any]:
    """Return an event whose body stands in the answer as it came, not as a text in a text."""
    return {**told, "event": msgspec.Raw(told["event"])}
