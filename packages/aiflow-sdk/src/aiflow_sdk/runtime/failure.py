"""What is told of an exception that nobody foresaw, whichever process does the task."""

from __future__ import annotations

import traceback

from aiflow_sdk.errors import AiflowError, UserCodeError, Where, said


def unexpected(error: BaseException, task_id: str) -> AiflowError:
    """Return the error for an exception that nobody foresaw; another attempt may go better."""
    return UserCodeError(
        "task-crashed",
        f"{type(error).__name__}: {text}" if (text := said(error)) else type(error).__name__,
        where=Where(about=f"task '{task_id}'"),
        hint="see the traceback",
        retryable=True,
        notes=_traceback(error),
    )


def _traceback(error: BaseException) -> list[str]:
    try:
        return "".join(traceback.format_exception(error)).rstrip().splitlines()
    except BaseException:  # noqa: BLE001 a user's class may fail even while it is shown
        return "".join(traceback.format_tb(error.__traceback__)).rstrip().splitlines()
