"""The connections and variables that the metadata service hands out as settings, asked for, and a copy of them.

Asked where a pipeline is compiled, deployed or run, never by a scheduler: a plan holds what was handed out, and which
version of each it was. The copy lies in ``.aiflow/configuration/ENVIRONMENT.json`` of the project, for its owner alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiflow_sdk.config import Environment, Project
from aiflow_sdk.config.configuration import Configuration, ConfigurationItem
from aiflow_sdk.errors import AiflowError, ConfigurationError, ProblemsError, ReceiverError, plural
from aiflow_sdk.stores import replace_private_file

if TYPE_CHECKING:
    from aiflow_sdk.service.client import Service

Tell = Callable[[str], None]
"""Hears what is to be said of the asking: that the service was silent, and how old the copy is."""

_CONNECT_SECONDS, _ANSWER_SECONDS = 2.0, 10.0
_PAGE_ITEMS = 100
_PAGE_BYTES = 16 << 20
"""The service keeps no item longer than 65,536 characters."""
_MOST_PAGES = 100
_LONGEST_NAME = 200
_UNHEARD = frozenset(
    {"configuration-unknown", "service-answer", "unknown-secret", "login-over", "unsafe-login", "store-not-writable"}
)
"""Codes of the errors that only say that nothing was heard from the service."""
_SKEW_SECONDS = 300.0
"""By how much the clock may have been set back since a copy was made."""


def configure(project: Project, name: str | None, tell: Tell) -> Project:
    """Return the project with what the service hands out for an environment, and for those that it reads from.

    Nobody is asked where ``configuration_from_service`` is not set. While the service is silent, the copy counts until
    it is older than ``configuration_keep_hours``. Raises ``ConfigurationError`` (``configuration-unknown``) where there
    is none, ``ReceiverError`` for an answer that is a refusal or no configuration, and as :meth:`Project.configured`.
    """
    for one in project.asking(name):
        project = _asked(project, one, tell)
    return project


def configure_offline(project: Project, name: str | None, tell: Tell) -> Project:
    """Return the project with what the copies have, however old, and ask nobody; without one, as aiflow.toml has it.

    Raises as :meth:`Project.configured`.
    """
    for one in project.asking(name):
        kept = read_copy(project, project.environment(one))
        if kept is None:
            tell(f"what the metadata service hands out for '{one}' was never heard here: it goes by aiflow.toml alone")
        else:
            project = project.configured(kept)
    return project


def configure_leniently(project: Project, name: str | None, tell: Tell) -> Project:
    """Return the project as :func:`configure` does, else with what was kept, however old: for looking at it offline.

    So too where it cannot be said who asks.
    """
    try:
        return configure(project, name, tell)
    except AiflowError as error:
        if error.code not in _UNHEARD:
            raise
        tell(str(error))
        return configure_offline(project, name, tell)


def read_copy(project: Project, environment: Environment) -> Configuration | None:
    """Return the copy of what the environment's service handed out; None where there is none of this service.

    Nor does one count that somebody else asked for, who may be of another team. Where it cannot be said who asks now,
    it does.
    """
    from aiflow_sdk.service.logins import find_asker

    try:
        told = json.loads(_file(project, environment.name).read_bytes())
        made_at = told["made_at"]
        if told["service"] != environment.service or told["project"] != project.name or isinstance(made_at, bool):
            return None
        if (asker := find_asker(environment)) is not None and told["asked_by"] != asker:
            return None
        items = (_item(environment.name, one) for one in told["items"])
        kept = tuple(item for item in items if item.is_setting)
        return Configuration(told["service"], project.name, environment.name, float(made_at), kept)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def age_text(seconds: float) -> str:
    """Return an age as people say it."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}s"
    return plural(round(max(seconds, 0)), "second")


def _asked(project: Project, name: str, tell: Tell) -> Project:
    environment = project.environment(name)
    try:
        found = _ask(project, environment)
    except ReceiverError as error:
        if not error.retryable:
            raise
        return project.configured(_recalled(project, environment, error, tell))
    configured = project.configured(found)
    _keep(project, environment, found, tell)  # what is wrong in itself is not kept
    return configured


