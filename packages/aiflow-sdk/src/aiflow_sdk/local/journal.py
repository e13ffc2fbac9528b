"""What a run tells the world: OpenLineage events, in the run's spool first and then with the listeners."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from aiflow_sdk.config import Environment, Project, resolve_secrets
from aiflow_sdk.errors import Where
from aiflow_sdk.events import Spool
from aiflow_sdk.lineage import RECORDS, Lineage, event_of_record
from aiflow_sdk.local.ends import NEWEST_RUNS, results_of, tell_ends
from aiflow_sdk.local.store import RunFolder, newest_run_ids
from aiflow_sdk.plan import Plan, Run
from aiflow_sdk.plugins import Listener, Registry
from aiflow_sdk.runtime.delivery import Delivery, close_all
from aiflow_sdk.runtime.engine_version import installed_version
from aiflow_sdk.stores import writing

if TYPE_CHECKING:
    from aiflow_sdk.local.records import Record
    from aiflow_sdk.local.state import RunState

CLOSE_SECONDS = 30.0
"""How long listeners have, when all runs have ended, to hear what they have not heard yet."""
_LOGGER = logging.getLogger("aiflow.events")


class Journaled(Protocol):
    """A run as the journal needs it."""

    @property
    def plan(self) -> Plan:
        """The plan that it follows."""
        ...

    @property
    def run(self) -> Run:
        """The request that it does."""
        ...

    @property
    def folder(self) -> RunFolder:
        """Where its files lie."""
        ...

    @property
    def state(self) -> RunState:
        """How far it has come."""
        ...


class Journal:
    """Makes events of the records of runs. One is made for a process; it is used by one thread at a time for a run.

    Listeners hear of them in threads of their own (:mod:`aiflow_sdk.runtime.delivery`); ``say`` is told, in words, what
    went wrong there.
    """

    def __init__(
        self,
        listeners: Mapping[str, Listener] | None = None,
        root: Path | None = None,
        *,
        say: Callable[[str], None] = _LOGGER.warning,
    ) -> None:
        self._listeners = dict(listeners or {})
        self._root = root
        self._say = say
        self._deliveries: list[Delivery] = []
        self._lineages: dict[str, Lineage] = {}

    def record(self, live: Journaled, record: Record) -> None:
        """Spool the event that the record stands for, if any, and let the listeners hear of it soon.

        Raises ``StoreError`` where the spool cannot be written.
        """
        if record["record"] not in RECORDS:
            return
        run_id = live.run.run_id
        if run_id not in self._lineages:
            self._lineages[run_id] = Lineage(live.plan, live.run, installed_version)
            self._begin(live)
        results = results_of(live.state) if record["record"] == "run-finished" else {}
        event = event_of_record(self._lineages[run_id], record, results)
        if event is None:
            return
        Spool(live.folder.events_path).append(event)
        for delivery in self._deliveries:
            delivery.notice(live.folder.events_path)
        if record["record"] == "run-finished":
            self._lineages.pop(run_id, None)

    def close(self, *, seconds: float = CLOSE_SECONDS) -> None:
        """Let every listener hear what it has not heard yet and close, within so many seconds."""
        close_all(self._deliveries, seconds)

    def _begin(self, live: Journaled) -> None:
        if self._listeners and not self._deliveries:
            root = self._root or live.folder.path.parents[2]
            earlier = partial(_spools_left, root)
            self._deliveries = [
                Delivery(name, listener, live.run.environment, self._say, earlier)
                for name, listener in self._listeners.items()
            ]
        for delivery in self._deliveries:
            with writing(live.folder.events_path):
                delivery.begin(live.folder.events_path)


def open_listeners(environment: Environment, registry: Registry, project: Project | None = None) -> dict[str, Listener]:
    """Return the environment's listeners by name. Raises ``AiflowError`` for an unknown kind or a wrong option."""
    return {
        name: open_listener(name, options, environment, registry, project)
        for name, options in environment.hearers.items()
    }


def open_listener(
    name: str,
    options: Mapping[str, Any],
    environment: Environment,
    registry: Registry,
    project: Project | None = None,
) -> Listener:
    """Return one of the environment's listeners, its secrets looked up. Raises ``AiflowError``."""
    keys = ("environments", environment.name, *(("listeners", name) if name in environment.listeners else (name,)))
    where = project.place_of(*keys) if project else Where(about=".".join(keys))
    given = {key: value for key, value in options.items() if key != "kind"}
    plugin = registry.listeners.get(str(options["kind"]), where=where)
    return plugin.load(resolve_secrets(given, environment), environment, where=where)


def _spools_left(root: Path) -> Iterator[Path]:
    """Yield the spools of the newest runs that nobody does, the oldest first."""
    tell_ends(root)
    try:
        run_ids = newest_run_ids(root, NEWEST_RUNS)
    except OSError:
        return
    for run_id in reversed(run_ids):
        folder = RunFolder(root, run_id)
        with suppress(OSError):  # what cannot be read now is sent by the next one who can
            if not folder.is_owned():
                yield folder.events_path
