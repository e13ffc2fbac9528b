"""Roles: what a member may do in a team, each all that the one before it may and something more."""

from __future__ import annotations

from enum import IntEnum


class Role(IntEnum):
    """A role; a greater one may do more."""

    VIEWER = 1
    """Sees the team's things."""
    OPERATOR = 2
    """Runs them: sends events, replays what was refused."""
    EDITOR = 3
    """Changes them: deploys, sets connections and variables."""
    OWNER = 4
    """Lets others in: grants datasets, makes tokens for service accounts, gives roles up to owner."""
    ADMIN = 5
    """Gives every role. In every team, an administrator also makes teams and says what belongs to which."""

    @property
    def label(self) -> str:
        """The word for it."""
        return self.name.lower()


def role_named(word: str) -> Role | None:
    """Return the role that a word names, None where it names none."""
    return Role.__members__.get(word.upper())
