"""The plugin door: what a source, sink, engine, cluster and listener is, and how one is found.

Nothing here knows a concrete plugin. Installed ones are found by entry point (``aiflow.sources`` …), a project's own by
the marks that ``@register_source`` and its like leave.
"""

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
from aiflow_sdk.plugins.folder import NULL_FOLDER, refuse_null_folder
from aiflow_sdk.plugins.options import Plugin
from aiflow_sdk.plugins.registry import (
    MARK,
    Family,
    PluginType,
    Registry,
    installed_registry,
    load_plugin,
    register_engine,
    register_sink,
    register_source,
)

__all__ = [
    "MARK",
    "NULL_FOLDER",
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
    "refuse_null_folder",
    "register_engine",
    "register_sink",
    "register_source",
]
