"""Knows the user's code by reading it, never by importing it: what a function reaches, and what is installed beside it."""

from aiflow_sdk.code.index import CodeIndex, FunctionSource
from aiflow_sdk.code.lock import lock_fingerprint
from aiflow_sdk.code.source import Signature, SourceFile, parse_source, scan_sources

__all__ = [
    "CodeIndex",
    "FunctionSource",
    "Signature",
    "SourceFile",
    "lock_fingerprint",
    "parse_source",
    "scan_sources",
]
