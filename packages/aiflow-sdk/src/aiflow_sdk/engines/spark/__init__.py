"""The engine ``spark``: PySpark frames through Spark Connect, by an embedded server or any other.

The names load on first use, so that the server's process, which lies in this package too, starts in no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiflow_sdk.engines.spark.embedded import stop_servers as stop_servers
    from aiflow_sdk.engines.spark.engine import SparkEngine as SparkEngine

_HOMES = {"SparkEngine": "engine", "stop_servers": "embedded"}
__all__ = ["SparkEngine", "stop_servers"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
