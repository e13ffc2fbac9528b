"""Secrets that lie in Airflow: looked up by the operator in connections, piped to the task, written down nowhere.

``secret://warehouse`` is the password of the connection ``warehouse``; ``secret://warehouse/login`` another of its
fields (``login``, ``host``, ``port``, ``schema``, ``uri``), else a key of its extra.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from aiflow_sdk.errors import ConfigurationError, Where
from aiflow_sdk.plan import Plan, PlanTask
from aiflow_sdk.redaction import REDACTOR

_REFERENCE = re.compile(r"secret://([A-Za-z0-9_][A-Za-z0-9_./-]*)")
_FIELDS = {"login", "password", "host", "port", "schema"}


def secrets_of(plan: Plan, task: PlanTask) -> dict[str, str]:
    """Return name → value of what the task refers to, where the environment keeps its secrets in Airflow.

    Raises ``ConfigurationError`` (``unknown-secret``), which never shows a value.
    """
    if plan.environment.secrets.get("provider") != "airflow":
        return {}
    nodes = [plan.nodes[node_id].to_full_dict() for node_id in task.node_ids]
    text = json.dumps([plan.environment.to_full_dict(), task.to_full_dict(), nodes])
    return {name: _looked_up(name) for name in sorted(set(_names(text)))}


def _names(text: str) -> Iterator[str]:
    yield from _REFERENCE.findall(text)


def _looked_up(name: str) -> str:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    connection_id, _, field = name.partition("/")
    field = field or "password"
    try:
        connection = Connection.get(connection_id)
    except AirflowNotFoundException:
        raise _unknown(name, f"there is no connection '{connection_id}' in Airflow", "add it") from None
    value = _field(connection, field)
    if value is None:
        raise _unknown(name, f"the connection '{connection_id}' has no {field}", "add it, or name another field")
    REDACTOR.add(value)
    return value


def _field(connection: Any, field: str) -> str | None:
    if field == "uri":
        return str(connection.get_uri())
    found = getattr(connection, field) if field in _FIELDS else _extra(connection).get(field)
    return None if found is None or found == "" else str(found)


def _extra(connection: Any) -> Mapping[str, Any]:
    extra = connection.extra_dejson
    return extra if isinstance(extra, Mapping) else {}


def _unknown(name: str, message: str, hint: str) -> ConfigurationError:
    return ConfigurationError(
        "unknown-secret",
        f"the secret '{name}' is not there: {message}",
        where=Where(about="Airflow's connections"),
        hint=hint,
    )
