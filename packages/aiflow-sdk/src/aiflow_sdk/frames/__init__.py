"""Frames: which kinds there are, how one becomes another, and how a user's function says which it wants.

Importing this package imports no frame library: a kind is known by the module and name of its class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiflow_sdk.face import load_on_first_use

if TYPE_CHECKING:
    from aiflow_sdk.frames.arrow_type import arrow_name, arrow_types, is_wider, polars_type
    from aiflow_sdk.frames.conversion import convert, rows_of, to_reader
    from aiflow_sdk.frames.kind import FrameKind, is_frame, kind_of, kind_of_written
    from aiflow_sdk.frames.matching import Inputs, MatchedCall, WantedFrame, match_arguments
    from aiflow_sdk.frames.names import check_names
    from aiflow_sdk.frames.polars_schema import held_by_polars
    from aiflow_sdk.frames.query import input_names, name_inputs, names_of
    from aiflow_sdk.frames.signature import (
        Binding,
        Parameter,
        Signature,
        bind,
        check_signature,
        where_of,
        written_signature,
    )

_HOMES = {
    "Binding": "aiflow_sdk.frames.signature",
    "FrameKind": "aiflow_sdk.frames.kind",
    "Inputs": "aiflow_sdk.frames.matching",
    "MatchedCall": "aiflow_sdk.frames.matching",
    "Parameter": "aiflow_sdk.frames.signature",
    "Signature": "aiflow_sdk.frames.signature",
    "WantedFrame": "aiflow_sdk.frames.matching",
    "arrow_name": "aiflow_sdk.frames.arrow_type",
    "arrow_types": "aiflow_sdk.frames.arrow_type",
    "bind": "aiflow_sdk.frames.signature",
    "check_names": "aiflow_sdk.frames.names",
    "check_signature": "aiflow_sdk.frames.signature",
    "convert": "aiflow_sdk.frames.conversion",
    "held_by_polars": "aiflow_sdk.frames.polars_schema",
    "input_names": "aiflow_sdk.frames.query",
    "is_frame": "aiflow_sdk.frames.kind",
    "is_wider": "aiflow_sdk.frames.arrow_type",
    "kind_of": "aiflow_sdk.frames.kind",
    "match_arguments": "aiflow_sdk.frames.matching",
    "name_inputs": "aiflow_sdk.frames.query",
    "names_of": "aiflow_sdk.frames.query",
    "polars_type": "aiflow_sdk.frames.arrow_type",
    "rows_of": "aiflow_sdk.frames.conversion",
    "to_reader": "aiflow_sdk.frames.conversion",
    "kind_of_written": "aiflow_sdk.frames.kind",
    "where_of": "aiflow_sdk.frames.signature",
    "written_signature": "aiflow_sdk.frames.signature",
}

__all__ = [
    "Binding",
    "FrameKind",
    "Inputs",
    "MatchedCall",
    "Parameter",
    "Signature",
    "WantedFrame",
    "arrow_name",
    "arrow_types",
    "bind",
    "check_names",
    "check_signature",
    "convert",
    "held_by_polars",
    "input_names",
    "is_frame",
    "is_wider",
    "kind_of",
    "kind_of_written",
    "match_arguments",
    "name_inputs",
    "names_of",
    "polars_type",
    "rows_of",
    "to_reader",
    "where_of",
    "written_signature",
]


__getattr__ = load_on_first_use(__name__, _HOMES)
