"""The builder: what a pipeline function gets as ``p``, and how its calls become a ``PipelineIR``."""

from aiflow_sdk.builder.build import Built, build_pipeline
from aiflow_sdk.builder.dataset import Dataset
from aiflow_sdk.builder.pipeline import PipelineBuilder
from aiflow_sdk.builder.settings import Schedule

__all__ = [
    "Built",
    "Dataset",
    "PipelineBuilder",
    "Schedule",
    "build_pipeline",
]
