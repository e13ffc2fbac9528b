"""What ``aiflow doctor`` finds out about the environment's metadata service."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from aiflow_sdk.cli.commands.doctor import Finding
from aiflow_sdk.cli.commands.token import ROLES
from aiflow_sdk.errors import AiflowError, plural

if TYPE_CHECKING:
    from aiflow_sdk.cli.command_line import Invocation
    from aiflow_sdk.config import Environment

_ANSWER_SECONDS = 10.0
_SKEW_SECONDS = 30.0
_MOST_SKEW_SECONDS = 24 * 3600.0
"""An event of a later time is refused."""
_SENDS = "operator"
_MOST_UNGRANTED = 20
_UNGRANTED_DAYS = 30
"""A write that nobody has seen for longer is over: what a job has once written by mistake concerns nobody for ever."""


def examine_service(invocation: Invocation) -> Iterator[Finding]:
    """Yield what is to be said of the service; nothing where the environment names none."""
    environment = invocation.environment
    if environment.service is None:
        return
    yield from _guarded("service", _answers(environment))
    yield from _ungranted(environment)
    yield from _spools(invocation)


def _answers(environment: Environment) -> Iterator[Finding]:
    from aiflow_sdk.config import resolve_secret
    from aiflow_sdk.service import Service

    mode = (Service(environment, token="", timeout_seconds=_ANSWER_SECONDS).get("sign-in") or {}).get("mode")
    if mode is None:
        said = f"what answers at {environment.service} takes events at best: it is no metadata service of aiflow's"
        yield Finding("warn", "service", said, "see that the setting service is its address")
        return
    if environment.service_token is not None:
        token = resolve_secret(environment.service_token, environment)
        yield from _guarded(
            "service_token", _identity(environment, Service(environment, token=token, timeout_seconds=_ANSWER_SECONDS))
        )
    elif mode != "local":
        said = "people sign in there, and runs send their events without a token: they are refused"
        todo = f'aiflow token create, and service_token = "secret://NAME" under [environments.{environment.name}]'
        yield Finding("warn", "service_token", said, todo)
    personal = Service(environment, is_personal=True, timeout_seconds=_ANSWER_SECONDS)
    if mode != "local":
        yield from _guarded("login", _identity(environment, personal, is_personal=True))
    yield from _fits(environment, personal)


def _fits(environment: Environment, service: Any) -> Iterator[Finding]:
    asked_at = time.time()
    told = service.get("service")
    if told is None:
        said = f"the metadata service at {environment.service} is older than this aiflow-sdk"
        yield Finding("warn", "service", said, "upgrade aiflow-service")
        return
    ours, theirs = version("aiflow-sdk"), str(told["version"])
    said = f"{environment.service} answers: version {theirs}, schema {told['schema']}"
    if theirs == ours:
        yield Finding("ok", "service", said)
    else:
        yield Finding("warn", "service", f"{said}; aiflow-sdk is {ours}", "bring both to one version")
    now = time.time()
    there = datetime.fromisoformat(told["at"]).timestamp()
    skew = there - now if there > now else min(there - asked_at, 0.0)
    if abs(skew) <= _SKEW_SECONDS:
        return
    said = f"its clock is {abs(skew):.0f} seconds {'ahead of' if skew > 0 else 'behind'} this machine's"
    if -skew > _MOST_SKEW_SECONDS:
        yield Finding("fail", "clock", f"{said}, so that it refuses events as of the future", "set the clocks")
    else:
        yield Finding("warn", "clock", said, "set the clocks: what is told of several machines is put in order by them")


def _identity(environment: Environment, service: Any, *, is_personal: bool = False) -> Iterator[Finding]:
    what = "login" if is_personal else "service_token"
    who: Mapping[str, Any] = service.get("whoami") or {}
    everywhere, teams = who.get("everywhere"), list(who.get("teams") or ())
    roles = [*([f"{everywhere} in every team"] if everywhere else []), *(f"{t['role']} of {t['name']}" for t in teams)]
    said = f"{who.get('name')}: {', '.join(roles) or 'in no team'}"
    limited = who.get("environment")
    if limited not in (None, environment.name):
        todo = f"take one that is made for {environment.name}"
        yield Finding("fail", what, f"{said}, for the environment {limited} alone", todo)
        return
    best = max((ROLES.index(one) for one in (everywhere, *(t["role"] for t in teams)) if one in ROLES), default=-1)
    if not is_personal and best < ROLES.index(_SENDS):
        yield Finding("fail", what, f"{said}, which may send no events", f"make one with the role {_SENDS}")
        return
    yield Finding("ok", what, said)


def _guarded(what: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
    except AiflowError as error:
        yield Finding("fail", what, str(error.message), error.hint or "")


def _ungranted(environment: Environment) -> Iterator[Finding]:
    """Tell which tables that are another's the user's teams have written of late."""
    from aiflow_sdk.service import Service

    try:
        service = Service(environment, timeout_seconds=_ANSWER_SECONDS, is_personal=True)
        since = (datetime.now(UTC) - timedelta(days=_UNGRANTED_DAYS)).isoformat(timespec="seconds")
        found = (service.get("lineage/ungranted", since=since, limit=_MOST_UNGRANTED) or {}).get("items", [])
    except AiflowError:
        return  # why it does not answer is told already
    for one in found:
        job, dataset = one["job"]["name"], one["dataset"]
        what = f"{dataset['name']} ({dataset['namespace']})" if dataset else "a table of several names"
        yield Finding(
            "warn",
            "grants",
            f"{job} writes {what}, which is another team's: it wrote it first, or claims it; "
            f"last seen {one['last_seen']}",
            f"ask who else writes it for: aiflow grant add {dataset['name'] if dataset else 'TABLE'} "
            f"--to {one['team']} --access write",
        )


def _spools(invocation: Invocation) -> Iterator[Finding]:
    from aiflow_sdk.local.sending import count_waiting

    for name, (runs, events) in count_waiting(invocation.project, invocation.environment).items():
        if events:
            waits = "waits" if events == 1 else "wait"
            said = f"{plural(events, 'event')} of {plural(runs, 'run')} {waits} for '{name}'"
            yield Finding("warn", "spool", said, invocation.next_command("sync"))
        else:
            yield Finding("ok", "spool", f"'{name}' has heard everything")
