"""The settings of sign-in. Two lines suffice: the issuer and the client."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from aiflow_sdk.web import is_loopback
from aiflow_service.access.roles import Role, role_named

_EVERY_TEAM = "*"


def _checked_place(text: str) -> str:
    team, colon, word = text.rpartition(":")
    if not colon or not team or role_named(word) is None:
        raise ValueError("write TEAM:ROLE, or *:ROLE for every team; roles are viewer operator editor owner admin")
    return text


def is_safe_address(address: str) -> bool:
    """Tell whether nobody between here and there can read along: https, or this machine."""
    parts = urlsplit(address)
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and is_loopback(parts.hostname or "")


def _checked_address(text: str) -> str:
    if text and not is_safe_address(text):
        raise ValueError(f"{text} is neither https nor this machine's")
    return text


Address = Annotated[str, AfterValidator(_checked_address)]


class SignIn(BaseModel):
    """How people sign in. Without an issuer nobody does, and machine tokens alone are taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: Address = ""
    """The address of the OpenID provider, as its tokens have it."""
    client_id: str = ""
    """What the provider calls this service; tokens must be made for it."""
    command_line_client_id: str | None = None
    """What it calls the command line, where that is another client: one without a secret, for ``aiflow login``."""
    audience: str | None = None
    """What access tokens are made for, where that is not the client."""
    client_secret_variable: str = "AIFLOW_CLIENT_SECRET"
    """The environment variable that holds the client's secret, where the provider wants one."""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = "groups"
    """The claim that lists somebody's groups."""
    groups: dict[str, Annotated[str, AfterValidator(_checked_place)]] = Field(default_factory=dict)
    """What a group gives: ``data-eng = "growth:editor"``; ``*:viewer`` is a role in every team."""
    admins: tuple[str, ...] = ()
    """Who administers everything, by subject or verified e-mail: whoever comes first needs nobody to let them in."""
    address: Address | None = None
    """Where browsers reach this service, such as ``https://aiflow.company.com``; absent, where it listens."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.issuer) != bool(self.client_id):
            raise ValueError("issuer and client_id go together")
        return self

    @property
    def audiences(self) -> set[str]:
        """What tokens may be made for."""
        return {one for one in (self.client_id, self.audience, self.command_line_client_id) if one}

    def client_secret(self) -> str | None:
        """Return the client's secret, if there is one."""
        return os.environ.get(self.client_secret_variable) or None

    def roles_of(self, groups: Iterable[str], names: Iterable[str]) -> tuple[dict[str, Role], Role | None]:
        """Return the roles by team, and in every team, of somebody with these groups and names."""
        roles: dict[str, Role] = {}
        everywhere: Role | None = Role.ADMIN if set(self.admins) & set(names) else None
        for group in groups:
            if group not in self.groups:
                continue
            team, _, word = self.groups[group].rpartition(":")
            role = Role[word.upper()]
            if team == _EVERY_TEAM:
                everywhere = max(role, everywhere or role)
            else:
                roles[team] = max(role, roles.get(team, role))
        return roles, everywhere
