"""The intermediate representation: what a pipeline means, as frozen data with one text for one meaning."""

from aiflow_sdk.ir.canonical import FINGERPRINT_RULE, canonical_json, fingerprint
from aiflow_sdk.ir.frozen import Frozen, FrozenMap, Plain, PlainMap, freeze, json_schema, thaw, unwrap
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

__all__ = [
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
