"""Secrets that lie in Airflow: looked up by the operator in connections, piped to the task, written down nowhere.

``secret://warehouse`` is the password of the connection ``aiflow_warehouse``; ``secret://warehouse/login`` another of
its fields (``login``, ``host``, ``port``, ``schema``, ``uri``), else a key of its extra.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiflow_sdk.config import SERVICE
from aiflow_sdk.config.secret import SCHEME
from aiflow_sdk.errors import ConfigurationError, Where
from aiflow_sdk.plan import Plan, PlanTask
from aiflow_sdk.redaction import REDACTOR

DEFAULT_PREFIX = "aiflow_"
"""Begins the ids of the connections that hold secrets, so that no pipeline can ask for others."""
_FIELDS = {"login", "password", "host", "port", "schema"}


def secrets_of(plan: Plan, task: PlanTask) -> dict[str, str]:
    """Return name → value of what the task refers to, where the environment keeps its secrets in Airflow.

    The metadata service's token is among it: by it a task asks what it may touch.

    Raises ``ConfigurationError`` (``unknown-secret``), which never shows a value.
    """
    stated = plan.environment
    nodes = [(node.options, node.params) for node in (plan.nodes[node_id] for node_id in task.node_ids)]
    used = [stated.storage, [one.storage for one in stated.reads], stated.clusters.get(task.cluster), task.resources]
    service = [one.options.get("api_key") for one in stated.listeners if one.name == SERVICE]
    return _secrets_in([used, nodes, service], plan)


def secrets_of_listeners(plan: Plan) -> dict[str, str]:
    """Return the same of what the listeners refer to, which no task needs to know."""
    return _secrets_in([one.options for one in plan.environment.listeners], plan)


def _secrets_in(value: Any, plan: Plan) -> dict[str, str]:
    stated = plan.environment.secrets
    if stated.get("provider") != "airflow":
        return {}
    prefix = str(stated.get("prefix", DEFAULT_PREFIX))
    return {name: _looked_up(name, prefix) for name in sorted(set(_names(value)))}


def _names(value: Any) -> Iterator[str]:
    """Yield the names of the texts that are references as a whole, as those who look secrets up take them."""
    match value:
        case str() if value.startswith(SCHEME):
            yield value.removeprefix(SCHEME)
        case Mapping():
            for item in value.values():
                yield from _names(item)
        case list() | tuple():
            for item in value:
                yield from _names(item)


def _looked_up(name: str, prefix: str) -> str:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    short, _, field = name.partition("/")
    connection_id = prefix + short
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
