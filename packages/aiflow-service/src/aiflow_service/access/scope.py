"""The scope of a caller: which teams' things are visible. Every function that reads takes one, and a query without it
does not exist: :meth:`Scope.sees` stands in its WHERE."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Scope:
    """What a caller sees: the things of some teams, or of all."""

    team_ids: frozenset[int] | None
    """None: of all teams, as in local mode."""

    def sees(self, team_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        """Return the condition that a row of the team in this column is visible."""
        if self.team_ids is None:
            return sa.true()
        return team_id.in_(sorted(self.team_ids))


EVERYTHING = Scope(None)
"""The scope of local mode, where whoever reaches the service owns the machine."""
