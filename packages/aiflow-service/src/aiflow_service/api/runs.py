"""Runs: listed, told whole, and live."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from aiflow_service.access import Role, Scope
from aiflow_service.access.teams import find_team
from aiflow_service.api.answers import (
    SAME,
    Cursor,
    Limit,
    Moment,
    Word,
    answer,
    answer_object,
    answer_page,
    checked_text,
    moment_in,
    place_of,
)
from aiflow_service.api.events import with_raw
from aiflow_service.api.ingest import replay
from aiflow_service.api.invalid import NAME_PATTERN
from aiflow_service.api.problem import PROBLEMS, Problem, not_found
from aiflow_service.api.services import CallerOf, ScopeOf, Services, ServicesOf, renewed_scope
from aiflow_service.audit import Entry, record
from aiflow_service.database import Writing
from aiflow_service.events import EventFilter, list_events
from aiflow_service.ingest import Sender
from aiflow_service.runs import RunFilter, changed_since, end_events, find_run, list_runs, newest_change, team_of_run

router = APIRouter(prefix="/api/v1/runs", tags=["runs"], responses=PROBLEMS)

State = Literal["running", "succeeded", "failed", "cancelled"]
RunId = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z_.:-]+$")]
TeamWord = Annotated[
    str | None, Query(pattern=NAME_PATTERN, description="Whose run, where several of the caller's teams have the id.")
]
_POLL_SECONDS = 1.0
_SILENCE_SECONDS = 15.0
_LIVE_ROWS = 200
_WHOLE = 2**62
"""Behind every run that one event touched."""


class EventsResponse(StreamingResponse):
    """Server-sent events, as they happen."""

    media_type = "text/event-stream"


@router.get("")
def runs(
    services: ServicesOf,
    scope: ScopeOf,
    pipeline: Word = None,
    project: Word = None,
    environment: Word = None,
    state: State | None = None,
    job: Annotated[int | None, Query(ge=1, lt=2**62)] = None,
    since: Moment = None,
    until: Moment = None,
    parts: Annotated[bool, Query(description="List tasks and other parts of runs too.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List runs, the newest start first."""
    wanted = RunFilter(
        pipeline=checked_text(pipeline, "pipeline"),
        project=checked_text(project, "project"),
        environment=checked_text(environment, "environment"),
        state=state,
        job_id=job,
        since=moment_in(since, "since"),
        until=moment_in(until, "until"),
        parts=parts,
    )
    place = place_of(cursor, 2)
    before = (place[0], place[1]) if place else None
    with services.database.reading(keeps_plans=True) as connection:
        found, following = list_runs(connection, scope, wanted, before=before, limit=limit)
    return answer_page(found, following)


@router.get("/live", response_class=EventsResponse)
async def live(
    request: Request,
    services: ServicesOf,
    _: ScopeOf,
    last_event_id: Annotated[str | None, Header()] = None,
) -> EventsResponse:
    """Tell of every run as it changes, as server-sent events; `Last-Event-ID` goes on where a listener left off.

    Each is a `run` with the line of a list as its data. Of several changes in a moment the last is told. It ends when
    the caller's token or session does.
    """
    place = _place_in(last_event_id) or (await run_in_threadpool(_newest, services), _WHOLE)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return EventsResponse(_stream(request, services, place), headers=headers)


@router.get("/{run_id}", responses=SAME)
def run(run_id: RunId, request: Request, services: ServicesOf, scope: ScopeOf, team: TeamWord = None) -> Response:
    """Tell a run whole: its tasks with their attempts, nodes, datasets, errors, and whatever else was part of it."""
    with services.database.reading() as connection:
        team_id = find_team(connection, scope, team) if team else None
        found = find_run(connection, scope, run_id.lower(), team_id)
    if found is None:
        raise not_found("run")
    return answer_object(request, found)


@router.post("/{run_id}/end")
def end_run(run_id: RunId, services: ServicesOf, scope: ScopeOf, caller: CallerOf, team: TeamWord = None) -> Response:
    """Say that a run is over which nobody is left to tell the end of: it and its open attempts have failed.

    Whatever the run itself tells, sooner or later, outdoes that. For operators.
    """
    uid = run_id.lower()
    with services.database.reading() as connection:
        team_id = find_team(connection, scope, team) if team else team_of_run(connection, scope, uid)
        story = None if team_id is None else find_run(connection, scope, uid, team_id)
    if story is None or team_id is None:
        raise not_found("run")
    scope.require(Role.OPERATOR, team_id, story["environment"])
    if story["state"] != "running":
        raise Problem(409, "run-ended", f"the run has {story['state']} at {story['ended_at']}, and ends no more")
    told = list(end_events(story, scope.caller.name, datetime.now(UTC)))
    # It is the team's word on its own run, whoever says it: claims have nothing to sort.
    submissions, refusals = replay(msgspec.json.encode(told), Sender(team_id, False, scope.caller.environment))
    if refusals:
        raise refusals[0]
    facts = {"pipeline": story["pipeline"], "started_at": story["started_at"], "parts": len(told) - 1}
    entry = Entry(caller, "run.ended", "run", uid, team_id=team_id, environment=story["environment"], details=facts)

    def note(writing: Writing) -> None:
        record(writing, entry)

    services.writer.write_together(submissions, note)
    return answer({"run_id": uid, "team": story["team"], "state": "failed", "parts": len(told) - 1})


@router.get("/{run_id}/events")
def run_events(
    run_id: RunId,
    services: ServicesOf,
    scope: ScopeOf,
    team: TeamWord = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List the events of a run in the order in which they arrived."""
    after = place_of(cursor, 1) or (0,)
    with services.database.reading() as connection:
        uid = run_id.lower()
        team_id = find_team(connection, scope, team) if team else team_of_run(connection, scope, uid)
        wanted = EventFilter(run_uid=uid, team_id=team_id)
        found, place = list_events(connection, scope, wanted, after=after[0], limit=limit)
    return answer_page([with_raw(one) for one in found], place)


def _newest(services: Services) -> int:
    with services.database.reading() as connection:
        return newest_change(connection)


async def _stream(request: Request, services: Services, place: tuple[int, int]) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    told_at = loop.time()
    yield b"retry: 2000\n\n"
    while not services.is_ending and not await request.is_disconnected():
        # What is shown next is asked for after the bell was taken, so that nothing falls between the two.
        bell = services.changes.bell()
        if (scope := await renewed_scope(request)) is None:
            return
        changed = await run_in_threadpool(_changed, services, scope, place)
        for place, told in changed:
            yield b"id: %d.%d\nevent: run\ndata: %s\n\n" % (*place, msgspec.json.encode(told))
        if changed:
            told_at = loop.time()
        elif loop.time() - told_at > _SILENCE_SECONDS:
            yield b": still here\n\n"
            told_at = loop.time()
        if len(changed) < _LIVE_ROWS:
            await services.changes.wait(bell, _POLL_SECONDS)


def _changed(
    services: Services, scope: Scope, place: tuple[int, int]
) -> list[tuple[tuple[int, int], dict[str, object]]]:
    with services.database.reading() as connection:
        return list(changed_since(connection, scope, place, limit=_LIVE_ROWS))


def _place_in(text: str | None) -> tuple[int, int] | None:
    """Return where a listener left off, None where it says nothing that was told here."""
    found = re.fullmatch(r"([0-9]{1,18})(?:\.([0-9]{1,18}))?", text or "")
    return None if found is None else (int(found[1]), _WHOLE if found[2] is None else int(found[2]))
