"""Connections and variables that the metadata service keeps of a team in an environment, as commands see them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import click

from aiflow_sdk.cli.console import printable
from aiflow_sdk.cli.service import require_service, show_rows, tell
from aiflow_sdk.errors import ReceiverError, unknown_name

if TYPE_CHECKING:
    from aiflow_sdk.cli.command_line import Invocation
    from aiflow_sdk.service import Service

Kind: TypeAlias = Literal["connection", "variable"]
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")

team_option = click.option("--team", metavar="TEAM", help="Whose (default: the one team that you are in).")
teams_option = click.option("--team", metavar="TEAM", help="That team's alone (default: of all that you are in).")
after_option = click.option(
    "--after",
    metavar="VERSION",
    type=click.IntRange(0, 2**31 - 1),
    help="Only where that is the newest version; 0: where there never was one.",
)


def show_items(invocation: Invocation, kind: Kind, team: str | None) -> None:
    """Show all that the environment has of a kind, of one team or of all that the caller is in."""
    _check_team(require_service(invocation), team)
    query = {"kind": kind, "team": team}
    nothing = f"no {kind}s in {invocation.environment.name}"
    show_rows(invocation, f"{_place(invocation)}/configuration", _item_row, nothing, query=query)


def show_item(invocation: Invocation, kind: Kind, name: str, team: str | None, *, with_versions: bool) -> None:
    """Show one item, or all its versions. Raises ``UnknownNameError`` (``unknown-configuration``)."""
    path = _item_path(invocation, kind, name)
    service = require_service(invocation)
    if with_versions:
        _check_team(service, team)
        if service.get(f"{path}/versions", limit=1, team=team) in (None, {"items": [], "next": None}):
            raise _unknown(invocation, service, kind, name, team)
        show_rows(invocation, f"{path}/versions", _version_row, "no versions", query={"team": team})
        return
    found = _find(invocation, service, kind, name, team)
    console = invocation.console
    if invocation.as_json:
        console.print_json(found)
        return
    said = f"{kind} '{name}' of {found['team']} in {found['environment']}, version {found['version']}"
    console.print(f"{said} since {found['changed_at']}")
    value = found["value"]
    for line in [f"{key} = {_text(value[key])}" for key in value] if isinstance(value, dict) else [_text(value)]:
        console.print(f"  {printable(line)}")


def set_item(invocation: Invocation, kind: Kind, name: str, value: Any, team: str | None, after: int | None) -> None:
    """Write the next version of an item.

    What looks like a secret is not sent (``DefinitionError``, ``literal-secret``). Raises ``ReceiverError``
    (``version-conflict``) where ``after`` is not the newest version.
    """
    from aiflow_sdk.config import secret_problems

    path = _item_path(invocation, kind, name)
    for problem in secret_problems({name: value}, where_it_stands="the service"):
        raise problem
    service = require_service(invocation)
    _check_team(service, team)
    before = service.get(path, team=team)
    told = service.put(_with_team(path, team), {"value": value, **({} if after is None else {"after": after})})
    if "version" not in told:
        raise ReceiverError(
            "version-conflict",
            f"the metadata service did not change it: {told.get('detail')}",
            hint=f"look at what it is now: {invocation.next_command(kind, 'show', name, '--versions')}",
        )
    if invocation.as_json:
        invocation.console.print_json(told)
        return
    invocation.console.print(f"{kind} '{name}' in {told['environment']} is version {told['version']}")
    for line in _changes(before["value"] if before else None, value):
        invocation.console.print(f"  {printable(line)}")


def remove_item(invocation: Invocation, kind: Kind, name: str, team: str | None) -> None:
    """Remove an item; its versions stay. Raises ``UnknownNameError`` (``unknown-configuration``)."""
    path = _item_path(invocation, kind, name)
    service = require_service(invocation)
    _find(invocation, service, kind, name, team)
    told = service.delete(_with_team(path, team))
    said = f"{kind} '{name}' is removed from {told['environment']}, by version {told['version']}; earlier ones stay"
    tell(invocation, told, said)


def read_json(text: str, what: str) -> Any:
    """Return the value of a JSON text, which the error does not repeat: it may hold a secret. Raises ``UsageError``."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        place = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise click.UsageError(f"{what} is no JSON{place}") from None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _find(invocation: Invocation, service: Service, kind: Kind, name: str, team: str | None) -> dict[str, Any]:
    _check_team(service, team)
    found: dict[str, Any] | None = service.get(_item_path(invocation, kind, name), team=team)
    if found is None:
        raise _unknown(invocation, service, kind, name, team)
    return found


def _unknown(invocation: Invocation, service: Service, kind: Kind, name: str, team: str | None) -> Exception:
    known = service.pages(f"{_place(invocation)}/configuration", kind=kind, team=team, limit=500)
    error = unknown_name("unknown-configuration", kind, name, (one["name"] for one in known))
    error.message += f" in the environment '{invocation.environment.name}'"
    error.hint = error.hint or f"there is none yet; see {invocation.next_command(kind, 'set')} --help"
    return error


def _check_team(service: Service, team: str | None) -> None:
    from urllib.parse import quote

    if team is not None and service.get(f"teams/{quote(team, safe='')}") is None:
        raise click.UsageError(f"you are in no team '{team}'; see aiflow team list")


def _place(invocation: Invocation) -> str:
    return f"environments/{invocation.environment.name}"


def _item_path(invocation: Invocation, kind: Kind, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise click.UsageError(f"'{name}' is no name of a {kind}; letters, digits, '_', '.', '-', at most 200")
    return f"{_place(invocation)}/configuration/{kind}/{name}"


def _with_team(path: str, team: str | None) -> str:
    from urllib.parse import urlencode

    return path if team is None else f"{path}?{urlencode({'team': team})}"


def _changes(before: Any, after: Any) -> list[str]:
    """Return in lines which options of a connection are others than before: what is not given is gone."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return []
    gone = [f"{key} is gone" for key in before if key not in after]
    return gone + [f"{key} = {_text(after[key])}" for key in after if key not in before or before[key] != after[key]]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _item_row(one: dict[str, Any]) -> dict[str, Any]:
    return {"name": one["name"], "value": _text(one["value"]), "version": one["version"], "team": one["team"]}


def _version_row(one: dict[str, Any]) -> dict[str, Any]:
    value = "(removed)" if one["value"] is None else _text(one["value"])
    return {"version": one["version"], "value": value, "since": one["changed_at"]}
