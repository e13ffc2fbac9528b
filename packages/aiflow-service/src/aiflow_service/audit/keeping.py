"""Keeps the audit while the service runs: signs checkpoints, and records denials, which no transaction carries."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.exc import SQLAlchemyError

from aiflow_sdk.audit import CHECKPOINT_SIGNED, Checkpoint
from aiflow_sdk.config.address import without_credentials
from aiflow_sdk.errors import AiflowError
from aiflow_service.audit.entries import SERVICE, Caller, Entry
from aiflow_service.audit.reading import told_checkpoint_number, verify_entries
from aiflow_service.audit.recording import record
from aiflow_service.audit.signing import CheckpointWriter
from aiflow_service.database import Database, now
from aiflow_service.database.tables import counters

_LOG = logging.getLogger("aiflow_service.audit")
_LOOK_SECONDS = 1.0
_WINDOW_SECONDS = 60.0
"""What is denied again within it is counted, and recorded as one row when it ends."""
_MOST_WINDOWS = 200
"""Beyond so many different denials in a window, all others are one: nobody fills the disk by knocking."""


class _Window(Struct):
    entry: Entry
    ends: float
    times: int = 0
    """After the first, which is recorded already."""


class AuditKeeper:
    """Owns one thread. ``checkpoints`` None: nothing is signed, as in tools that only look."""

    def __init__(
        self, database: Database, checkpoints: CheckpointWriter | None, *, window_seconds: float = _WINDOW_SECONDS
    ) -> None:
        self._database = database
        self.checkpoints = checkpoints
        self._has_told = False
        """Whether the chain tells of a checkpoint of this process."""
        if checkpoints is not None:
            self._look_at_place(checkpoints)
        self.is_sound = True
        """Whether the rows since the last checkpoint fitted when they were signed."""
        self._window_seconds = window_seconds
        self._windows: dict[tuple[str | None, ...], _Window] = {}
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-keeper", daemon=True)
        self._thread.start()

    def record(self, *entries: Entry) -> None:
        """Record what changes nothing in the database: a start, an end."""
        with self._database.writing() as writing:
            record(writing, *entries)

    def deny(self, entry: Entry) -> None:
        """Record a denial, durable when this returns; of the same one again within a minute only how often."""
        caller = entry.caller
        key: tuple[str | None, ...] = (caller.actor, caller.origin, entry.action, entry.object_kind, entry.object_name)
        with self._lock:
            if key not in self._windows and len(self._windows) >= _MOST_WINDOWS:
                key = (entry.action,)
            window = self._windows.get(key)
            if window is not None:
                window.times += 1
                return
            self._windows[key] = _Window(entry, time.monotonic() + self._window_seconds)
        try:
            self.record(entry)
        except BaseException:  # a kill too: nothing is lost of it; it goes on up
            with self._lock:
                self._windows[key].times += 1  # told when the window ends
            raise

    def close(self) -> None:
        """Record what was counted, sign the end, and end."""
        self._ending.set()
        self._thread.join()
        self._attempt(self._close_windows, float("inf"))
        self._attempt(self._sign)

    def _run(self) -> None:
        while not self._ending.wait(_LOOK_SECONDS):
            self._attempt(self._close_windows, time.monotonic())
            self._attempt(self._sign_if_due)

    def _attempt(self, act: Callable[..., None], *arguments: object) -> None:
        try:
            act(*arguments)
        except (SQLAlchemyError, AiflowError, OSError) as error:
            _LOG.warning("the audit cannot be kept at the moment: %s", str(error).splitlines()[0])
        except Exception:  # noqa: BLE001 whatever somebody has put into the tables, what comes is to be signed
            _LOG.exception("the audit cannot be kept at the moment")

    def _close_windows(self, moment: float) -> None:
        with self._lock:
            ended = {key: one for key, one in self._windows.items() if one.ends <= moment}
            for key in ended:
                del self._windows[key]
        again = [one for one in ended.values() if one.times]
        if not again:
            return
        try:
            self.record(*(_repeated(one) for one in again))
        except BaseException:  # likewise
            with self._lock:  # they are told later
                for key, one in ended.items():
                    if one.times and key in self._windows:
                        self._windows[key].times += one.times
                    elif one.times:
                        self._windows[key] = one
            raise

    def _sign_if_due(self) -> None:
        if self.checkpoints is None:
            return
        with self._database.reading() as connection:
            counted = sa.select(counters.c.value).where(counters.c.name == "audit")
            last_seq = connection.execute(counted).scalar() or 0
        last = self.checkpoints.last
        if last is not None and last_seq < last.seq:
            if self.is_sound:
                _LOG.error(
                    "the audit ends at row %d, and row %d was signed: it was cut, or the checkpoints in %s are those "
                    "of another database, and this one needs a place of its own",
                    last_seq,
                    last.seq,
                    without_credentials(self.checkpoints.address),
                )
            self.is_sound = False
        elif self.checkpoints.is_due(last_seq):
            self._sign()

    def _sign(self) -> None:
        if self.checkpoints is None:
            return
        last = self.checkpoints.last
        with self._database.reading() as connection:
            verdict = verify_entries(connection, [last] if last else (), begins_at=last.seq if last else 1)
            if not verdict.is_sound:
                # It is signed all the same: what is wrong stays to be found, and what comes now is protected.
                says = verdict.findings[0].says
                _LOG.error("the audit was tampered with: %s; see aiflow audit verify", says)
            self.is_sound = verdict.is_sound
            made = self.checkpoints.write(connection)
        if made is not None and not self._has_told and not self._ending.is_set():
            self.record(_signed(made, self.checkpoints.address))
            self._has_told = True

    def _look_at_place(self, checkpoints: CheckpointWriter) -> None:
        with self._database.reading() as connection:
            number = told_checkpoint_number(connection)
        if not checkpoints.go_on_behind(number):
            place = without_credentials(checkpoints.address)
            _LOG.error("checkpoints of the audit are gone from %s; see aiflow audit verify", place)


def _signed(made: Checkpoint, address: str) -> Entry:
    facts = {"number": made.number, "seq": made.seq}
    return Entry(Caller(SERVICE), CHECKPOINT_SIGNED, "checkpoint", without_credentials(address), details=facts)


def _repeated(window: _Window) -> Entry:
    entry = window.entry
    return Entry(
        caller=entry.caller,
        action=entry.action,
        object_kind=entry.object_kind,
        object_name=entry.object_name,
        team_id=entry.team_id,
        team=entry.team,
        environment=entry.environment,
        result=entry.result,
        details={**entry.details, "times": window.times},
        moment=now(),
    )
