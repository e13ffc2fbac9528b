"""The plugin door: what a source, sink, engine, cluster and listener is, and how one is found.

Nothing here knows a concrete plugin. Installed ones are found by entry point (``aiflow.sources`` …), a project's own by
the marks that ``@register_source`` and its like leave. Importing this package is quick: its names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiflow_sdk.config import Environment
    from aiflow_sdk.ir import DatasetName
    from aiflow_sdk.plugins.connector import (
        Comparison,
        DataFile,
        Destination,
        FileSink,
        FileSource,
        ParquetFiles,
        PartitionedSource,
        PolarsSource,
        Predicate,
        Scan,
        Sink,
        Source,
        SparkSource,
        Write,
        Written,
    )
    from aiflow_sdk.plugins.execution import Cluster, Engine, Frame, FrameWrite, Job, Listener, Session, UserFunction
    from aiflow_sdk.plugins.mark import MARK, PluginType, register_engine, register_sink, register_source
    from aiflow_sdk.plugins.options import Plugin
    from aiflow_sdk.plugins.registry import Family, Registry, installed_registry, load_plugin

_HOMES = {
    "Cluster": "aiflow_sdk.plugins.execution",
    "Comparison": "aiflow_sdk.plugins.connector",
    "DataFile": "aiflow_sdk.plugins.connector",
    "DatasetName": "aiflow_sdk.ir",
    "Destination": "aiflow_sdk.plugins.connector",
    "Engine": "aiflow_sdk.plugins.execution",
    "Environment": "aiflow_sdk.config",
    "Family": "aiflow_sdk.plugins.registry",
    "FileSink": "aiflow_sdk.plugins.connector",
    "FileSource": "aiflow_sdk.plugins.connector",
    "Frame": "aiflow_sdk.plugins.execution",
    "FrameWrite": "aiflow_sdk.plugins.execution",
    "Job": "aiflow_sdk.plugins.execution",
    "Listener": "aiflow_sdk.plugins.execution",
    "MARK": "aiflow_sdk.plugins.mark",
    "ParquetFiles": "aiflow_sdk.plugins.connector",
    "PartitionedSource": "aiflow_sdk.plugins.connector",
    "Plugin": "aiflow_sdk.plugins.options",
    "PluginType": "aiflow_sdk.plugins.mark",
    "PolarsSource": "aiflow_sdk.plugins.connector",
    "Predicate": "aiflow_sdk.plugins.connector",
    "Registry": "aiflow_sdk.plugins.registry",
    "Scan": "aiflow_sdk.plugins.connector",
    "Session": "aiflow_sdk.plugins.execution",
    "Sink": "aiflow_sdk.plugins.connector",
    "Source": "aiflow_sdk.plugins.connector",
    "SparkSource": "aiflow_sdk.plugins.connector",
    "UserFunction": "aiflow_sdk.plugins.execution",
    "Write": "aiflow_sdk.plugins.connector",
    "Written": "aiflow_sdk.plugins.connector",
    "installed_registry": "aiflow_sdk.plugins.registry",
    "load_plugin": "aiflow_sdk.plugins.registry",
    "register_engine": "aiflow_sdk.plugins.mark",
    "register_sink": "aiflow_sdk.plugins.mark",
    "register_source": "aiflow_sdk.plugins.mark",
}

__all__ = [
    "MARK",
    "Cluster",
    "Comparison",
    "DataFile",
    "DatasetName",
    "Destination",
    "Engine",
    "Environment",
    "Family",
    "FileSink",
    "FileSource",
    "Frame",
    "FrameWrite",
    "Job",
    "Listener",
    "ParquetFiles",
    "PartitionedSource",
    "Plugin",
    "PluginType",
    "PolarsSource",
    "Predicate",
    "Registry",
    "Scan",
    "Session",
    "Sink",
    "Source",
    "SparkSource",
    "UserFunction",
    "Write",
    "Written",
    "installed_registry",
    "load_plugin",
    "register_engine",
    "register_sink",
    "register_source",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_HOMES[name]), name)
    return value
