"""From bytes to an :class:`Event`, or to a refusal.

An event is taken apart into its inputs, its outputs and the rest. What was said of a dataset before is not read again
(:mod:`~aiflow_service.openlineage.mentions`); the canonical text is put together from the parts'. Only what does not
get through so is read as a whole, which says what is wrong with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from aiflow_service.database.moments import MICROSECONDS, moment_of, now
from aiflow_service.masking import mask_document, may_hold_secrets, without_spaces
from aiflow_service.openlineage.airflow import find_own_run
from aiflow_service.openlineage.events import DatasetMention, Event, EventKind, Facets, RunMention
from aiflow_service.openlineage.limits import (
    MAX_COLUMN_SOURCES,
    MAX_DATASETS,
    MAX_EVENT_BYTES,
    MAX_MEMBERS,
    check_name,
    check_shape,
)
from aiflow_service.openlineage.mentions import facets_in, mentions_of_text, name_in, read_mention
from aiflow_service.openlineage.refusal import Refusal
from aiflow_service.openlineage.schemas import check_schema, is_event_valid

_DECODER = msgspec.json.Decoder()
_PARTS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER = msgspec.json.Encoder(order="deterministic")
_AHEAD = 24 * 3600 * MICROSECONDS
_NOTHING: Mapping[str, Any] = {}
_UNLOCKED_BYTES = 32_768


def read_event(raw: bytes) -> Event:
    """Return the event that these bytes are, without secrets. Raises :class:`Refusal`."""
    if len(raw) > MAX_EVENT_BYTES:
        raise Refusal("event-too-large", f"the event has {len(raw)} bytes; {MAX_EVENT_BYTES} are allowed", status=413)
    return _read_by_parts(raw) or _read_whole(raw)


def _read_by_parts(raw: bytes) -> Event | None:
    """Return the event; None of one that has none of the usual parts, a part twice, may hold secrets, or is refused."""
    try:
        parts = _PARTS.decode(raw)
        if len(parts) > MAX_MEMBERS or not _is_whole(raw, parts):
            return None
        mentions: list[DatasetMention] = []
        texts: dict[str, msgspec.Raw] = {}
        for member, is_output in (("inputs", False), ("outputs", True)):
            if (part := parts.pop(member, None)) is None:
                continue
            if (found := mentions_of_text(bytes(part), is_output=is_output)) is None:
                return None
            texts[member] = found[0]
            mentions += found[1]
        rest = b"[%b]" % b",".join(map(bytes, parts.values()))
        if may_hold_secrets(b"%b%b" % (",".join(parts).encode("utf-8", "surrogatepass"), rest)):
            return None
        document = dict(zip(parts, _DECODER.decode(rest), strict=True))
        check_shape(document, rest)
    except (msgspec.DecodeError, RecursionError, Refusal):
        return None  # read as a whole it says what is wrong
    if len(mentions) > MAX_DATASETS or not texts:
        return None
    kind = EventKind.RUN if "run" in document else EventKind.JOB
    if "dataset" in document or "job" not in document or not is_event_valid(kind, document):
        return None
    return _event(kind, document, mentions, _digest(_ENCODER.encode(document | texts)), raw)


def _is_whole(raw: bytes, parts: Mapping[str, msgspec.Raw]) -> bool:
    """Tell whether members are all that an object's text holds: of one that stands twice the last alone is there."""
    names = "".join(parts).encode("utf-8", "surrogatepass")
    told = len(without_spaces(names)) + len(without_spaces(b"".join(map(bytes, parts.values()))))
    signs = 2 + 3 * len(parts) + max(0, len(parts) - 1)  # braces; quotes and a colon each; commas
    return len(without_spaces(raw)) == told + signs


def _read_whole(raw: bytes) -> Event:
    document = decode(raw)
    if type(document) is not dict:
        raise Refusal("event-invalid", f"an event is a JSON object, this is {_kind_name(document)}")
    check_shape(document, raw)
    if may_hold_secrets(raw):
        document, raw = mask_document(document, raw)
    kind = EventKind.RUN if "run" in document else EventKind.DATASET if "dataset" in document else EventKind.JOB
    if kind is EventKind.JOB and "job" not in document:
        raise Refusal("event-invalid", "an event has a run and a job, a job, or a dataset; this has none of them")
    check_schema(kind, document)
    return _event(kind, document, list(_mentions(document, kind)), _digest(_ENCODER.encode(document)), raw)


