"""What a project's pipelines may read and write in an environment, as the metadata service says, and a copy of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from aiflow_sdk.config import Environment
from aiflow_sdk.errors import AccessError, ReceiverError, Where
from aiflow_sdk.service.logins import has_login

if TYPE_CHECKING:
    from aiflow_sdk.service.client import Service

_AT_ONCE = 5_000
"""As many as one request may ask about."""

_NOBODYS = frozenset({"file"})
"""Namespaces of paths in whatever folder a project or task lies: two teams' ``numbers.csv`` are two files."""

Access = Literal["read", "write"]


class Touch(NamedTuple):
    """A dataset, by its name in lineage, and what is done with it."""

    namespace: str
    name: str
    access: Access


def touch_of(kind: str, dataset: tuple[str, str]) -> Touch | None:
    """Return what a node that is a source (``read``) or a sink does with its dataset; None where none can own it."""
    namespace, name = dataset
    return None if namespace in _NOBODYS else Touch(namespace, name, "write" if kind == "sink" else "read")


class Allowed(NamedTuple):
    """Whether a dataset may be touched so; ``until`` when (seconds since 1970), None: as long as nobody says else."""

    is_allowed: bool
    until: float | None = None


@dataclass(frozen=True)
class Grants:
    """What a service said, and when this machine heard it."""

    service: str
    """Its address."""
    made_at: float
    """Seconds since 1970, by the clock of who asked."""
    team: str | None
    """The team of the project's pipelines; None: the service keeps no grants."""
    decisions: Mapping[Touch, Allowed] = field(default_factory=dict)

    def allows(self, touch: Touch, now: float) -> bool | None:
        """Tell whether a dataset may be touched so now; None where nothing was said of it."""
        if self.team is None:
            return True
        said = self.decisions.get(touch)
        if said is None:
            return None
        return said.is_allowed and (said.until is None or now < said.until)

    def to_json(self) -> str:
        """Return it as text, to keep."""
        told = [[*touch, *said] for touch, said in self.decisions.items()]
        document = {"service": self.service, "made_at": self.made_at, "team": self.team, "datasets": told}
        return json.dumps(document, ensure_ascii=False)

    @staticmethod
    def from_json(text: str | bytes) -> Grants | None:
        """Return what :meth:`to_json` gave; None for anything else."""
        try:
            told = json.loads(text)
            decisions = {Touch(*one[:3]): Allowed(bool(one[3]), one[4]) for one in told["datasets"]}
            return Grants(str(told["service"]), float(told["made_at"]), told["team"], decisions)
        except (ValueError, KeyError, TypeError, IndexError):
            return None


def is_guarded(environment: Environment) -> bool:
    """Tell whether grants hold in an environment: it names a service, and a token by which that knows who asks."""
    if environment.service is None:
        return False
    return environment.service_token is not None or has_login(environment.service)


def ask_grants(service: Service, project: str, environment: str, touches: Iterable[Touch]) -> Grants:
    """Ask a service what the pipelines of a project may touch in an environment.

    One that has no such route keeps no grants. Raises ``ReceiverError``.
    """
    wanted = sorted(set(touches))
    team = None
    decisions: dict[Touch, Allowed] = {}
    for begin in range(0, len(wanted), _AT_ONCE):
        datasets = [one._asdict() for one in wanted[begin : begin + _AT_ONCE]]
        question = {"project": project, "environment": environment, "datasets": datasets}
        told = service.post("grants/decisions", question, absent_is_none=True)
        if told is None:
            break
        try:
            team = str(told["team"])
            for one in told["datasets"]:
                until = datetime.fromisoformat(one["until"]).timestamp() if one["until"] else None
                touch = Touch(one["namespace"], one["name"], one["access"])
                decisions[touch] = Allowed(bool(one["allowed"]), until)
        except (KeyError, TypeError, ValueError) as error:
            raise ReceiverError(
                "service-answer",
                f"what answers at {service.address} says nothing of grants that could be understood: {error!r}",
                hint="see that the setting service is the address of aiflow's metadata service",
                retryable=True,
            ) from error
    return Grants(service.address, time.time(), team, decisions)


def no_grant(team: str | None, refused: Sequence[Touch], where: Where | None = None) -> AccessError:
    """Return the error for datasets that a team may not touch so: the first is named, the others stand in the notes."""
    first, *others = refused
    return AccessError(
        "no-grant",
        f"the team '{team}' may not {first.access} the dataset '{first.name}' ({first.namespace}), which is another's",
        where=where,
        hint=f"ask an owner of the team that it belongs to for: {_grant_of(team, first)}",
        notes=[f"nor {one.access} '{one.name}' ({one.namespace}): {_grant_of(team, one)}" for one in others],
    )


def _grant_of(team: str | None, touch: Touch) -> str:
    return f"aiflow grant add {touch.name} --to {team} --access {touch.access}"
