"""Reads stored IR documents, also those of older versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiflow_sdk.errors import AiflowError, DocumentError, Where
from aiflow_sdk.ir.model import IR_VERSION, PipelineIR

if TYPE_CHECKING:
    from pydantic import ValidationError

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

UPGRADES: Mapping[int, Upgrade] = {}
"""For each older version, how its document becomes one of the next version."""


def read_pipeline(document: str | bytes | Mapping[str, Any], *, fingerprint: str | None = None) -> PipelineIR:
    """Return the pipeline that ``document`` (JSON text or its data) describes, whichever version wrote it.

    ``fingerprint``: the definition's, where whoever keeps the document knows it. Raises ``DocumentError`` when it is
    no such document or a newer aiflow wrote it.
    """
    data = upgrade_document(document, "ir_version", IR_VERSION, UPGRADES, "pipeline")
    try:
        ir = PipelineIR(**data)
    except AiflowError:
        raise
    except ValueError as error:
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):
            raise
        raise invalid_document("pipeline", error) from error
    if fingerprint is not None:
        vars(ir)["fingerprint"] = fingerprint
    return ir


def upgrade_document(
    document: str | bytes | Mapping[str, Any], field: str, newest: int, upgrades: Mapping[int, Upgrade], what: str
) -> dict[str, Any]:
    """Return the document's data, upgraded step by step to the ``newest`` version and without its version field."""
    try:
        data = json.loads(document) if isinstance(document, str | bytes) else dict(document)
        version = data.pop(field)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DocumentError(
            "bad-document", f"this is not a {what} document: {error!r}", hint="compile it again"
        ) from error
    if not isinstance(version, int) or version < 1 or version > newest:
        raise DocumentError(
            "newer-document",
            f"this {what} document has version {version!r}; this aiflow reads versions 1 to {newest}",
            hint="upgrade aiflow-sdk where it is read, or compile the pipeline again",
        )
    for step in range(version, newest):
        data = upgrades[step](data)
    return data


def invalid_document(what: str, error: ValidationError) -> AiflowError:
    """Return the error for a document whose fields are wrong, naming each of them."""
    from aiflow_sdk.ir.document import unwrap

    if cause := unwrap(error):
        return cause
    details = error.errors(include_url=False)
    first = ".".join(map(str, details[0]["loc"]))
    return DocumentError(
        "bad-document",
        f"this {what} document is wrong at '{first}': {details[0]['msg']}",
        where=Where(about=f"{what} document"),
        hint="compile it again",
        notes=[f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in details],
    )


def pipeline_schema() -> dict[str, Any]:
    """Return the JSON Schema of a pipeline document, as published in ``docs/schemas``."""
    from aiflow_sdk.ir.document import json_schema
    from aiflow_sdk.ir.twin import twin_of

    return json_schema(twin_of(PipelineIR), "ir_version", IR_VERSION)
