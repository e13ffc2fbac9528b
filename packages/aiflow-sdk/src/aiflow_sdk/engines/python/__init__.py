"""The engine ``python``: user code in this process, frames of polars, lazy where the user asks for lazy."""

from aiflow_sdk.engines.python.engine import PythonEngine

__all__ = ["PythonEngine"]
