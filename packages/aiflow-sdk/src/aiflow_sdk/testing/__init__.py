"""For tests: pipelines run on rows that stand in the test, and the suites that every plugin passes.

``run_pipeline`` needs nothing but the pipeline. The suites (:mod:`aiflow_sdk.testing.conformance`) need pytest; all
names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiflow_sdk.testing.conformance import ClusterConformance as ClusterConformance
    from aiflow_sdk.testing.conformance import EngineConformance as EngineConformance
    from aiflow_sdk.testing.conformance import SinkConformance as SinkConformance
    from aiflow_sdk.testing.conformance import SourceConformance as SourceConformance
    from aiflow_sdk.testing.rehearsal import run_pipeline as run_pipeline

__all__ = ["run_pipeline"]


def __getattr__(name: str) -> Any:
    if name == "run_pipeline":
        return import_module("aiflow_sdk.testing.rehearsal").run_pipeline
    if name.endswith("Conformance"):
        return getattr(import_module("aiflow_sdk.testing.conformance"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
