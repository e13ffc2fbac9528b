"""Sends now what lies in the spools of a project's runs, and of those that Airflow did on this machine.

Each run's events go to every listener of the environment, from where that one left off; how far it has come is noted
as they go. It may be broken off at any time, be done twice at once, and beside runs that are under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiflow_sdk.config import Environment, Project
from aiflow_sdk.errors import AiflowError, ConfigurationError, ReceiverError
from aiflow_sdk.events import Spool
from aiflow_sdk.lineage import refusals_of, settle, spools_below, worker_spools
from aiflow_sdk.local.ends import tell_ends
from aiflow_sdk.local.journal import open_listener
from aiflow_sdk.local.store import runs_folder
from aiflow_sdk.plugins import Listener, Registry
from aiflow_sdk.runtime.courier import Courier, Outcome

PATIENCE_SECONDS = 60.0
"""How long a listener is waited for that asks for it, as long as it takes nothing."""
_BUSY_SECONDS = 5.0
"""How long another process is waited for that sends the same run's events."""
_LOOK_SECONDS = 0.1


@dataclass
class Account:
    """What came of sending to one listener."""

    listener: str
    runs: int = 0
    """Of how many runs it has taken events."""
    events: int = 0
    """How many it has taken."""
    refused: int = 0
    """How many it will never have; they are kept."""
    waiting_runs: int = 0
    waiting: int = 0
    """How many events it has not heard yet."""
    earlier_runs: int = 0
    """How many runs were done before it was named, so that it does not hear of them unless it is asked for."""
    again_runs: int = 0
    """Of how many runs another receiver had heard, or this one before it was put back: it is told of all of them."""
    why: AiflowError | None = None
    """Why events wait."""
    reasons: list[str] = field(default_factory=list)
    """Of each event that was refused now: why."""
    refusals: list[Path] = field(default_factory=list)
    """The files with the events that were refused, now or before."""

    def to_dict(self) -> dict[str, Any]:
        """Return the account as JSON-ready data."""
        return {
            **vars(self),
            "why": self.why.to_dict() if self.why else None,
            "refusals": [str(path) for path in self.refusals],
        }


def send_spools(
    project: Project,
    environment: Environment,
    registry: Registry,
    *,
    from_the_first: bool = False,
    on_progress: Callable[[Account], None] = lambda account: None,
) -> list[Account]:
    """Send what the environment's listeners have not heard, and return an account of each.

    ``from_the_first``: send all events again, also of runs that a listener was not named for. ``on_progress`` hears
    after each run. Raises ``ConfigurationError`` (``no-listener``) where nobody is to hear of anything.
    """
    if not environment.hearers:
        raise ConfigurationError(
            "no-listener",
            f"nobody hears of the events of the environment '{environment.name}'",
            where=project.place_of("environments", environment.name),
            hint=f'write service = "http://…", the metadata service\'s address, into [environments.{environment.name}]',
        )
    tell_ends(project.root)
    settle(worker_spools(environment.name, project.name))
    spools = _spools_of(project, environment)
    return [
        _send_all(name, options, spools, project, environment, registry, from_the_first, on_progress)
        for name, options in environment.hearers.items()
    ]


def count_waiting(project: Project, environment: Environment) -> dict[str, tuple[int, int]]:
    """Return, by listener of the environment, of how many runs it has not heard how many events; nothing is sent."""
    spools = _spools_of(project, environment)
    counted = {}
    for name in environment.hearers:
        courier = Courier(name, _Absent(), environment.name)
        left = [number for one in spools if courier.position_of(one).exists() and (number := courier.untold(one))]
        counted[name] = len(left), sum(left)
    return counted


def _spools_of(project: Project, environment: Environment) -> list[Path]:
    """Return the spools of an environment's runs: those of the project's folder, and of Airflow on this machine."""
    own = [one for one in spools_below(runs_folder(project.root)) if _environment_of(one) == environment.name]
    return own + spools_below(worker_spools(environment.name, project.name))


def _send_all(
    name: str,
    options: Mapping[str, Any],
    spools: list[Path],
    project: Project,
    environment: Environment,
    registry: Registry,
    from_the_first: bool,
    on_progress: Callable[[Account], None],
) -> Account:
    account = Account(name)
    try:
        listener = open_listener(name, options, environment, registry, project)
    except AiflowError as error:  # the others are none the worse for it
        account.why = error
        listener = _Absent()
    courier = Courier(name, listener, environment.name)
    try:
        if from_the_first:
            _begin_again(courier, spools)
        meant = [spool for spool in spools if courier.position_of(spool).exists()]
        if account.why is None:
            courier.identify()
            again = {spool for spool in meant if courier.is_new_to(spool)}
            account.again_runs = len(again)
            behind = [spool for spool in meant if spool in again or courier.is_behind(spool)]
            for _ in _send(courier, behind, account):
                on_progress(account)
            courier.seal()
    finally:
        listener.close()
    left = [number for spool in meant if (number := courier.untold(spool))]
    account.waiting_runs, account.waiting = len(left), sum(left)
    if not left and account.events:
        account.why = None  # it was busy for a while
    account.earlier_runs = len(spools) - len(meant)
    account.refusals = [kept for one in meant if (kept := refusals_of(one, environment.name, name)).exists()]
    return account


def _begin_again(courier: Courier, spools: list[Path]) -> None:
    for spool in spools:
        until = time.monotonic() + _BUSY_SECONDS
        while not courier.begin_again(spool) and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)


def _send(courier: Courier, spools: list[Path], account: Account) -> Iterator[None]:
    """Send the spools, the oldest run first, and yield after each, until the listener takes nothing any more."""
    for spool in spools:
        patience, busy = PATIENCE_SECONDS, _BUSY_SECONDS
        has_taken = False
        while True:
            sent = courier.send(spool)
            account.events += sent.events
            account.refused += len(sent.refused)
            account.reasons += sent.refused
            account.why = sent.why or account.why
            if sent.events and not has_taken:
                has_taken = True
                account.runs += 1
            if sent.outcome is Outcome.BUSY and busy > 0:
                busy -= _LOOK_SECONDS
                time.sleep(_LOOK_SECONDS)
                continue
            patience = PATIENCE_SECONDS if sent.events or sent.refused else patience
            if sent.pause_seconds is not None and sent.pause_seconds <= patience:
                patience -= sent.pause_seconds + _LOOK_SECONDS
                time.sleep(sent.pause_seconds)
                continue
            break
        if sent.outcome is Outcome.BUSY:
            account.why = ReceiverError("sent-elsewhere", "another process sends them just now", retryable=True)
        yield
        if sent.outcome is Outcome.AWAY:
            return


class _Absent(Listener):
    """Stands for a listener that cannot be made."""

    def on_event(self, event: Mapping[str, Any]) -> None:
        raise ConnectionError


def _environment_of(spool: Path) -> str | None:
    """Return the environment of a run, as its first event tells it."""
    for event in Spool(spool):
        try:
            return str(event["run"]["facets"]["aiflow_run"]["environment"])
        except (KeyError, TypeError):
            continue
    return None
