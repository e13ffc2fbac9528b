"""Which kind of frame an annotation asks for."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any, Optional, Union

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from aiflow_sdk.frames import FrameKind, is_frame, kind_of
from aiflow_sdk.frames.kind import kind_of_annotation

if TYPE_CHECKING:
    import polars
    import pyspark.sql  # noqa: F401  # these are named in texts below
    from polars import LazyFrame as Lazy  # noqa: F401  # likewise
    from pyspark.sql import DataFrame  # noqa: F401  # likewise

    Frame = polars.DataFrame


def f() -> None:
    """Annotations below are read as if they stood in this function."""


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (pl.LazyFrame, FrameKind.POLARS_LAZY),
        (pl.DataFrame, FrameKind.POLARS),
        (pa.Table, FrameKind.ARROW),
        (pd.DataFrame, FrameKind.PANDAS),
        (duckdb.DuckDBPyRelation, FrameKind.DUCKDB),
        (pl.LazyFrame | None, FrameKind.POLARS_LAZY),
        (Optional["pl.LazyFrame"], FrameKind.POLARS_LAZY),
        (Union[pa.Table, pl.DataFrame], FrameKind.ARROW),  # noqa: UP007  # users write it
        (dict[str, pl.LazyFrame], FrameKind.POLARS_LAZY),
        (Annotated[pl.DataFrame, "orders"], FrameKind.POLARS),
        ("pl.LazyFrame", FrameKind.POLARS_LAZY),
        ("pl.LazyFrame | None", FrameKind.POLARS_LAZY),
        ("dict[str, pl.DataFrame]", FrameKind.POLARS),
        ("dict[str, 'pl.DataFrame']", FrameKind.POLARS),
        # Known to the type checker alone:
        ("polars.LazyFrame", FrameKind.POLARS_LAZY),
        ("Lazy", FrameKind.POLARS_LAZY),
        ("Frame", FrameKind.POLARS),
        ("DataFrame", FrameKind.SPARK),
        ("pyspark.sql.DataFrame", FrameKind.SPARK),
        ("Dict[str, DataFrame]", FrameKind.SPARK),
        (" Optional[\n    Lazy\n]", FrameKind.POLARS_LAZY),
        # No frames:
        ("pl.Series", None),
        ("int", None),
        ("Unheard.DataFrame", None),
        ("not python", None),
        ("Literal['polars.DataFrame x', 3, None]", None),
        ("", None),
        (Any, None),
        (int, None),
        (None, None),
        ("pyspark.pandas.DataFrame", None),
    ],
)
def test_an_annotation_names_a_kind(annotation, kind):
    assert kind_of_annotation(annotation, f) is kind


def test_a_subclass_of_a_frame_is_that_frame():
    class GeoFrame(pd.DataFrame):  # type: ignore[misc]  # pandas ships no types
        pass

    assert kind_of(GeoFrame()) is FrameKind.PANDAS
    assert kind_of_annotation(GeoFrame, f) is FrameKind.PANDAS


@pytest.mark.parametrize("value", [None, 1, [], {}, pl.Series([1]), pa.array([1]), "text", pl.DataFrame])
def test_what_is_no_frame_is_none(value):
    assert not is_frame(value)


def test_a_file_with_windows_line_ends_and_a_bom_is_read(tmp_path):
    lines = [
        "from __future__ import annotations",
        "import typing",
        "if typing.TYPE_CHECKING:",
        "    import polars as p",
        "",
    ]
    (tmp_path / "windows.py").write_bytes(
        b"\xef\xbb\xbf" + "\r\n".join([*lines, "def g(a: p.LazyFrame): ..."]).encode()
    )
    code = """
        import sys, windows
        from aiflow_sdk.frames.signature import signature_of
        print(signature_of(windows.g).parameters[0].frame)
        assert "polars" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "FrameKind.POLARS_LAZY", done.stderr
