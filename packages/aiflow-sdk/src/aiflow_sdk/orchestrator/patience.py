"""How often an Airflow that is watched is looked at, and how long it may be away meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from aiflow_sdk.errors import OrchestratorError

ENDED = frozenset({"succeeded", "failed"})
"""How a run may have ended."""

_SOON_SECONDS = 1.0
_LATER_SECONDS = 5.0
_LATER_AFTER_SECONDS = 120.0
_PATIENCE_SECONDS = 120.0
"""How long an Airflow that does not answer is asked again while it is watched: it may be starting anew."""
_P = ParamSpec("_P")
_T = TypeVar("_T")


def patiently(ask: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
    """Return an answer; an Airflow that is away for a moment is asked again."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return ask(*arguments, **options)
        except OrchestratorError as error:
            if not error.retryable or time.monotonic() > until:
                raise
            time.sleep(_LATER_SECONDS)


def pause_seconds(began: float) -> float:
    """Return how long to wait before the next look: the longer it takes, the less often."""
    share = min(1.0, (time.monotonic() - began) / _LATER_AFTER_SECONDS)
    return _SOON_SECONDS + share * (_LATER_SECONDS - _SOON_SECONDS)


def read_moment(text: Any) -> float | None:
    """Return a moment of Airflow's as seconds since 1970; None where there is none."""
    return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
