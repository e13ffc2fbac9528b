"""``aiflow sync --airflow``: what the metadata service was never told, asked of the environment's Airflow."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from aiflow_sdk.cli.console import printable
from aiflow_sdk.cli.orchestration import open_airflow
from aiflow_sdk.cli.service import require_service
from aiflow_sdk.errors import plural

if TYPE_CHECKING:
    from aiflow_sdk.cli.command_line import Invocation


class Step(Enum):
    """What is asked of Airflow."""

    RUNS = "runs"
    LOG = "log"


def sync_airflow(invocation: Invocation, steps: Collection[Step], days: int) -> dict[str, Any]:
    """Tell the service what it lacks of the last days, and return what it was told. Raises ``AiflowError``."""
    from aiflow_sdk.orchestrator import reconcile_runs, take_event_log

    service, airflow = require_service(invocation), open_airflow(invocation)
    since = datetime.now(UTC) - timedelta(days=days)
    told: dict[str, Any] = {}
    if Step.RUNS in steps:
        told |= reconcile_runs(airflow, service, since).to_dict()
    if Step.LOG in steps:
        told["log_entries"] = take_event_log(airflow, service, since)
    return told


def airflow_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is to be said of it."""
    if "runs" in told:
        runs = plural(len(told["runs"]), "run")
        yield f"airflow  {runs} and {plural(told['attempts'], 'attempt')} that nobody had told of"
        for reason in told["refused"][:3]:
            yield f"  refused: {printable(reason)}"
    if "log_entries" in told:
        entries = told["log_entries"]
        yield f"airflow  {entries:,} {'entry' if entries == 1 else 'entries'} of its event log taken into the audit"
