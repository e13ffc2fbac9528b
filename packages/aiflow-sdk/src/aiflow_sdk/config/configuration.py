"""What the metadata service hands out for an environment: settings that ``aiflow.toml`` does not state itself.

A connection or variable is the setting that it is called after: the connection ``storage`` is
``[environments.NAME.storage]``, ``clusters.emr-prod`` that cluster, the variable ``spark`` that address. Each counts
whole: a setting that ``aiflow.toml`` states is not looked for there.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from aiflow_sdk.config.environment import SERVICE, Environment
from aiflow_sdk.config.secret import secret_problems
from aiflow_sdk.config.settings import ENVIRONMENT_SETTINGS
from aiflow_sdk.config.storage import storage_options
from aiflow_sdk.errors import AiflowError, ConfigurationError, ProblemsError, Where, did_you_mean

ItemKind = Literal["connection", "variable"]

WHOLE = ("storage", "reads_storage")
"""Connections that are a table of the environment."""
NAMED = ("clusters", "listeners")
"""Connections that are one entry of such a table: ``clusters.NAME``."""
SINGLE = ("spark", "staging_keep_days", "grants_keep_hours")
"""Variables that are a setting."""
_NEAR = 0.8
"""How alike a name has to be to a setting's that it is asked whether that is meant: plain ones are to be left alone."""


@dataclass(frozen=True)
class ConfigurationItem:
    """One version of a connection or variable that the service keeps of an environment."""

    environment: str
    kind: ItemKind
    name: str
    version: int
    team: str
    value: Any = field(default=None, compare=False)
    """Plain data; a secret is a reference."""

    @property
    def is_setting(self) -> bool:
        """Whether it is called after a setting of an environment: others are for whoever asks for them."""
        if self.kind == "variable":
            return self.name in SINGLE
        table, dot, entry = self.name.partition(".")
        return self.name in WHOLE or (table in NAMED and bool(dot and entry))

    @property
    def where(self) -> Where:
        """The place that an error names."""
        about = f"{self.kind} '{self.name}', version {self.version} of the team '{self.team}'"
        return Where(about=f"{about}, environment '{self.environment}'")

    @property
    def command(self) -> str:
        """What to type to change it."""
        return command_to_set(self.kind, self.name, self.environment)

    def facts(self) -> dict[str, Any]:
        """Return what it is as JSON-ready data, without its value."""
        told = {"environment": self.environment, "kind": self.kind, "name": self.name}
        return {**told, "version": self.version, "team": self.team}

    def literal_secrets(self) -> list[AiflowError]:
        """Return an error for each text in the value that looks like a secret, which it does not show."""
        found = secret_problems({self.name: self.value}, where_it_stands="the service")
        return [problem.at(self.where) for problem in found]


@dataclass(frozen=True)
class Configuration:
    """All that a service hands out for an environment, and when this machine heard it."""

    service: str
    """Its address."""
    project: str
    environment: str
    made_at: float
    """Seconds since 1970, by the clock of who asked."""
    items: tuple[ConfigurationItem, ...] = ()
    """Those that are called after settings."""

    def __post_init__(self) -> None:
        seen: dict[tuple[str, str], ConfigurationItem] = {}
        for item in self.items:
            other = seen.setdefault((item.kind, item.name), item)
            if other is not item:
                raise ConfigurationError(
                    "bad-configuration",
                    f"the {item.kind} '{item.name}' is there of two teams, '{other.team}' and '{item.team}'",
                    where=item.where,
                    hint="call the service with a token of one team, or let a team claim the project",
                )

    def fill(self, stated: Environment, names: Iterable[str]) -> Environment:
        """Return an environment with what it does not state; ``names``: of what it does, as :func:`stated_names` tells.

        Raises ``ConfigurationError`` (``bad-configuration``), ``DefinitionError`` (``literal-secret``); several at once
        as ``ProblemsError``.
        """
        given = set(names)
        used = [item for item in self.items if item.name not in given]
        problems = [problem for item in used for problem in item_problems(item, stated)]
        if problems:
            raise problems[0] if len(problems) == 1 else ProblemsError(problems)
        filled: dict[str, Any] = {name: dict(getattr(stated, name)) for name in NAMED}
        for item in used:
            table, _, entry = item.name.partition(".")
            if entry:
                filled[table][entry] = item.value
            else:
                filled[item.name] = item.value
        return replace(stated, **filled, handed_out=tuple(replace(item, value=None) for item in used))


