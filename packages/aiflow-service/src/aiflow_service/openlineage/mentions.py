"""Datasets in events: read, and remembered by their text, since senders say the same of a dataset again and again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any, TypeVar

import msgspec

from aiflow_service.database.memory import SizedMemory
from aiflow_service.masking import may_hold_secrets
from aiflow_service.openlineage.events import ColumnSource, DatasetMention, Facets, Field, Name, Schema
from aiflow_service.openlineage.limits import MAX_DEPTH, MAX_FIELDS, check_name, check_shape
from aiflow_service.openlineage.refusal import Refusal
from aiflow_service.openlineage.schemas import is_dataset_valid

_DECODER = msgspec.json.Decoder()
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODER = msgspec.json.Encoder(order="deterministic")
_NOTHING: Mapping[str, Any] = {}
_T = TypeVar("_T")

_REMEMBERED_BYTES = 16 * 1024 * 1024
"""What each of the memories below may weigh, by :data:`_GROWTH`."""
_GROWTH = 8
"""How many bytes of objects a byte of JSON becomes, or somewhat fewer."""
_TEXTS = 3
"""How many bytes a byte of JSON becomes where its text and its canonical text are kept; the objects are another's."""
_NUMBERS = count(1)

_LISTS: SizedMemory[tuple[bool, bytes], tuple[msgspec.Raw, tuple[DatasetMention, ...]]] = SizedMemory(_REMEMBERED_BYTES)
"""Of all inputs or outputs of an event, which its job names again and again."""
_BY_TEXT: SizedMemory[tuple[bool, bytes], tuple[bytes, DatasetMention]] = SizedMemory(_REMEMBERED_BYTES)
"""By whether it is an output and the text as it came: the canonical text, and what it says."""
_BY_MEANING: SizedMemory[tuple[bool, bytes], DatasetMention] = SizedMemory(_REMEMBERED_BYTES)
"""The same by the canonical text, without what was measured."""
_SCHEMAS: SizedMemory[bytes, Schema] = SizedMemory(_REMEMBERED_BYTES)
_SOURCES: SizedMemory[bytes, tuple[ColumnSource, ...]] = SizedMemory(_REMEMBERED_BYTES)


def mentions_of_text(text: bytes, *, is_output: bool) -> tuple[msgspec.Raw, tuple[DatasetMention, ...]] | None:
    """Return the canonical text and the meaning of an event's inputs or outputs, given as a list in JSON.

    None of one that is refused or may hold secrets.
    """
    key = is_output, text
    if (found := _LISTS.get(key)) is not None:
        return found
    told = [_mention_of_text(bytes(one), is_output=is_output) for one in _LIST.decode(text)]
    known = [one for one in told if one is not None]
    if len(known) != len(told):
        return None
    found = msgspec.Raw(b"[%b]" % b",".join(one[0] for one in known)), tuple(one[1] for one in known)
    if not any(one.measured for one in found[1]):  # else it is unlikely to come again
        _LISTS.put(key, found, len(text) * _TEXTS)
    return found


def _mention_of_text(text: bytes, *, is_output: bool) -> tuple[bytes, DatasetMention] | None:
    key = is_output, text
    if (found := _BY_TEXT.get(key)) is not None:
        return found
    if may_hold_secrets(text):
        return None
    data = _DECODER.decode(text)
    try:
        check_shape(data, text, MAX_DEPTH - 2)
        if not is_dataset_valid(data, is_output=is_output):
            return None
        found = _ENCODER.encode(data), read_mention(data, "", is_output=is_output)
    except Refusal:
        return None
    if not found[1].measured:
        _BY_TEXT.put(key, found, len(text) * _GROWTH)
    return found


def read_mention(data: Mapping[str, Any], place: str, *, is_output: bool) -> DatasetMention:
    """Return what an event says of a dataset. Raises :class:`Refusal` with a place that begins with ``place``."""
    measured = "outputFacets" if is_output else "inputFacets"
    about = facets_in(data.get(measured))
    text = _ENCODER.encode({name: value for name, value in data.items() if name != measured} if about else data)
    found = _BY_MEANING.get((is_output, text))
    if found is None:
        name, facets = name_in(data, place), facets_in(data.get("facets"))
        found = DatasetMention(
            name,
            is_output,
            symlinks=tuple(_symlinks(facets, place)),
            schema=_schema(facets, place),
            sources=_sources(facets, place),
            facets=facets,
            number=next(_NUMBERS),
        )
        _BY_MEANING.put((is_output, text), found, len(text) * _GROWTH)
    return msgspec.structs.replace(found, measured=about) if about else found


def name_in(data: Mapping[str, Any], place: str) -> Name:
    """Return namespace and name of a job or dataset. Raises :class:`Refusal`."""
    return check_name(data["namespace"], f"{place}/namespace"), check_name(data["name"], f"{place}/name")


def facets_in(value: Any) -> Facets:
    """Return facets, none where there are none."""
    return value if isinstance(value, dict) else _NOTHING


def _symlinks(facets: Facets, place: str) -> Iterator[Name]:
    for one in _list(facets.get("symlinks", _NOTHING).get("identifiers")):
        if isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("namespace"), str):
            yield name_in(one, f"{place}/facets/symlinks")


def _schema(facets: Facets, place: str) -> Schema | None:
    told = facets.get("schema", _NOTHING).get("fields")
    return _remembered(_SCHEMAS, _schema_of, told, f"{place}/facets/schema") if isinstance(told, list) else None


def _sources(facets: Facets, place: str) -> tuple[ColumnSource, ...]:
    facet = facets.get("columnLineage")
    return () if facet is None else _remembered(_SOURCES, _sources_of, facet, f"{place}/facets/columnLineage")


def _remembered(memory: SizedMemory[bytes, _T], read: Callable[[bytes], _T], told: Any, place: str) -> _T:
    text = _ENCODER.encode(told)
    found = memory.get(text)
    if found is None:
        try:
            found = read(text)
        except Refusal as refusal:
            refusal.place = place
            raise
        memory.put(text, found, len(text) * _GROWTH)
    return found


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


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any, most: int) -> str | None:
    return value[:most].replace("\0", "�") if isinstance(value, str) else None
