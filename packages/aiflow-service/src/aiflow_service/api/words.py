"""Parameters and fields of bodies that routes of access share."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import MaxLen, MinLen
from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from aiflow_service.access import Role
from aiflow_service.api.answers import moment_in
from aiflow_service.api.invalid import NAME_PATTERN
from aiflow_service.api.problem import Problem
from aiflow_service.database import now


def no_nul(text: str) -> str:
    """Return a text that every database takes. Raises ``ValueError``."""
    if "\0" in text:
        raise ValueError("holds the character U+0000")
    return text


Number = Annotated[int, Path(ge=1, lt=2**62)]
Text = Annotated[str, MinLen(1), MaxLen(500), AfterValidator(no_nul)]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
TeamName = Annotated[str, Path(pattern=NAME_PATTERN, description="A team's name.")]
RoleName = Literal["viewer", "operator", "editor", "owner", "admin"]


class Body(BaseModel):
    """A body; a field that is not known is an error, and not a wish that goes unheard."""

    model_config = ConfigDict(extra="forbid")


def role_of(word: str) -> Role:
    """Return the role of a checked word."""
    return Role[word.upper()]


def coming_moment(text: str | None, name: str) -> int | None:
    """Return the moment of a field that has to lie ahead. Raises :class:`Problem`."""
    moment = moment_in(text, name)
    if moment is not None and moment <= now():
        raise Problem(422, "parameter-invalid", f"{name}: {text} is over", place=f"body/{name}")
    return moment
