"""``aiflow sync --end``: tells the metadata service that a run is over which nobody is left to tell the end of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiflow_sdk.cli.console import printable
from aiflow_sdk.cli.service import require_service, tell
from aiflow_sdk.errors import RunError, UnknownNameError, plural

if TYPE_CHECKING:
    from aiflow_sdk.cli.command_line import Invocation
    from aiflow_sdk.service import Service

_WHOLE_ID = re.compile(r"[0-9A-Za-z_.:-]{1,64}")
_SHOWN_RUNS = 5


def end_run(invocation: Invocation, run_id: str) -> None:
    """Tell the service that a run has failed, by its id or the beginning or end of one.

    Raises ``UnknownNameError`` (``unknown-run``, ``ambiguous-run``), ``RunError`` (``run-ended``, ``run-in-progress``),
    ``ReceiverError``.
    """
    from aiflow_sdk.local.presence import is_done_here

    service = require_service(invocation)
    run = _find(invocation, service, run_id.strip().lower())
    found = str(run["run_id"])
    if is_done_here(invocation.root, found):
        raise RunError(
            "run-in-progress",
            f"run {found} is being done by a process of this machine",
            hint="wait for it, or cancel it there; it tells its end by itself",
        )
    told = service.post(f"runs/{found}/end?team={run['team']}", {})
    parts = f", and {plural(told['parts'], 'attempt')} of it" if told["parts"] else ""
    tell(invocation, told, f"run {found} ({_told(run)}) is told to have failed{parts}")


def _find(invocation: Invocation, service: Service, run_id: str) -> Mapping[str, Any]:
    environment = invocation.environment.name
    running = list(service.pages("runs", environment=environment, state="running", limit=500))
    matches = [
        one for one in running if run_id and (one["run_id"].startswith(run_id) or one["run_id"].endswith(run_id))
    ]
    if len(matches) > 1:
        raise UnknownNameError(
            "ambiguous-run",
            f"{len(matches)} runs that are running begin or end with '{run_id}'",
            hint="write the end of the id, or all of it",
            notes=[f"{one['run_id']} ({_told(one)})" for one in matches[:10]],
        )
    if matches:
        return matches[0]
    run: Mapping[str, Any] | None = service.get(f"runs/{run_id}") if _WHOLE_ID.fullmatch(run_id) else None
    if run is None:
        shown = ", ".join(f"{one['run_id']} ({_told(one)})" for one in running[:_SHOWN_RUNS])
        raise UnknownNameError(
            "unknown-run",
            f"the metadata service knows of no run '{run_id}' that is running in '{environment}'",
            hint=f"the newest that are: {shown}" if shown else "it knows of none that is running there",
        )
    if run["environment"] not in (None, environment):
        raise UnknownNameError(
            "unknown-run",
            f"run {run['run_id']} is of the environment '{printable(run['environment'])}', not '{environment}'",
            hint="say which is meant: --env NAME",
        )
    if run["state"] != "running":
        raise RunError("run-ended", f"run {run['run_id']} ({_told(run)}) has {run['state']} at {run['ended_at']}")
    return run


def _told(run: Mapping[str, Any]) -> str:
    partition = f" {run['partition']}" if run["partition"] else ""
    return printable(f"{run['pipeline']}{partition}, since {run['started_at']}")
