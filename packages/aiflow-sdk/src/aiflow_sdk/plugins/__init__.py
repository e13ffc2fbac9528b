"""The plugin door: what a source, sink, engine, cluster and listener is, and how one is found.

Nothing here knows a concrete plugin. Installed ones are found by entry point (``aiflow.sources`` …), a project's own by
the marks that ``@register_source`` and its like leave. Importing this package is quick: its names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiflow_sdk.face import load_on_first_use

if TYPE_CHECKING:
    from aiflow_sdk.config import Environment
    from aiflow_sdk.ir import DatasetName
    from aiflow_sdk.plugins.connector import (
        AuditedSink,
        CatalogSource,
        Comparison,
        DataFile,
        Destination,
        FileSink,
        FileSource,
        JudgedSource,
        ParquetFiles,
        PartitionedSource,
        PartitionFacts,
        PartitionState,
        Pending,
        PolarsSource,
        Predicate,
        Reading,
        Scan,
        SharedSink,
        Sink,
        Source,
        SparkSource,
        TableFacts,
        VersionedSource,
        Write,
        Written,
        pending_write,
    )
    from aiflow_sdk.plugins.execution import Cluster, Engine, Frame, FrameWrite, Job, Listener, Session, UserFunction
    from aiflow_sdk.plugins.folder import NULL_FOLDER, refuse_null_folder, refuse_partition_type
    from aiflow_sdk.plugins.mark import MARK, PluginType, register_engine, register_sink, register_source
    from aiflow_sdk.plugins.options import Plugin
    from aiflow_sdk.plugins.registry import Family, Registry, installed_registry, load_plugin

_HOMES = {
    "AuditedSink": "aiflow_sdk.plugins.connector",
    "CatalogSource": "aiflow_sdk.plugins.connector",
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
    "JudgedSource": "aiflow_sdk.plugins.connector",
    "Listener": "aiflow_sdk.plugins.execution",
    "MARK": "aiflow_sdk.plugins.mark",
    "NULL_FOLDER": "aiflow_sdk.plugins.folder",
    "ParquetFiles": "aiflow_sdk.plugins.connector",
    "PartitionFacts": "aiflow_sdk.plugins.connector",
    "PartitionState": "aiflow_sdk.plugins.connector",
    "PartitionedSource": "aiflow_sdk.plugins.connector",
    "Pending": "aiflow_sdk.plugins.connector",
    "Plugin": "aiflow_sdk.plugins.options",
    "PluginType": "aiflow_sdk.plugins.mark",
    "PolarsSource": "aiflow_sdk.plugins.connector",
    "Predicate": "aiflow_sdk.plugins.connector",
    "Reading": "aiflow_sdk.plugins.connector",
    "Registry": "aiflow_sdk.plugins.registry",
    "Scan": "aiflow_sdk.plugins.connector",
    "Session": "aiflow_sdk.plugins.execution",
    "SharedSink": "aiflow_sdk.plugins.connector",
    "Sink": "aiflow_sdk.plugins.connector",
    "Source": "aiflow_sdk.plugins.connector",
    "SparkSource": "aiflow_sdk.plugins.connector",
    "TableFacts": "aiflow_sdk.plugins.connector",
    "UserFunction": "aiflow_sdk.plugins.execution",
    "VersionedSource": "aiflow_sdk.plugins.connector",
    "Write": "aiflow_sdk.plugins.connector",
    "Written": "aiflow_sdk.plugins.connector",
    "installed_registry": "aiflow_sdk.plugins.registry",
    "load_plugin": "aiflow_sdk.plugins.registry",
    "pending_write": "aiflow_sdk.plugins.connector",
    "refuse_null_folder": "aiflow_sdk.plugins.folder",
    "refuse_partition_type": "aiflow_sdk.plugins.folder",
    "register_engine": "aiflow_sdk.plugins.mark",
    "register_sink": "aiflow_sdk.plugins.mark",
    "register_source": "aiflow_sdk.plugins.mark",
}

__all__ = [
    "MARK",
    "NULL_FOLDER",
    "AuditedSink",
    "CatalogSource",
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
    "JudgedSource",
    "Listener",
    "ParquetFiles",
    "PartitionFacts",
    "PartitionState",
    "PartitionedSource",
    "Pending",
    "Plugin",
    "PluginType",
    "PolarsSource",
    "Predicate",
    "Reading",
    "Registry",
    "Scan",
    "Session",
    "SharedSink",
    "Sink",
    "Source",
    "SparkSource",
    "TableFacts",
    "UserFunction",
    "VersionedSource",
    "Write",
    "Written",
    "installed_registry",
    "load_plugin",
    "pending_write",
    "refuse_null_folder",
    "refuse_partition_type",
    "register_engine",
    "register_sink",
    "register_source",
]


__getattr__ = load_on_first_use(__name__, _HOMES)
