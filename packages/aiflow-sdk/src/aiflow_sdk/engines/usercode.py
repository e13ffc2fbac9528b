"""Calls a user's function and says what went wrong in it: the user's lines first, ours not at all."""

from __future__ import annotations

import errno
import functools
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from aiflow_sdk.errors import AiflowError, PluginError, StoreError, UserCodeError, Where, plural, said
from aiflow_sdk.frames import is_frame, where_of
from aiflow_sdk.place import relative_path
from aiflow_sdk.plugins import Sink, Source, UserFunction
from aiflow_sdk.redaction import REDACTOR
from aiflow_sdk.stores import store_error

_OURS = tuple(str(Path(__file__).parents[1] / package) for package in ("engines", "frames"))
_PYTHON = str(Path(functools.__file__).parent)
_MOST_LINES = 100
_OF_DRIVERS = (
    "object-store error",
    "Generic S3 error",
    "Generic MicrosoftAzure error",
    "(os error ",
    "parquet: File out of",
)
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def call_function(function: UserFunction, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return what the function returns: a frame, or of an external one perhaps None.

    Raises ``UserCodeError``: ``user-code-failed``, ``returned-nothing`` or ``not-a-frame``. An ``AiflowError`` that the
    function raises, or meets, passes as it is.
    """
    with user_code(f"the function '{function.entrypoint}'"):
        result = function.function(*args, **kwargs)
    if is_frame(result) or (result is None and function.external):
        return result
    where = where_of(function.function)
    if result is None:
        raise UserCodeError(
            "returned-nothing",
            f"the function '{function.entrypoint}' returned nothing",
            where=where,
            hint="end it with 'return' and a frame, or say external=True if it writes by itself",
        )
    kind = f"{type(result).__module__}.{type(result).__qualname__}".removeprefix("builtins.")
    raise UserCodeError(
        "not-a-frame",
        f"the function '{function.entrypoint}' returned a {kind}, which is no frame",
        where=where,
        hint=_hint_for(result),
    )


@contextmanager
def user_code(what: str, *, trim: tuple[str, ...] = ()) -> Iterator[None]:
    """Turn what is raised inside into ``UserCodeError`` (``user-code-failed``) about ``what``.

    Leading lines of the traceback that lie in an engine, or in a folder of ``trim``, are left out.
    """
    try:
        yield
    except AiflowError:
        raise
    except (Exception, SystemExit) as error:  # whatever a user's code raises, sys.exit() included
        raise user_code_failed(error, what, trim=trim) from error


def user_code_failed(error: BaseException, what: str, *, trim: tuple[str, ...] = ()) -> UserCodeError:
    """Return the error that says so, its notes the user's traceback."""
    return UserCodeError("user-code-failed", f"{what} {_raised(error)}", **_told(error, trim))


@contextmanager
def plugin_code(plugin: Source | Sink, *, passing: Callable[[BaseException], bool] | None = None) -> Iterator[None]:
    """Turn what a source or sink raises inside into ``PluginError`` (``source-failed``, ``sink-failed``).

    Errors of ours pass as they are, and so do those of which ``passing`` says that the engine's own words follow.
    """
    try:
        yield
    except AiflowError:
        raise
    except Exception as error:  # whatever a plugin raises
        if passing and passing(error):
            raise
        kind = "source" if isinstance(plugin, Source) else "sink"
        raise PluginError(
            "source-failed" if kind == "source" else "sink-failed",
            f"the {kind} '{plugin.kind}' {_raised(error)}",
            **_told(error, ()),
        ) from error


def _raised(error: BaseException) -> str:
    return REDACTOR.hide(f"raised {type(error).__name__}: {(said(error).strip() or 'no message').splitlines()[0]}")


def _told(error: BaseException, trim: tuple[str, ...]) -> dict[str, Any]:
    """Return what an error says of code that is not ours: where, its traceback, and whether to try again."""
    shown = _user_traceback(error.__traceback__, trim)
    lines = "".join(traceback.TracebackException(type(error), error, shown, compact=True).format()).splitlines()
    if len(lines) > _MOST_LINES:
        left_out = len(lines) - _MOST_LINES
        lines = [*lines[: _MOST_LINES // 2], f"… {plural(left_out, 'line')} left out …", *lines[-_MOST_LINES // 2 :]]
    return {
        "where": _where_in(shown),
        "retryable": not isinstance(error, NameError | SyntaxError | TypeError | AttributeError | ImportError),
        "notes": [REDACTOR.hide(line) for line in lines],
    }


def cannot_reach(error: BaseException, what: str) -> AiflowError | None:
    """Return the error for a file or store that failed while ``what`` was computed; None where it was something else.

    What the engine's driver says of a store is told from what a user's code meets elsewhere.
    """
    text = str(error)
    is_of_driver = any(word in text for word in _OF_DRIVERS) or getattr(error, "errno", None) in _OF_DISKS
    if is_of_driver and (told := store_error(error, "the lake")):
        told.message = f"{what}: {told.message}"
        told.args = (told.message,)
        return told
    if not isinstance(error, OSError):
        return None
    return StoreError(
        "store-failed",
        f"{what}: {str(error).strip() or type(error).__name__}",
        retryable=True,
        hint="see that the place exists, is reachable and has room",
    )


def _user_traceback(found: TracebackType | None, trim: tuple[str, ...]) -> TracebackType | None:
    while found is not None and found.tb_frame.f_code.co_filename.startswith((*_OURS, *trim)):
        found = found.tb_next
    return found


def _where_in(found: TracebackType | None) -> Where | None:
    """Return the innermost line that is the user's: not of an installed package, not of Python itself."""
    place = None
    for frame, line in traceback.walk_tb(found):
        path = frame.f_code.co_filename
        if place is None or not ("site-packages" in path or path.startswith(("<", _PYTHON))):
            place = Where(relative_path(path), line)
    return place


def _hint_for(result: object) -> str:
    if inspect.isawaitable(result):
        return "drop 'async' from its definition"
    match type(result).__name__:
        case "list" | "tuple" | "dict" | "generator":
            return "return polars.DataFrame(rows)"
        case "Series":
            return "return series.to_frame()"
        case "GroupBy" | "DataFrameGroupBy" | "LazyGroupBy":
            return "aggregate the groups, as in .agg(…), and return the result"
        case _:
            return "return a frame: of polars, pandas, pyarrow, DuckDB or Spark"
