"""The engine ``spark``: PySpark frames through Spark Connect, by an embedded server or any other.

The names load on first use, so that the server's process, which lies in this package too, starts in no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiflow_sdk.face import load_on_first_use

if TYPE_CHECKING:
    from aiflow_sdk.engines.spark.embedded import stop_servers as stop_servers
    from aiflow_sdk.engines.spark.engine import SparkEngine as SparkEngine

_HOMES = {"SparkEngine": "aiflow_sdk.engines.spark.engine", "stop_servers": "aiflow_sdk.engines.spark.embedded"}
__all__ = ["SparkEngine", "stop_servers"]


__getattr__ = load_on_first_use(__name__, _HOMES)
