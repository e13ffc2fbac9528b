"""The spools of a machine that does single tasks of runs, in processes that know nothing of each other.

``<folder>/<run>/events.jsonl`` has the events of what was done here of a run, and beside it stands how far each
listener has come. An attempt that has begun and not ended has a mark, ``<attempt>.open``, with its first event; whoever
is at it holds a lock on that. The kernel lets go of it when the process ends, however it ends: :func:`settle` then says
for it that the attempt has failed.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiflow_sdk.errors import RunError
from aiflow_sdk.events import Spool
from aiflow_sdk.lineage.story import error_facets
from aiflow_sdk.stores import folder_name, try_lock

_SPOOL = "events.jsonl"
OPEN = ".open"
"""Ends the name of the mark of an attempt."""
_ENDS = ("COMPLETE", "FAIL", "ABORT")


def position_of(spool: Path, environment: str, listener: str) -> Path:
    """Return the file beside a spool that says how far (bytes, as text) a listener has come.

    Where there is none, the listener is not meant to hear what lies there.
    """
    return spool.with_name(f"events.{folder_name(environment)}.{folder_name(listener)}.position")


def refusals_of(spool: Path, environment: str, listener: str) -> Path:
    """Return the file beside a spool that keeps the events that a listener has refused, one JSON a line."""
    return position_of(spool, environment, listener).with_suffix(".refused.jsonl")


def worker_home() -> Path:
    """Return the folder for what tasks need on an Airflow worker: ``AIFLOW_HOME``, else ``aiflow`` in Airflow's own."""
    if named := os.environ.get("AIFLOW_HOME"):
        return Path(named).expanduser()
    return Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser() / "aiflow"


def worker_spools(environment: str, project: str) -> Path:
    """Return the folder for the spools of a project's runs on an Airflow worker."""
    return worker_home() / "events" / folder_name(environment) / folder_name(project)


def begin_hearing(spool: Path, environment: str, listener: str) -> None:
    """Note that what lies in a spool is for a listener, from the first event on."""
    os.close(os.open(position_of(spool, environment, listener), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))


def position_in(text: bytes) -> int:
    """Return how far a listener has come, from what its file says."""
    place, _, _ = text.partition(b"\n")
    return int(place) if place.strip().isdigit() else 0


def receiver_in(text: bytes) -> tuple[str, int] | None:
    """Return who has taken what a listener was told, and how many events it knew then; None where that is not known."""
    words = text.partition(b"\n")[2].split()
    if len(words) != 2 or not words[1].isdigit():
        return None
    return words[0].decode("ascii", "replace"), int(words[1])


def is_heard(folder: Path) -> bool:
    """Tell whether the listeners have heard all that a run's folder has for them. Raises ``OSError``."""
    positions = list(folder.glob("events.*.position"))
    spool = folder / _SPOOL
    if not positions or not spool.exists():
        return True
    if any(folder.glob(f"*{OPEN}")):
        return False  # the end of that attempt is not even spooled
    size = spool.stat().st_size
    return all(position_in(position.read_bytes()) >= size for position in positions)


def spools_below(folder: Path) -> list[Path]:
    """Return the spools of the runs below a folder, the oldest run first."""
    return sorted(folder.glob(f"*/{_SPOOL}"))


class RunSpool:
    """The events of what is done here of one run. Any number of processes may add to it."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self.path = folder / run_id / _SPOOL

    def begin(self, environment: str, listeners: Iterable[str]) -> None:
        """Make the spool, and note that the run's events are for these listeners, from the first one on."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for name in listeners:
            begin_hearing(self.path, environment, name)

    def append(self, event: Mapping[str, Any]) -> None:
        """Add an event and return when it is on the disk. Raises ``StoreError`` (retryable) where it cannot be."""
        Spool(self.path).append(event)

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events that lie here, in their order."""
        yield from Spool(self.path)


class AttemptMark:
    """Says of an attempt that this process is at it, until :meth:`close`."""

    def __init__(self, spool: RunSpool, start: Mapping[str, Any]) -> None:
        """``start`` is the event that the attempt began with. Raises ``OSError``."""
        self._path = spool.path.with_name(f"{start['run']['runId']}{OPEN}")
        beside = self._path.with_suffix(f".{os.getpid()}.part")
        self._handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._handle, fcntl.LOCK_EX)  # before it has its name: nobody finds one that seems forsaken
        with open(self._handle, "wb", closefd=False) as file:
            file.write(json.dumps(start).encode())
        os.replace(beside, self._path)

    def close(self) -> None:
        """Say that the attempt has come to an end that is spooled, or that others go on with it."""
        with suppress(OSError):  # what remains is settled by what the spool says
            self._path.unlink(missing_ok=True)
        os.close(self._handle)


def settle(folder: Path) -> None:
    """Tell of every attempt below a folder whose process is gone without a word that it has failed."""
    for path in folder.glob(f"*/*{OPEN}"):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if try_lock(handle) and os.path.exists(path):
                start = json.loads(path.read_bytes())
                spool = Spool(path.with_name(_SPOOL))
                if not any(_is_end_of(start, event) for event in spool):
                    spool.append(_failed(start))
                path.unlink()
        except (OSError, ValueError, KeyError):
            continue  # the next one to look here will
        finally:
            os.close(handle)


def end_open(path: Path) -> int:
    """Tell of a run whose process is gone, and of its attempts, that they have failed; returns how many had no end.

    Whoever goes on with the run begins it again, which what is told then says; the caller keeps others from that, and
    from telling the same, meanwhile. Raises ``StoreError``, ``OSError``.
    """
    left = open_starts(path)
    for start in left:
        Spool(path).append(_failed(start))
    return len(left)


def open_starts(path: Path) -> list[Mapping[str, Any]]:
    """Return the events that began what has no end in a spool: of attempts, and then of their run."""
    last: dict[str, Mapping[str, Any]] = {}
    starts: dict[str, Mapping[str, Any]] = {}
    for event in Spool(path):
        try:
            run_id = str(event["run"]["runId"])
            last[run_id] = event
            if event["eventType"] == "START":
                starts[run_id] = event
        except (KeyError, TypeError):
            continue  # whatever it is, it begins nothing
    return [start for run_id, start in reversed(starts.items()) if last[run_id].get("eventType") not in _ENDS]


def ends_with(path: Path, run_id: str) -> bool:
    """Whether the last that a spool tells is the end of a run: nothing that is told follows it."""
    event = Spool(path).last() or {}
    run = event.get("run")
    return isinstance(run, dict) and run.get("runId") == run_id and event.get("eventType") in _ENDS


def _is_end_of(start: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    return event["run"]["runId"] == start["run"]["runId"] and event["eventType"] in _ENDS


def _failed(start: Mapping[str, Any]) -> dict[str, Any]:
    what = "task" if "parent" in start["run"].get("facets", {}) else "run"
    error = RunError("worker-died", f"the process that did the {what} is gone without a word", retryable=True)
    moment = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    run = {**start["run"], "facets": {**start["run"].get("facets", {}), **error_facets(error.to_dict())}}
    return {**start, "eventType": "FAIL", "eventTime": moment, "run": run}
