"""From bytes to an :class:`Event`, or to a refusal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from aiflow_service.database.moments import MICROSECONDS, moment_of, now
from aiflow_service.masking import hide_secrets, may_hold_secrets
from aiflow_service.openlineage.airflow import find_own_run
from aiflow_service.openlineage.events import (
    ColumnSource,
    DatasetMention,
    Event,
    EventKind,
    Facets,
    Field,
    Name,
    RunMention,
    Schema,
)
from aiflow_service.openlineage.limits import (
    MAX_COLUMN_SOURCES,
    MAX_DATASETS,
    MAX_EVENT_BYTES,
    MAX_FIELDS,
    check_depth,
    check_name,
)
from aiflow_service.openlineage.refusal import Refusal
from aiflow_service.openlineage.schemas import check_schema

_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder(order="deterministic")
_IN_ORDER = msgspec.json.Encoder()
_AHEAD = 24 * 3600 * MICROSECONDS
_NOTHING: Mapping[str, Any] = {}
_REMEMBERED_BYTES = 32_768
_T = TypeVar("_T")


def read_event(raw: bytes) -> Event:
    """Return the event that these bytes are, without secrets. Raises :class:`Refusal`."""
    if len(raw) > MAX_EVENT_BYTES:
        raise Refusal("event-too-large", f"the event has {len(raw)} bytes; {MAX_EVENT_BYTES} are allowed", status=413)
    document = decode(raw)
    if type(document) is not dict:
        raise Refusal("event-invalid", f"an event is a JSON object, this is {_kind_name(document)}")
    check_depth(document, raw)
    if may_hold_secrets(raw) and (masked := hide_secrets(document)) is not document:
        document, raw = masked, _IN_ORDER.encode(masked)
    kind = EventKind.RUN if "run" in document else EventKind.DATASET if "dataset" in document else EventKind.JOB
    if kind is EventKind.JOB and "job" not in document:
        raise Refusal("event-invalid", "an event has a run and a job, a job, or a dataset; this has none of them")
    check_schema(kind, document)
    job = document.get("job") if kind is not EventKind.DATASET else None
    run = document["run"] if kind is EventKind.RUN else _NOTHING
    run_facets = _facets(run.get("facets"))
    job_facets = _facets(job.get("facets")) if job else _NOTHING
    name = _name(job, "/job") if job else None
    parent, root = _parents(run_facets)
    if name is not None and (own := find_own_run(name, run_facets, job_facets)) is not None:
        parent, root = (own, None) if parent is None else (parent, own)
    datasets = tuple(_mentions(document, kind))
    if sum(len(one.sources) for one in datasets) > MAX_COLUMN_SOURCES:
        raise Refusal("event-too-many-columns", f"the event has more than {MAX_COLUMN_SOURCES} pairs of columns")
    return Event(
        kind=kind,
        event_type=document.get("eventType") or "OTHER",
        time=_moment(document["eventTime"]),
        digest=_digest(_ENCODER.encode(document)),
        raw=raw,
        job=name,
        run_id=run["runId"].lower() if run else None,
        datasets=datasets,
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
    if len(text) > _REMEMBERED_BYTES:
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
        yield _mention(document["dataset"], "/dataset", "outputFacets", is_output=True)
        return
    inputs, outputs = document.get("inputs") or (), document.get("outputs") or ()
    if len(inputs) + len(outputs) > MAX_DATASETS:
        raise Refusal("event-too-many-datasets", f"the event has more than {MAX_DATASETS} inputs and outputs")
    for number, one in enumerate(inputs):
        yield _mention(one, f"/inputs/{number}", "inputFacets", is_output=False)
    for number, one in enumerate(outputs):
        yield _mention(one, f"/outputs/{number}", "outputFacets", is_output=True)


def _mention(data: Mapping[str, Any], place: str, measured: str, *, is_output: bool) -> DatasetMention:
    name = _name(data, place)
    facets = _facets(data.get("facets"))
    about = _facets(data.get(measured)) if measured in data else _NOTHING
    if not facets:
        return DatasetMention(name, is_output, measured=about)
    return DatasetMention(
        name,
        is_output,
        symlinks=tuple(_symlinks(facets, place)),
        schema=_schema(facets, place),
        sources=_sources(facets, place),
        facets=facets,
        measured=about,
    )


def _symlinks(facets: Facets, place: str) -> Iterator[Name]:
    for one in _list(facets.get("symlinks", _NOTHING).get("identifiers")):
        if isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("namespace"), str):
            yield _name(one, f"{place}/facets/symlinks")


def _schema(facets: Facets, place: str) -> Schema | None:
    told = facets.get("schema", _NOTHING).get("fields")
    return _remembered(_schema_of, told, f"{place}/facets/schema") if isinstance(told, list) else None


def _sources(facets: Facets, place: str) -> tuple[ColumnSource, ...]:
    facet = facets.get("columnLineage")
    return () if facet is None else _remembered(_sources_of, facet, f"{place}/facets/columnLineage")


def _remembered(read: Callable[[bytes], _T], told: Any, place: str) -> _T:
    """Return what a part of an event says. Senders say the same again and again, so it is remembered by its text."""
    text = _ENCODER.encode(told)
    try:
        return read(text) if len(text) < _REMEMBERED_BYTES else read.__wrapped__(text)  # type: ignore[attr-defined]  # of lru_cache
    except Refusal as refusal:
        refusal.place = place
        raise


@lru_cache(maxsize=2_000)
def _schema_of(text: bytes) -> Schema:
    found: dict[str, Field] = {}
    stack = [("", one) for one in reversed(_DECODER.decode(text))]
    while stack:
        prefix, one = stack.pop()
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            continue
        name = check_name(prefix + one["name"])
        found[name] = Field(name, _text(one.get("type"), 2_000), _text(one.get("description"), 4_000))
        if len(found) > MAX_FIELDS:
            raise Refusal("event-too-many-columns", f"a dataset may have {MAX_FIELDS} columns")
        stack += [(f"{name}.", inner) for inner in reversed(_list(one.get("fields")))]
    return Schema(hashlib.sha256(text).hexdigest()[:24], tuple(found.values()))


@lru_cache(maxsize=2_000)
def _sources_of(text: bytes) -> tuple[ColumnSource, ...]:
    facet = _DECODER.decode(text)
    found: list[ColumnSource | None] = []
    fields = facet.get("fields")
    for target, told in fields.items() if isinstance(fields, dict) else ():
        check_name(target)
        if isinstance(told, dict):
            found += [_source(target, one, told) for one in _list(told.get("inputFields"))]
    found += [_source("*", one, _NOTHING) for one in _list(facet.get("dataset"))]
    return tuple(one for one in found if one)


def _source(target: str, one: Any, told: Mapping[str, Any]) -> ColumnSource | None:
    if not isinstance(one, dict) or not all(isinstance(one.get(part), str) for part in ("namespace", "name", "field")):
        return None
    steps = [
        "/".join(str(part) for part in (step.get("type"), step.get("subtype")) if part)
        for step in _list(one.get("transformations"))
        if isinstance(step, dict)
    ]
    kind = ",".join(dict.fromkeys(filter(None, steps))) or str(told.get("transformationType") or "")
    dataset = check_name(one["namespace"]), check_name(one["name"])
    return ColumnSource(target, dataset, check_name(one["field"]), _text(kind, 200) or "")


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
    return RunMention(check_name(run["runId"].lower(), "/run/facets/parent"), _name(job, "/run/facets/parent/job"))


def _name(data: Mapping[str, Any], place: str) -> Name:
    return check_name(data["namespace"], f"{place}/namespace"), check_name(data["name"], f"{place}/name")


def _facets(value: Any) -> Facets:
    return value if isinstance(value, dict) else _NOTHING


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any, most: int) -> str | None:
    return value[:most].replace("\0", "�") if isinstance(value, str) else None


def _kind_name(value: Any) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
