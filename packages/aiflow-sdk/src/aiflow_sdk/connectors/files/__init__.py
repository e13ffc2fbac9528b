"""Files: Parquet, CSV and JSON lines, of the project or of the lake."""

from aiflow_sdk.connectors.files.sink import FilesSink
from aiflow_sdk.connectors.files.source import FilesSource

__all__ = ["FilesSink", "FilesSource"]
