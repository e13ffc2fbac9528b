"""What a run tells the world: OpenLineage events, in the run's spool first and then with the listeners."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiflow_sdk.config import Environment, resolve_secrets
from aiflow_sdk.errors import AiflowError, Where
from aiflow_sdk.events import Spool
from aiflow_sdk.plan import TaskResult
from aiflow_sdk.plugins import Listener, Registry
from aiflow_sdk.runtime import Lineage

if TYPE_CHECKING:
    from aiflow_sdk.local.executor import LiveRun
    from aiflow_sdk.local.records import Record

_LOGGER = logging.getLogger("aiflow.events")


class Journal:
    """Makes events of the records of runs. One is made for a process; it is used by one thread at a time for a run."""

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self._listeners = listeners
        self._lineages: dict[str, Lineage] = {}

    def record(self, live: LiveRun, record: Record) -> None:
        """Spool the event that the record stands for, if any, and tell the listeners; what they raise is only logged.

        Raises ``StoreError`` where the spool cannot be written.
        """
        if record["record"] not in Lineage.RECORDS:
            return
        run_id = live.run.run_id
        lineage = self._lineages.get(run_id) or self._lineages.setdefault(run_id, Lineage(live.plan, live.run))
        results = {
            task.task_id: TaskResult.from_dict(
                {"task_id": task.task_id, "seconds": task.seconds or 0, "nodes": task.nodes}
            )
            for task in (live.state.tasks.values() if record["record"] == "run-finished" else ())
            if task.state == "succeeded"
        }
        event = lineage.of_record(record, results)
        if event is None:
            return
        Spool(live.folder.events_path).append(event)
        for listener in self._listeners:
            _tell(listener, event)
        if record["record"] == "run-finished":
            self._lineages.pop(run_id, None)

    def close(self) -> None:
        """Let every listener send what it still holds back."""
        for listener in self._listeners:
            try:
                listener.close()
            except Exception:  # a stranger's code: it may fail, the run may not
                _LOGGER.exception("the listener '%s' failed while it was closed", listener.kind)


def open_listeners(environment: Environment, registry: Registry) -> list[Listener]:
    """Return the environment's listeners. Raises ``AiflowError`` for an unknown kind or a wrong option."""
    listeners: list[Listener] = []
    for name, options in environment.listeners.items():
        where = Where("aiflow.toml", about=f"environments.{environment.name}.listeners.{name}")
        given: Mapping[str, Any] = {key: value for key, value in options.items() if key != "kind"}
        plugin = registry.listeners.get(str(options["kind"]), where=where)
        listeners.append(plugin.load(resolve_secrets(given, environment), environment, where=where))
    return listeners


def _tell(listener: Listener, event: Mapping[str, Any]) -> None:
    began = time.monotonic()
    try:
        listener.on_event(event)
    except AiflowError as error:
        _LOGGER.error("the listener '%s' failed: %s", listener.kind, error)
    except Exception:  # a stranger's code: it may fail, the run may not; the spool keeps the event
        _LOGGER.exception("the listener '%s' failed after %.1f s", listener.kind, time.monotonic() - began)
