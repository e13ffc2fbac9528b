"""What the metadata service knows of a table's partitions, for the commands that show it and that act on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from aiflow_sdk.cli.datasets import LAKE, require_dataset
from aiflow_sdk.cli.service import require_service
from aiflow_sdk.errors import ReceiverError, UnknownNameError

if TYPE_CHECKING:
    from aiflow_sdk.cli.command_line import Invocation
    from aiflow_sdk.service import Service

COLOURS = {"current": "green", "stale": "yellow", "incomplete": "yellow", "absent": "red"}
_PAGE = 500


class Stretch(NamedTuple):
    """Partitions of one pipeline that follow each other without a gap."""

    project: str
    pipeline: str
    keys: tuple[str, ...]
    """In their order; empty of a pipeline without partitions."""


class TableLedger:
    """A table of the environment as the service tells of it; every method may raise ``ReceiverError``."""

    def __init__(self, service: Service, environment: str, table: str, namespace: str | None) -> None:
        """Raises ``UnknownNameError`` (``unknown-table``) where nothing has told of it that the caller may see."""
        self.environment = environment
        self._path = f"datasets/{require_dataset(service, table, namespace)['id']}"
        self._service = service

    def partitions(self, state: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the partitions, in their order."""
        return self._service.pages(f"{self._path}/partitions", environment=self.environment, state=state, limit=_PAGE)

    def repairs(self, *, down: bool) -> list[dict[str, Any]]:
        """Return what is to be made again, in the order in which to make it."""
        query = {"environment": self.environment, "down": "true" if down else "false"}
        found: list[dict[str, Any]] = (self._service.get(f"{self._path}/repairs", **query) or {}).get("items", [])
        return found


def open_ledger(invocation: Invocation, table: str, namespace: str | None = None) -> TableLedger:
    """Return what is known of a table.

    Raises ``ConfigurationError`` (``no-service``), ``UnknownNameError``, and ``AccessError`` (``no-grant``) for one
    that is another team's.
    """
    service = require_service(invocation)
    try:
        return TableLedger(service, invocation.environment.name, table, namespace)
    except UnknownNameError as error:
        if error.code == "unknown-table":  # of several that are seen, the user says which
            _refuse_anothers(invocation, service, table, namespace or LAKE)
        raise


def _refuse_anothers(invocation: Invocation, service: Service, table: str, namespace: str) -> None:
    """Return if nobody else is known to own a table that the service does not tell of, or it cannot be asked."""
    from aiflow_sdk.service import Touch, ask_grants, no_grant

    touch = Touch(namespace, table, "read")
    try:
        said = ask_grants(service, invocation.project.name, invocation.environment.name, [touch])
    except ReceiverError:
        return  # as for viewers, who may not ask
    if said.allows(touch, said.made_at) is False:
        raise no_grant(said.team, [touch])


def stretches_of(repairs: Iterable[Mapping[str, Any]]) -> list[Stretch]:
    """Return what is to be made, in its order, as stretches without a gap."""
    from aiflow_sdk.partitions import Partition

    found: list[Stretch] = []
    last: Partition | None = None
    for one in repairs:
        place = one["project"], one["pipeline"]
        key = one["partition"]
        partition = Partition(key, one["grain"], one["timezone"]) if key and one["grain"] else None
        if partition and last and found and found[-1][:2] == place and last.next() == partition:
            found[-1] = found[-1]._replace(keys=(*found[-1].keys, key))
        else:
            found.append(Stretch(*place, (key,) if key else ()))
        last = partition
    return found
