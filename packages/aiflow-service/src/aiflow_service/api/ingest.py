"""Where events arrive: one, or a batch."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from aiflow_service.api.answers import answer
from aiflow_service.api.figures import EVENTS
from aiflow_service.api.parameters import refuse_unknown
from aiflow_service.api.problem import PROBLEMS
from aiflow_service.api.services import SenderOf, Services, ServicesOf
from aiflow_service.database import now
from aiflow_service.events import RefusedEvent
from aiflow_service.ingest import Sender, Submission, split_batch, unpack
from aiflow_service.ingest.writer import Written, refusal_of
from aiflow_service.openlineage import Refusal, read_event
from aiflow_service.openlineage.limits import MAX_BODY_BYTES, MAX_EVENT_BYTES

router = APIRouter(prefix="/api/v1", tags=["events"], responses=PROBLEMS)

_ANY_EVENT = {"type": "object", "description": "A run, job or dataset event of OpenLineage 2-0-2."}
_ANYTHING = {"description": "An event; of one that is none the answer tells."}
_MOST_WARNINGS = 20
"""How many an answer tells."""
_QUICK_BYTES = 65_536
"""What is longer is read in a thread, so that others need not wait for it."""
_READER = ThreadPoolExecutor(1, "reader")
"""One: reading is work of the interpreter, and each thread more would keep the one that writes from its turn."""


def _body_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post("/lineage", status_code=201, openapi_extra=_body_of(_ANY_EVENT))
async def receive(request: Request, services: ServicesOf, sender: SenderOf) -> Response:
    """Take one event. 201 means that it is durable, and in the next answer; the same one again counts once.

    `warnings`: what of it did not count, such as what it says of a dataset that is another team's.
    """
    raw = await _read(request, services, sender, MAX_EVENT_BYTES)
    try:
        await refuse_unknown(request)
        if len(raw) < _QUICK_BYTES:
            submission = _submit(raw, sender)
        else:
            submission = await asyncio.get_running_loop().run_in_executor(_READER, _submit, raw, sender)
    except Refusal as refusal:
        await _keep(services, await _refusals_of([(raw, refusal)], sender))
        raise
    written = await services.writer.write([submission], [])
    digest = submission.event.digest
    if digest in written.unstorable:
        EVENTS.labels("refused").inc()
        raise written.unstorable[digest]
    number = written.outcome.numbers.get(digest)
    EVENTS.labels("duplicate" if number is None else "accepted").inc()
    told: dict[str, Any] = {"status": "duplicate" if number is None else "accepted", "id": number}
    if warnings := _warnings(written, digest):
        told["warnings"] = warnings
    return answer(told, 201)


@router.post(
    "/lineage/batch",
    openapi_extra=_body_of({"type": "array", "items": _ANYTHING}),
)
async def receive_batch(request: Request, services: ServicesOf, sender: SenderOf) -> Response:
    """Take a list of events. Those that are refused are listed by their place in it; the others land.

    `warnings`: what of them did not count, with their place too.
    """
    raw = await _read(request, services, sender, MAX_BODY_BYTES)
    try:
        await refuse_unknown(request)
        if len(raw) < _QUICK_BYTES:
            submissions, refusals = _submit_batch(raw, sender)
        else:
            submissions, refusals = await asyncio.get_running_loop().run_in_executor(
                _READER, _submit_batch, raw, sender
            )
    except Refusal as refusal:
        await _keep(services, await _refusals_of([(raw, refusal)], sender))
        raise
    refused = await _refusals_of(list(refusals.values()), sender)
    written = await services.writer.write(list(submissions.values()), refused)
    failed = {index: refusal for index, (_, refusal) in refusals.items()}
    for index, submission in submissions.items():
        if submission.event.digest in written.unstorable:
            failed[index] = written.unstorable[submission.event.digest]
    accepted = len({one.event.digest for one in submissions.values()} & written.outcome.numbers.keys())
    received = len(submissions) + len(refusals)
    EVENTS.labels("accepted").inc(accepted)
    EVENTS.labels("duplicate").inc(received - len(failed) - accepted)
    EVENTS.labels("refused").inc(len(failed))
    told: dict[str, Any] = {
        "status": "partial_success" if failed else "success",
        "summary": {
            "received": received,
            "successful": received - len(failed),
            "failed": len(failed),
            "retriable": 0,
            "non_retriable": len(failed),
        },
        "failed_events": [
            {"index": index, "reason": one.reason, "code": one.code, "place": one.place, "retriable": False}
            for index, one in sorted(failed.items())
        ],
    }
    warnings = (
        {"index": index, **one}
        for index, submission in sorted(submissions.items())
        for one in _warnings(written, submission.event.digest)
    )
    if shown := list(islice(warnings, _MOST_WARNINGS)):
        told["warnings"] = shown
    return answer(told)


def _warnings(written: Written, digest: bytes) -> list[dict[str, str]]:
    """Return what the sender of an event has to know of it; whose a dataset is, is not told."""
    return [
        {
            "code": "dataset-not-granted",
            "reason": f"the dataset '{name}' ({namespace}) is another team's, which wrote it first or claims it: that "
            "the job writes it is noted, and what is said of its columns and facts is not; ask for a grant to write",
        }
        for namespace, name in written.outcome.ungranted.get(digest, ())[:_MOST_WARNINGS]
    ]


async def _read(request: Request, services: Services, sender: Sender, most: int) -> bytes:
    """Return the unpacked body, which is never read or unpacked beyond ``most`` bytes."""
    body = bytearray()
    encoding = request.headers.get("content-encoding", "")
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise Refusal("body-too-large", f"the body has more than {most} bytes", status=413)
        if not encoding:
            return bytes(body)
        return await asyncio.to_thread(unpack, bytes(body), encoding, most)
    except Refusal as refusal:
        length = request.headers.get("content-length", "")
        size = max(len(body), int(length)) if length.isdigit() else len(body)
        kept = refusal_of(bytes(body[:16_384]), refusal, sender.team_id, size if len(body) > 16_384 else len(body))
        await _keep(services, [kept])
        raise


async def _refusals_of(refused: list[tuple[bytes, Refusal]], sender: Sender) -> list[RefusedEvent]:
    def make() -> list[RefusedEvent]:
        return [refusal_of(raw, refusal, sender.team_id) for raw, refusal in refused]

    return make() if sum(len(raw) for raw, _ in refused) < _QUICK_BYTES else await asyncio.to_thread(make)


async def _keep(services: Services, refused: list[RefusedEvent]) -> None:
    EVENTS.labels("refused").inc(len(refused))
    await services.writer.write([], refused)


def _submit(raw: bytes, sender: Sender) -> Submission:
    event = read_event(raw)
    sender.check(event)
    if not sender.speaks_for_all:  # what two teams send alike is of each, and neither learns that the other has sent it
        digest = hashlib.sha256(b"%d:%b" % (sender.team_id, event.digest)).digest()
        event = msgspec.structs.replace(event, digest=digest)
    return Submission(event, sender.team_id, now(), sender.speaks_for_all, sender.environment)


def _submit_batch(raw: bytes, sender: Sender) -> tuple[dict[int, Submission], dict[int, tuple[bytes, Refusal]]]:
    submissions: dict[int, Submission] = {}
    refusals: dict[int, tuple[bytes, Refusal]] = {}
    for index, part in enumerate(split_batch(raw)):
        try:
            submissions[index] = _submit(part, sender)
        except Refusal as refusal:
            refusals[index] = (part, refusal)
    return submissions, refusals


def replay(raw: bytes, sender: Sender) -> tuple[list[Submission], list[Refusal]]:
    """Read again what was refused: one event, or the batch that it was."""
    if raw.lstrip()[:1] == b"[":
        submissions, refusals = _submit_batch(raw, sender)
        return list(submissions.values()), [refusal for _, refusal in refusals.values()]
    return [_submit(raw, sender)], []
