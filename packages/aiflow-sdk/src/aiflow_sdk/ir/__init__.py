"""The intermediate representation: what a pipeline means, as frozen data with one text for one meaning.

Importing this package is quick: what needs pydantic loads on first use, and building a pipeline needs none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aiflow_sdk.ir.canonical import FINGERPRINT_RULE, canonical_json, fingerprint
from aiflow_sdk.ir.frozen import EMPTY_MAP, FrozenMap, freeze, thaw
from aiflow_sdk.ir.model import (
    HERE,
    IR_VERSION,
    MAX_ID_LENGTH,
    RESERVED_NODE_IDS,
    DatasetName,
    NodeIR,
    NodeType,
    PipelineIR,
)
from aiflow_sdk.ir.reader import (
    Upgrade,
    invalid_document,
    pipeline_schema,
    read_pipeline,
    upgrade_document,
)
from aiflow_sdk.ir.schedule import DatasetCondition, dataset
from aiflow_sdk.ir.value import Value

if TYPE_CHECKING:
    from aiflow_sdk.ir.document import Frozen, Plain, PlainMap, json_schema, unwrap

_LATER = frozenset({"Frozen", "Plain", "PlainMap", "json_schema", "unwrap"})

__all__ = [
    "EMPTY_MAP",
    "FINGERPRINT_RULE",
    "HERE",
    "IR_VERSION",
    "MAX_ID_LENGTH",
    "RESERVED_NODE_IDS",
    "DatasetCondition",
    "DatasetName",
    "Frozen",
    "FrozenMap",
    "NodeIR",
    "NodeType",
    "PipelineIR",
    "Plain",
    "PlainMap",
    "Upgrade",
    "Value",
    "canonical_json",
    "dataset",
    "fingerprint",
    "freeze",
    "invalid_document",
    "json_schema",
    "pipeline_schema",
    "read_pipeline",
    "thaw",
    "unwrap",
    "upgrade_document",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module("aiflow_sdk.ir.document"), name)
    return value