def _ask(project: Project, environment: Environment) -> Configuration:
    from aiflow_sdk.service.client import Service  # a project that asks nobody does not pay for it

    service = Service(
        environment, timeout_seconds=_ANSWER_SECONDS, connect_seconds=_CONNECT_SECONDS, most_bytes=_PAGE_BYTES
    )
    try:
        items = tuple(item for item in _items(service, project, environment) if item.is_setting)
        problems = [problem for item in items for problem in item.literal_secrets()]
        if not problems:
            return Configuration(service.address, project.name, environment.name, time.time(), items)
    except AiflowError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ReceiverError(
            "service-answer",
            f"what answers at {service.address} hands out no configuration that could be understood: {_said(error)}",
            hint="see that the setting service is the address of aiflow's metadata service",
        ) from error
    raise problems[0] if len(problems) == 1 else ProblemsError(problems)


def _items(service: Service, project: Project, environment: Environment) -> Iterator[ConfigurationItem]:
    cursor, before = None, 0
    for _ in range(_MOST_PAGES):
        query = {"project": project.name, "limit": _PAGE_ITEMS, "cursor": cursor}
        page = service.get(f"environments/{environment.name}/configuration", **query)
        if page is None:
            raise ValueError("there is no such route")
        items, cursor = page["items"], page["next"]
        if not isinstance(items, list):
            raise TypeError("items is no list")
        for number, one in enumerate(items, before + 1):
            try:
                item = _item(environment.name, one)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"item {number}: {_said(error)}") from error
            yield item
        before += len(items)
        if cursor is None:
            return
    raise ValueError(f"more than {_MOST_PAGES} pages")


def _said(error: Exception) -> str:
    """Return what is wrong with an answer, in words that are ours and not its own."""
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return "it is no JSON that can be read" if isinstance(error, RecursionError) else str(error)


def _item(environment: str, told: Any) -> ConfigurationItem:
    """Return one item of an answer or a copy. Raises ``KeyError``, ``TypeError``, ``ValueError`` for anything else."""
    if not isinstance(told, Mapping):
        raise TypeError("it is no object")
    kind, name, version, team, value = (told[field] for field in ("kind", "name", "version", "team", "value"))
    for field, is_good in (
        ("kind", kind in ("connection", "variable")),
        ("name", _is_name(name)),
        ("version", isinstance(version, int) and not isinstance(version, bool)),
        ("team", _is_name(team)),
        ("environment", told.get("environment") in (None, environment)),
    ):
        if not is_good:
            raise ValueError(f"its {field} is wrong")
    return ConfigurationItem(environment, kind, name, version, team, value)


def _is_name(text: Any) -> bool:
    return isinstance(text, str) and 0 < len(text) <= _LONGEST_NAME and text.isprintable()


def _recalled(project: Project, environment: Environment, why: AiflowError, tell: Tell) -> Configuration:
    name, hours = environment.name, environment.configuration_keep_hours
    last = "what it handed out last was never heard here"
    if (kept := read_copy(project, environment)) is not None:
        age_seconds = time.time() - kept.made_at
        if -_SKEW_SECONDS <= age_seconds <= 3600 * hours:
            tell(
                f"{why.message}; gone by is what it handed out for '{name}' {age_text(age_seconds)} ago, "
                f"as long as that is no older than {hours:g} hours"
            )
            return kept
        last = f"what it handed out last is {age_text(age_seconds)} old, and may be {hours:g} hours"
        if age_seconds < 0:
            last = "what it handed out last is of the future by this machine's clock"
    raise ConfigurationError(
        "configuration-unknown",
        f"nobody can say what the metadata service hands out for '{name}': {why.message}, and {last}",
        where=project.place_of("environments", name, "configuration_from_service"),
        hint="let the service be reached; configuration_keep_hours of the environment says how long it may be silent",
        retryable=True,
        notes=[f"looked in {_file(project, name)}"],
    ) from why


def _file(project: Project, environment: str) -> Path:
    return project.root / ".aiflow" / "configuration" / f"{environment}.json"


def _keep(project: Project, environment: Environment, found: Configuration, tell: Tell) -> None:
    """Keep a copy, for its owner alone; where that cannot be, it is said, and asked for again the next time."""
    from aiflow_sdk.service.logins import find_asker

    path = _file(project, found.environment)
    items = [{**one.facts(), "value": one.value} for one in found.items]
    told = {"service": found.service, "project": found.project, "made_at": found.made_at, "items": items}
    told["asked_by"] = find_asker(environment)
    try:
        replace_private_file(path, json.dumps(told, ensure_ascii=False, indent=1))
    except OSError as error:
        tell(f"{path} cannot be written ({error.strerror or error}): nothing is kept for when the service is silent")
