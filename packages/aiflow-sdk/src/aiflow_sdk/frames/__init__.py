"""Frames: which kinds there are, how one becomes another, and how a user's function says which it wants.

Importing this package imports no frame library: a kind is known by the module and name of its class. Nor does it
import its own modules before their names are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiflow_sdk.frames.arrow_type import arrow_types, polars_type
    from aiflow_sdk.frames.conversion import convert, rows_of, to_reader
    from aiflow_sdk.frames.kind import FrameKind, is_frame, kind_of
    from aiflow_sdk.frames.matching import Inputs, MatchedCall, WantedFrame, match_arguments
    from aiflow_sdk.frames.query import input_names, name_inputs, names_of
    from aiflow_sdk.frames.signature import Parameter, Signature, check_signature, where_of

_HOMES = {
    "FrameKind": "kind",
    "Inputs": "matching",
    "MatchedCall": "matching",
    "Parameter": "signature",
    "Signature": "signature",
    "WantedFrame": "matching",
    "arrow_types": "arrow_type",
    "check_signature": "signature",
    "convert": "conversion",
    "input_names": "query",
    "is_frame": "kind",
    "kind_of": "kind",
    "match_arguments": "matching",
    "name_inputs": "query",
    "names_of": "query",
    "polars_type": "arrow_type",
    "rows_of": "conversion",
    "to_reader": "conversion",
    "where_of": "signature",
}

__all__ = [
    "FrameKind",
    "Inputs",
    "MatchedCall",
    "Parameter",
    "Signature",
    "WantedFrame",
    "arrow_types",
    "check_signature",
    "convert",
    "input_names",
    "is_frame",
    "kind_of",
    "match_arguments",
    "name_inputs",
    "names_of",
    "polars_type",
    "rows_of",
    "to_reader",
    "where_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
