"""What authors write pipelines with: ``pipeline source transform sink resources window dataset``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiflow_sdk.dsl.decorators import pipeline, transform
from aiflow_sdk.dsl.definition import PipelineDefinition
from aiflow_sdk.face import load_on_first_use
from aiflow_sdk.factories import resources, sink, source

if TYPE_CHECKING:
    from aiflow_sdk.builder import Dataset, PipelineBuilder
    from aiflow_sdk.ir import dataset
    from aiflow_sdk.partitions import window

__all__ = [
    "Dataset",
    "PipelineBuilder",
    "PipelineDefinition",
    "dataset",
    "pipeline",
    "resources",
    "sink",
    "source",
    "transform",
    "window",
]

_HOMES = {
    "Dataset": "aiflow_sdk.builder",
    "PipelineBuilder": "aiflow_sdk.builder",
    "dataset": "aiflow_sdk.ir",
    "window": "aiflow_sdk.partitions",
}


__getattr__ = load_on_first_use(__name__, _HOMES)