def _event(
    kind: EventKind, document: Mapping[str, Any], datasets: Sequence[DatasetMention], digest: bytes, raw: bytes
) -> Event:
    if sum([len(one.sources) for one in datasets if one.sources]) > MAX_COLUMN_SOURCES:
        raise Refusal("event-too-many-columns", f"the event has more than {MAX_COLUMN_SOURCES} pairs of columns")
    job = document.get("job") if kind is not EventKind.DATASET else None
    run = document["run"] if kind is EventKind.RUN else _NOTHING
    run_facets = facets_in(run.get("facets"))
    job_facets = facets_in(job.get("facets")) if job else _NOTHING
    name = name_in(job, "/job") if job else None
    parent, root = _parents(run_facets)
    if name is not None and (own := find_own_run(name, run_facets, job_facets)) is not None:
        parent, root = (own, None) if parent is None else (parent, own)
    return Event(
        kind=kind,
        event_type=document.get("eventType") or "OTHER",
        time=_moment(document["eventTime"]),
        digest=digest,
        raw=raw,
        job=name,
        run_id=run["runId"].lower() if run else None,
        datasets=tuple(datasets),
        run_facets=run_facets,
        job_facets=job_facets,
        parent=parent,
        root=root,
    )


def _digest(text: bytes) -> bytes:
    """Return the SHA-256 of a text.

    A short one goes in by pieces: for one of 2,048 bytes and more the interpreter's lock is let go, and while another
    thread works it takes longer to get it back than to compute the sum.
    """
    if len(text) > _UNLOCKED_BYTES:
        return hashlib.sha256(text).digest()
    found = hashlib.sha256()
    for begin in range(0, len(text), 2_000):
        found.update(text[begin : begin + 2_000])
    return found.digest()


def decode(raw: bytes) -> Any:
    """Return the document of JSON bytes. Raises :class:`Refusal`."""
    try:
        return _DECODER.decode(raw)
    except msgspec.DecodeError as error:
        try:
            raw.decode()
        except UnicodeDecodeError as wrong:
            reason = f"this is not UTF-8: {wrong.reason} at byte {wrong.start}"
            raise Refusal("utf8-invalid", reason, status=400) from error
        raise Refusal("json-invalid", f"this is no JSON: {error}", status=400) from error
    except RecursionError as error:
        raise Refusal("event-nested", "objects and lists are nested too deep") from error


def _moment(text: str) -> int:
    try:
        moment = moment_of(datetime.fromisoformat(text.upper()))
    except (ValueError, OverflowError, TypeError) as error:
        raise Refusal("time-invalid", f"eventTime: '{text[:60]}' is no moment", place="/eventTime") from error
    if not 0 <= moment <= now() + _AHEAD:
        raise Refusal(
            "time-out-of-range", f"eventTime: {text[:60]} lies before 1970 or more than a day ahead", place="/eventTime"
        )
    return moment


def _mentions(document: Mapping[str, Any], kind: EventKind) -> Iterator[DatasetMention]:
    if kind is EventKind.DATASET:
        yield read_mention(document["dataset"], "/dataset", is_output=True)
        return
    inputs, outputs = document.get("inputs") or (), document.get("outputs") or ()
    if len(inputs) + len(outputs) > MAX_DATASETS:
        raise Refusal("event-too-many-datasets", f"the event has more than {MAX_DATASETS} inputs and outputs")
    for number, one in enumerate(inputs):
        yield read_mention(one, f"/inputs/{number}", is_output=False)
    for number, one in enumerate(outputs):
        yield read_mention(one, f"/outputs/{number}", is_output=True)


def _parents(facets: Facets) -> tuple[RunMention | None, RunMention | None]:
    parent = facets.get("parent")
    if parent is None:
        return None, None
    root = parent.get("root")
    return _run_mention(parent), _run_mention(root) if isinstance(root, dict) else None


def _run_mention(told: Mapping[str, Any]) -> RunMention | None:
    run, job = told.get("run"), told.get("job")
    if not isinstance(run, dict) or not isinstance(job, dict) or not isinstance(run.get("runId"), str):
        return None
    if not isinstance(job.get("name"), str) or not isinstance(job.get("namespace"), str):
        return None
    return RunMention(check_name(run["runId"].lower(), "/run/facets/parent"), name_in(job, "/run/facets/parent/job"))


def _kind_name(value: Any) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
