"""Times and amounts as they are typed, refused here where nobody could understand them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

EXAMPLE = "2026-11-20T03:00:00Z"
LIMIT = click.IntRange(1, 1_000_000)
"""How many of a list are wanted."""
NUMBER = click.IntRange(1, 2**62 - 1)
"""What the metadata service numbers things by."""


class Time(click.ParamType):
    """A moment with its zone, as ISO 8601 writes it; ``is_ahead``: one that is over is refused."""

    name = "time"

    def __init__(self, *, is_ahead: bool = False) -> None:
        self._is_ahead = is_ahead

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the moment in UTC, as the service understands it."""
        text = str(value)
        try:
            moment = datetime.fromisoformat(text)
            in_utc = moment if moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"'{text}' is no time; write it as {EXAMPLE}", param, ctx)
        if moment.tzinfo is None:
            whole = _text(moment.replace(tzinfo=UTC))
            self.fail(f"'{text}' does not say in which zone; if it is UTC, write {whole}", param, ctx)
        if self._is_ahead and moment <= datetime.now(UTC):
            self.fail(f"{text} is over", param, ctx)
        return _text(in_utc)


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
