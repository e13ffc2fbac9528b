"""OneLake: the environment's lake of Delta tables, ``schema.table`` below one root."""

from aiflow_sdk.connectors.onelake.sink import OneLakeSink
from aiflow_sdk.connectors.onelake.source import OneLakeSource

__all__ = ["OneLakeSink", "OneLakeSource"]
