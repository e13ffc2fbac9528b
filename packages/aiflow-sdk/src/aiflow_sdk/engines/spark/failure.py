"""What went wrong in Spark, told shortly: the user's own lines first, no stack of the server."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from aiflow_sdk.engines.spark.connection import first_line
from aiflow_sdk.errors import AiflowError, RunError, UserCodeError, Where, did_you_mean
from aiflow_sdk.frames import where_of
from aiflow_sdk.place import relative_path
from aiflow_sdk.stores import store_error

_FOREIGN = (str(Path(__file__).parents[2]), "site-packages/pyspark", "site-packages/pysail", "site-packages/grpc")
_FRAME = re.compile(r'  File "(?P<path>[^"]+)", line (?P<line>\d+), in .*')
# As Sail says it, and as Spark does.
_MISSING_COLUMN = re.compile(r'Identifier\("([^"]+)"\)\]?\) is missing|parameter with name (`.+?`) cannot be resolved')
_MOST_LINES = 60
_OF_A_STORE = re.compile(
    r"object ?store error|Generic (?:S3|MicrosoftAzure|LocalFileSystem)|Parquet error|amazonaws|azurebfs"
    r"|java\.io\.IOException|operation lacked the necessary privileges|<Error><Code>",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"(?:s3a?|azs?|abfss?)://[^\s\"'`?#]+")


def is_of_spark(error: BaseException) -> bool:
    """Return whether PySpark or its connection raised it."""
    return type(error).__module__.split(".")[0] in ("pyspark", "grpc") or any(
        kind.__module__.startswith(("pyspark.", "grpc")) for kind in type(error).__mro__
    )


def user_failure(error: BaseException, what: str, function: Callable[..., Any], columns: Sequence[str]) -> AiflowError:
    """Return the error for what Spark says of a user's function, or of the frame that it returned.

    ``columns`` are those of its inputs, from which a misspelt one may be told.
    """
    if lost := _server_failure(error):
        return lost
    lines = _own_lines(traceback.TracebackException.from_exception(error, compact=True).format())
    if not any(map(_FRAME.match, lines)):  # found out only when the frame was looked at
        lines = [f"{type(error).__name__}: {_short(error)}"]
    said, hint = _said_of_columns(error, columns)
    place = _last_place(lines) or where_of(function)
    return UserCodeError("user-code-failed", f"{what}: {said}", where=place, hint=hint, notes=lines)


def query_failure(error: BaseException, columns: Sequence[str]) -> AiflowError:
    """Return the error for what Spark says of a query on inputs with these columns."""
    if lost := _server_failure(error):
        return lost
    said, hint = _said_of_columns(error, columns)
    lines = [line for line in _own_lines([f"{line}\n" for line in str(error).splitlines()]) if line]
    return UserCodeError("sql-failed", f"the query failed: {said}", hint=hint, notes=lines[:_MOST_LINES])


def spark_failure(error: BaseException, doing: str) -> AiflowError:
    """Return the error for what Spark says while it computes: often a user's Python function that fails at some row."""
    if lost := _server_failure(error):
        return lost
    lines = _own_lines([f"{line}\n" for line in str(error).splitlines()])
    if place := _last_place(lines):
        return UserCodeError(
            "user-code-failed", f"{lines[-1]}, while {doing}", where=place, retryable=True, notes=lines
        )
    text = str(error)
    if _OF_A_STORE.search(text):
        found = _ADDRESS.search(text)
        if told := store_error(error, found[0] if found else "the lake"):
            told.notes = (*told.notes, f"Spark was {doing}")
            return told
    return RunError(
        "spark-failed",
        f"Spark failed while {doing}: {_short(error)}",
        hint="frames are computed when they are written: the cause may lie in any transform before",
        retryable=True,
        notes=lines[:_MOST_LINES],
    )


def _server_failure(error: BaseException) -> AiflowError | None:
    """Return the error for a server or session that is gone, or None when the error is another one."""
    text = str(error)
    if "NO_ACTIVE_SESSION" in text:
        return UserCodeError(
            "user-code-failed",
            "the Spark session was stopped while the task ran",
            hint="remove spark.stop(): the session is not the function's own",
        )
    if "StatusCode.UNAVAILABLE" not in text and "RETRIES_EXCEEDED" not in text:
        return None
    return RunError(
        "spark-server-lost",
        "the Spark server has ended while the task ran",
        hint="another attempt starts a new one; if it ends again, it may lack memory",
        retryable=True,
        notes=[first_line(error)],
    )


def _short(error: BaseException) -> str:
    """Return the message without the server's stack and PySpark's error conditions."""
    lines = _own_lines([f"{line}\n" for line in str(error).splitlines()])
    if any(map(_FRAME.match, lines)):
        return lines[-1]
    return re.sub(r"^\[[A-Z_.0-9]+\] ", "", first_line(error))


def _own_lines(lines: Iterable[str]) -> list[str]:
    """Return a traceback's lines without frames of aiflow and of PySpark, and without the server's stack."""
    kept: list[str] = []
    is_own = True
    for line in "".join(lines).splitlines():
        if line.startswith(("JVM stacktrace:", "\tat ")):
            break
        if found := _FRAME.match(line):
            path = found["path"]
            is_own = Path(path).is_absolute() and not any(part in path for part in _FOREIGN)
        elif not line.startswith("    "):
            is_own = True
        if is_own and line.strip() and "Please see the stack trace below" not in line:
            kept.append(line)
    return kept


def _last_place(lines: Sequence[str]) -> Where | None:
    places = [found for line in lines if (found := _FRAME.match(line)) and "site-packages" not in line]
    return Where(relative_path(places[-1]["path"]), int(places[-1]["line"])) if places else None


def _said_of_columns(error: BaseException, columns: Sequence[str]) -> tuple[str, str | None]:
    """Return the message, and a hint where it is about a column that is not there."""
    found = _MISSING_COLUMN.search(str(error))
    if not found:
        return f"{type(error).__name__}: {_short(error)}", None
    missing = (found[1] or found[2]).split("`.`")[-1].strip("`")
    near = did_you_mean(missing, columns) if missing not in columns else None
    return f"no column '{missing}'", near or f"the inputs have: {', '.join(columns)}"
