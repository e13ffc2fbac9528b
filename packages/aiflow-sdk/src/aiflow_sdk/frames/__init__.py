"""Frames: which kinds there are, how one becomes another, and how a user's function says which it wants.

Importing this package imports no frame library: a kind is known by the module and name of its class.
"""

from aiflow_sdk.frames.arrow_type import arrow_name, arrow_types, is_wider, polars_type
from aiflow_sdk.frames.conversion import convert, rows_of, to_reader
from aiflow_sdk.frames.kind import FrameKind, is_frame, kind_of
from aiflow_sdk.frames.matching import Inputs, MatchedCall, WantedFrame, match_arguments
from aiflow_sdk.frames.names import check_names
from aiflow_sdk.frames.polars_schema import held_by_polars
from aiflow_sdk.frames.query import input_names, name_inputs, names_of
from aiflow_sdk.frames.signature import Parameter, Signature, check_signature, where_of

__all__ = [
    "FrameKind",
    "Inputs",
    "MatchedCall",
    "Parameter",
    "Signature",
    "WantedFrame",
    "arrow_name",
    "arrow_types",
    "check_names",
    "check_signature",
    "convert",
    "held_by_polars",
    "input_names",
    "is_frame",
    "is_wider",
    "kind_of",
    "match_arguments",
    "name_inputs",
    "names_of",
    "polars_type",
    "rows_of",
    "to_reader",
    "where_of",
]
