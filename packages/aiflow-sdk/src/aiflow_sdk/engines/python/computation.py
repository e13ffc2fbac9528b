"""Computes lazy frames, and says what went wrong where only the computation could find it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aiflow_sdk.engines.usercode import cannot_reach, user_code_failed
from aiflow_sdk.errors import AiflowError, Where

if TYPE_CHECKING:
    import polars as pl


def compute(frames: Sequence[pl.LazyFrame], what: str) -> list[pl.DataFrame]:
    """Return the computed frames; what several of them need is computed once, in batches that fit the memory."""
    if not frames:
        return []
    import polars as pl

    with computing(what):
        return pl.collect_all(frames, engine="streaming")


@contextmanager
def computing(what: str, where: Where | None = None) -> Iterator[None]:
    """Turn what a computation raises into an ``AiflowError`` that names ``what`` was computed.

    What :func:`~aiflow_sdk.stores.store_error` says, or ``store-failed``, where a file or store failed, else
    ``user-code-failed``: a lazy plan is the user's code, and so are the functions inside it, whose own exceptions come
    through polars as they are.
    """
    import polars as pl

    try:
        yield
    except AiflowError:
        raise
    except (Exception, pl.exceptions.PanicException) as error:  # whatever a user's lazy plan raises
        if isinstance(error, OSError | pl.exceptions.ComputeError) and (
            told := cannot_reach(error, f"computing {what}")
        ):
            raise told.at(where or Where()) from error
        failed = user_code_failed(error, f"computing {what}", trim=(str(Path(pl.__file__).parent), "pyarrow/"))
        raise failed.at(where or Where()) from error
