"""Validation against the official schemas, which lie beside this module."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema_rs

from aiflow_service.openlineage.events import EventKind
from aiflow_service.openlineage.refusal import Refusal

_CORE = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
_DEFINITIONS = {EventKind.RUN: "RunEvent", EventKind.JOB: "JobEvent", EventKind.DATASET: "DatasetEvent"}
_PLACES = {
    "Run": ("run", "facets"),
    "Job": ("job", "facets"),
    "Dataset": ("dataset", "facets"),
    "InputDataset": ("input", "inputFacets"),
    "OutputDataset": ("output", "outputFacets"),
}


def check_schema(kind: EventKind, document: Any) -> None:
    """Raise ``Refusal`` for an event that its schema does not allow, with the place as a JSON pointer.

    Facets of OpenLineage's own are held to their schemas, in the major version that lies here; others may be anything.
    """
    validator = _validators()[_DEFINITIONS[kind]]
    if validator.is_valid(document):
        return
    error = next(validator.iter_errors(document))
    place = "/" + "/".join(map(str, error.instance_path))
    raise Refusal("event-invalid", _shorten(str(error.message)), place=place)


def is_event_valid(kind: EventKind, document: Any) -> bool:
    """Tell whether an event's schema allows it; inputs and outputs may be absent, see :func:`is_dataset_valid`."""
    return bool(_validators()[_DEFINITIONS[kind]].is_valid(document))


def is_dataset_valid(data: Any, *, is_output: bool) -> bool:
    """Tell whether its schema allows an input or output of an event."""
    return bool(_validators()["OutputDataset" if is_output else "InputDataset"].is_valid(data))


@cache
def _validators() -> Mapping[str, Any]:
    folder = files("aiflow_service.openlineage") / "specification"
    core = _plain(json.loads((folder / "OpenLineage.json").read_text("utf-8")))
    resources = []
    facets: dict[str, dict[str, Any]] = {place: {} for place in _PLACES}
    for path in sorted((folder / "facets").iterdir(), key=lambda path: path.name):
        schema = json.loads(path.read_text("utf-8"))
        resources.append((schema["$id"], schema))
        for name, reference in schema.get("properties", {}).items():
            title = reference.get("$ref", "").rsplit("/", 1)[-1]
            if found := re.search(r"(InputDataset|OutputDataset|Dataset|Job|Run)Facet$", title):
                facets[found[1]][name] = _when_ours(schema["$id"], title)
    for place, known in facets.items():
        _attach(core["$defs"][place], _PLACES[place][1], known)
    resources.append((_CORE, core))
    registry = jsonschema_rs.Registry(resources)
    return {
        name: jsonschema_rs.validator_for(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": f"{_CORE}#/$defs/{name}"},
            registry=registry,
            validate_formats=True,
        )
        for name in (*_DEFINITIONS.values(), "InputDataset", "OutputDataset")
    }


def _plain(schema: Any) -> Any:
    """Return a schema without choices among one: an error then tells of what is wrong, not of the choice."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _plain(one) for name, one in schema.items()}
    match inner:
        case {"anyOf": [dict() as single]}:
            del inner["anyOf"]
            return {**inner, **single}
    return inner


def _when_ours(address: str, title: str) -> dict[str, Any]:
    """Return the schema of a facet that counts where the facet says to be of this major version."""
    major = re.search(r"/(\d+)-\d+-\d+/", address)
    assert major is not None
    pattern = rf"openlineage\.io/spec/facets/{major[1]}-\d+-\d+/{title}\.json"
    said = {"properties": {"_schemaURL": {"type": "string", "pattern": pattern}}, "required": ["_schemaURL"]}
    return {"if": said, "then": {"$ref": f"{address}#/$defs/{title}"}}


def _attach(definition: dict[str, Any], member: str, known: dict[str, Any]) -> None:
    """Add what is known of single facets to the definition of what holds them."""
    extra = {"type": "object", "properties": {member: {"type": "object", "properties": known}}}
    definition["allOf"] = [*definition.get("allOf", []), extra]


def _shorten(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:140]} … {message[-140:]}"