def stated_names(settings: Mapping[str, Any]) -> frozenset[str]:
    """Return what an environment's table of ``aiflow.toml`` states, as connections and variables are called."""
    named = {f"{table}.{entry}" for table in NAMED for entry in settings.get(table, ())}
    return frozenset({*settings, *named})


def setting_names(environment: Environment) -> list[str]:
    """Return what an environment has of all that could be handed out, as connections and variables are called."""
    alone = Environment()
    single = [name for name in (*WHOLE, *SINGLE) if getattr(environment, name) != getattr(alone, name)]
    return single + [f"{table}.{entry}" for table in NAMED for entry in getattr(environment, table)]


def nearest_setting(kind: ItemKind, name: str) -> str | None:
    """Return a hint where a name that is no setting's looks as if it were meant for one; None of a plain name."""
    head, dot, rest = name.partition(".")
    if kind == "variable":
        if name in WHOLE or head in NAMED:
            return f"{head} is a connection: aiflow connection set {name} --help"
        if head in SINGLE:
            return f"of {head} the setting is the variable '{head}' alone"
        near = difflib.get_close_matches(head, (*SINGLE, *NAMED, *WHOLE), n=1, cutoff=_NEAR)
    else:
        if name in SINGLE:
            return f"{name} is a variable: aiflow variable set {name} --help"
        near = difflib.get_close_matches(head, NAMED if dot else WHOLE, n=1, cutoff=_NEAR)
        if head in NAMED:
            return f"{head} are named: {head}.NAME"
        if near and dot:
            return f"did you mean '{near[0]}.{rest}'?"
    return f"did you mean '{near[0]}'?" if near else None


def command_to_set(kind: ItemKind, name: str, environment: str) -> str:
    """Return what to type to set a connection or variable."""
    example = "VALUE" if kind == "variable" else "kind=…" if name.partition(".")[0] in NAMED else "KEY=VALUE"
    if kind == "variable" and name in ENVIRONMENT_SETTINGS and ENVIRONMENT_SETTINGS[name].accepts(1):
        example += " --type number"
    return f"aiflow {kind} set {shlex.quote(name)} {example} --env {shlex.quote(environment)}"


def item_problems(item: ConfigurationItem, environment: Environment) -> list[AiflowError]:
    """Return what keeps an item from being the setting that it is called after."""
    if found := item.literal_secrets():
        return found  # of which nothing more is shown
    table, _, entry = item.name.partition(".")
    if item.kind == "variable":
        setting = ENVIRONMENT_SETTINGS[item.name]
        return [] if setting.accepts(item.value) else [_bad(item, f"holds {setting.holds}, not {item.value!r}")]
    options = item.value
    if not isinstance(options, dict):
        return [_bad(item, "is an object of options, and this is none")]
    if entry:
        if table == "listeners" and entry == SERVICE:
            return [_bad(item, "is what the setting service stands for; call it otherwise")]
        kind = options.get("kind")
        return [] if isinstance(kind, str) and kind.strip() else [_bad(item, "needs a kind")]
    known = _known_options(item, environment)
    return [
        _bad(item, f"has the option '{option}', which this kind of store has not", did_you_mean(option, known))
        for option in options
        if option not in known
    ]


def _known_options(item: ConfigurationItem, environment: Environment) -> Iterable[str]:
    if item.name == "reads_storage":  # of whatever kind the other environment's store is
        return {**storage_options("s3"), **storage_options("azure")}
    return storage_options(environment.lake_root.address.kind)


def _bad(item: ConfigurationItem, what: str, hint: str | None = None) -> ConfigurationError:
    return ConfigurationError(
        "bad-configuration",
        f"the {item.kind} '{item.name}' that the metadata service hands out {what}",
        where=item.where,
        hint=f"{hint}; set it again: {item.command}" if hint else f"set it again: {item.command}",
    )
