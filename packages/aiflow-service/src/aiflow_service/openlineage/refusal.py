"""Why an event was not taken."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 it is an answer as much as an error
    """An event that is refused: a stable ``code``, the reason in words, where in the event, and the HTTP status."""

    def __init__(self, code: str, reason: str, *, place: str | None = None, status: int = 422) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason[:1000]
        self.place = place[:300] if place else None
        self.status = status
