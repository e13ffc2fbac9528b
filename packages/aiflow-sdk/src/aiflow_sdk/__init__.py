"""aiflow: data pipelines written as Python, compiled to a plan, run on a lake.

What authors import stands here and loads on first use, so that ``import aiflow_sdk`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiflow_sdk.dsl import Dataset as Dataset
    from aiflow_sdk.dsl import PipelineBuilder as PipelineBuilder
    from aiflow_sdk.dsl import PipelineDefinition as PipelineDefinition
    from aiflow_sdk.dsl import dataset as dataset
    from aiflow_sdk.dsl import pipeline as pipeline
    from aiflow_sdk.dsl import resources as resources
    from aiflow_sdk.dsl import sink as sink
    from aiflow_sdk.dsl import source as source
    from aiflow_sdk.dsl import transform as transform
    from aiflow_sdk.dsl import window as window
    from aiflow_sdk.plugins import register_engine as register_engine
    from aiflow_sdk.plugins import register_sink as register_sink
    from aiflow_sdk.plugins import register_source as register_source

__version__ = "0.1.0"

_HOMES = {
    "Dataset": "aiflow_sdk.builder",
    "PipelineBuilder": "aiflow_sdk.builder",
    "PipelineDefinition": "aiflow_sdk.dsl",
    "dataset": "aiflow_sdk.ir",
    "pipeline": "aiflow_sdk.dsl",
    "register_engine": "aiflow_sdk.plugins",
    "register_sink": "aiflow_sdk.plugins",
    "register_source": "aiflow_sdk.plugins",
    "resources": "aiflow_sdk.factories",
    "sink": "aiflow_sdk.factories",
    "source": "aiflow_sdk.factories",
    "transform": "aiflow_sdk.dsl",
    "window": "aiflow_sdk.partitions",
}

__all__ = [
    "Dataset",
    "PipelineBuilder",
    "PipelineDefinition",
    "dataset",
    "pipeline",
    "register_engine",
    "register_sink",
    "register_source",
    "resources",
    "sink",
    "source",
    "transform",
    "window",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aiflow_sdk' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
