"""Suites that every plugin of a family passes, ours and a stranger's: derive a test class and name the plugin."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiflow_sdk.testing.conformance.cluster import ClusterConformance as ClusterConformance
    from aiflow_sdk.testing.conformance.engine import EngineConformance as EngineConformance
    from aiflow_sdk.testing.conformance.sink import SinkConformance as SinkConformance
    from aiflow_sdk.testing.conformance.source import SourceConformance as SourceConformance

__all__ = ["ClusterConformance", "EngineConformance", "SinkConformance", "SourceConformance"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"{__name__}.{name.removesuffix('Conformance').lower()}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
