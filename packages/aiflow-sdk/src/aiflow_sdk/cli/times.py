"""Times and amounts as they are typed, refused here where nobody could understand them."""

from __future__ import annotations

from datetime import UTC, datetime

import click

EXAMPLE = "2026-11-20T03:00:00Z"
LIMIT = click.IntRange(1, 1_000_000)
"""How many of a list are wanted."""
NUMBER = click.IntRange(1, 2**62 - 1)
"""What the metadata service numbers things by."""


def time_of(text: str) -> str:
    """Return the moment that a text names, in UTC: a type of options. Raises ``BadParameter``."""
    try:
        moment = datetime.fromisoformat(text)
        in_utc = moment if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"'{text}' is no time; write it as {EXAMPLE}") from None
    if moment.tzinfo is None:
        whole = _text(moment.replace(tzinfo=UTC))
        raise click.BadParameter(f"'{text}' does not say in which zone; if it is UTC, write {whole}")
    return _text(in_utc)


def coming_time_of(text: str) -> str:
    """Return the same of a moment that lies ahead."""
    told = time_of(text)
    if datetime.fromisoformat(told) <= datetime.now(UTC):
        raise click.BadParameter(f"{text} is over")
    return told


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
