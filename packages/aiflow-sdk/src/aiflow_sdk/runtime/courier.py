"""Takes what lies in the spools of runs to one listener, each from where it left off.

How far it has come stands beside each spool, in ``events.<environment>.<listener>.position`` (bytes, as text; in a
second line who heard it, where that is known: what another receiver has taken is told from the first event on). Whoever
sends holds a lock on that. An event may come twice where a process dies between telling and noting; it never goes
missing. What the listener will never have is passed over, and kept beside it in
``events.<environment>.<listener>.refused.jsonl``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from aiflow_sdk.config import SERVICE
from aiflow_sdk.errors import AiflowError, ReceiverError, StoreError
from aiflow_sdk.lineage import begin_hearing, position_in, position_of, receiver_in, refusals_of
from aiflow_sdk.plugins import Heard, Listener, Receiver
from aiflow_sdk.redaction import REDACTOR
from aiflow_sdk.stores import try_lock

_DIGITS = 20
_MOST_BYTES = 200
"""Of a file that says how far a listener has come."""
_BATCH_BYTES = 1 << 20
"""How much is told at once at most, one event excepted."""


class Outcome(Enum):
    """How sending a spool has ended."""

    DONE = "done"
    """All that lay there was told."""
    BUSY = "busy"
    """Another process tells it just now."""
    HELD = "held"
    """The listener does not take the next event of this run yet; of others it may."""
    AWAY = "away"
    """The listener takes nothing just now."""


@dataclass
class Sent:
    """What came of sending a spool."""

    outcome: Outcome = Outcome.DONE
    events: int = 0
    """How many the listener has taken, the refused ones not counted."""
    refused: list[str] = field(default_factory=list)
    """Of each event that it has refused: why."""
    why: AiflowError | None = None
    """Why the rest was not taken."""
    pause_seconds: float | None = None
    """How long the listener asks to be left alone."""


class _Line(NamedTuple):
    size: int
    event: Mapping[str, Any] | None
    """None: no event. A process died in the middle of it."""


class Courier:
    """Takes events to one listener. It is used by one thread at a time; other processes may do the same."""

    def __init__(self, name: str, listener: Listener, environment: str) -> None:
        self.name = name
        self.listener = listener
        self.environment = environment
        self._receiver: Receiver | None = None
        self._has_asked = False
        self._sent: set[Path] = set()
        """Of which something was taken since it was noted how much the receiver knows."""
        self._lost: dict[Path, tuple[str, int]] = {}
        """Found to be new to the receiver, by what was noted then: it stays so while others are sent and it grows."""

    def begin(self, spool: Path) -> None:
        """Note that the run's events are for this listener, from the first one on."""
        begin_hearing(spool, self.environment, self.name)

    def begin_again(self, spool: Path) -> bool:
        """Note that the run's events are to be told from the first one on; False where another process tells them."""
        self.begin(spool)
        handle = os.open(self.position_of(spool), os.O_RDWR | os.O_CLOEXEC)
        try:
            if not try_lock(handle):
                return False
            refusals_of(spool, self.environment, self.name).unlink(missing_ok=True)
            os.ftruncate(handle, 0)
        finally:
            os.close(handle)
        return True

    def identify(self) -> bool:
        """Ask who hears, of the metadata service, and tell whether it has answered.

        By itself a courier asks behind the first event that was taken, and where what another has noted differs.
        """
        self._has_asked = True
        if self.name != SERVICE:  # a stranger is sent what it was named for, and asked nothing
            return False
        heard = None
        with suppress(Exception):  # a stranger's code; what keeps it from answering is told by what is sent
            heard = self.listener.receiver()
        self._receiver = heard or self._receiver
        return heard is not None

    def is_new_to(self, spool: Path) -> bool:
        """Tell whether what lies there was heard by another receiver than the one that hears now, or is lost there."""
        try:
            known = receiver_in(self.position_of(spool).read_bytes())
        except OSError:
            return False
        if known is None or not self._is_another(known):
            return False
        self._lost[spool] = known
        return True

    def seal(self) -> None:
        """Note beside what was sent how many events the receiver knows by now: with fewer it has lost some."""
        if not self._sent:
            return
        self.identify()
        for spool in self._sent:
            with suppress(OSError):
                handle = os.open(self.position_of(spool), os.O_RDWR | os.O_CLOEXEC)
                try:
                    if try_lock(handle):  # else who sends just now notes it
                        stated = os.pread(handle, _MOST_BYTES, 0)
                        self._note(handle, position_in(stated), receiver_in(stated))
                finally:
                    os.close(handle)
        self._sent.clear()

    def _is_another(self, known: tuple[str, int] | None) -> bool:
        if known is None or self._receiver is None or not _differs(known, self._receiver):
            return False
        # What is noted may be later than the answer: another process sends too, and has told it more, or another one.
        return self.identify() and _differs(known, self._receiver)

    def _note(self, handle: int, position: int, known: tuple[str, int] | None) -> None:
        """Note how far it has come, and who hears unless a later word of that, or of another receiver, is there."""
        text = b"%0*d\n" % (_DIGITS, position)
        heard = self._receiver
        if heard is None or (known is not None and (known[0] != heard.id or known[1] >= heard.events)):
            os.pwrite(handle, text, 0)  # what stands behind it stays
            return
        text += f"{heard.id} {heard.events}\n".encode()
        os.pwrite(handle, text, 0)
        os.ftruncate(handle, len(text))

    def send(self, spool: Path) -> Sent:
        """Tell, in order, what was added to the spool since; what was taken is noted batch by batch."""
        sent = Sent()
        try:
            handle = os.open(self.position_of(spool), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return sent  # the run was removed, or is not for this listener
        try:
            if not try_lock(handle):
                sent.outcome = Outcome.BUSY
                return sent
            stated = os.pread(handle, _MOST_BYTES, 0)
            position, known = position_in(stated), receiver_in(stated)
            if known is not None and (self._lost.get(spool) == known or self._is_another(known)):
                position, known = 0, None
            with spool.open("rb") as file:
                while sent.outcome is Outcome.DONE:
                    file.seek(position)
                    if not (lines := self._next_lines(file)):
                        break
                    position += self._tell(lines, spool, sent)
                    if sent.events and not self._has_asked:
                        self.identify()
                        if self._is_another(known):
                            position, known = 0, None
                    self._note(handle, position, known)
                    if sent.events:
                        self._sent.add(spool)
        except FileNotFoundError:
            return sent  # the run was removed meanwhile
        except OSError as error:  # a full disk: what was told and not noted is told again
            sent.outcome = Outcome.HELD
            message = f"how far '{self.name}' has come cannot be noted in {spool.parent}: {error}"
            sent.why = StoreError("spool-not-writable", message, hint="free some space", retryable=True)
        finally:
            os.close(handle)
        return sent

    def is_behind(self, spool: Path) -> bool:
        """Tell whether there is something in the spool that the listener is meant to hear and has not."""
        try:
            return position_in(self.position_of(spool).read_bytes()) < spool.stat().st_size
        except OSError:
            return False

    def untold(self, spool: Path) -> int:
        """Return how many events of the spool were not told yet."""
        with suppress(OSError):
            return spool.read_bytes()[position_in(self.position_of(spool).read_bytes()) :].count(b"\n")
        return 0

    def position_of(self, spool: Path) -> Path:
        """Return the file that says how far the listener has come with a spool."""
        return position_of(spool, self.environment, self.name)

    def _next_lines(self, file: BinaryIO) -> list[_Line]:
        lines: list[_Line] = []
        size = 0
        for line in file:
            if not line.endswith(b"\n"):
                break  # it is being written; whoever writes it says so when it is whole
            size += len(line)
            if lines and size > _BATCH_BYTES:
                break
            lines.append(_Line(len(line), _parsed(line)))
            if len(lines) >= self.listener.batch_size:
                break
        return lines

    def _tell(self, lines: Sequence[_Line], spool: Path, sent: Sent) -> int:
        """Tell what the lines hold, and return how many bytes of them need not be told again."""
        events = [line.event for line in lines if line.event is not None]
        heard = self._heard(events) if events else Heard(0)
        taken = min(heard.taken, len(events))
        refused = {index: REDACTOR.hide(why) for index, why in heard.refused.items() if 0 <= index < taken}
        self._keep(spool, [(events[index], why) for index, why in sorted(refused.items())])
        sent.events += taken - len(refused)
        sent.refused += refused.values()
        if taken < len(events):
            sent.outcome = Outcome.HELD if heard.is_reachable else Outcome.AWAY
            sent.why, sent.pause_seconds = heard.why, heard.pause_seconds
        size = 0
        for line in lines:
            if line.event is not None:
                if not taken:
                    break
                taken -= 1
            size += line.size
        return size

    def _heard(self, events: Sequence[Mapping[str, Any]]) -> Heard:
        """Call the listener; where it raises, what it cannot have now is told apart from what it never will."""
        try:
            return self.listener.on_events(events)
        except AiflowError as error:
            is_later, why = error.retryable, error
        except OSError as error:
            # A service that answers "no" (urllib's HTTPError below 500) would say it again.
            is_later = not 400 <= getattr(error, "code", 0) < 500
            why = ReceiverError("receiver-unreachable", f"{type(error).__name__}: {error}", retryable=True)
        except Exception as error:  # noqa: BLE001 a stranger's code: it may fail, the run may not; the spool keeps the event
            is_later, why = False, ReceiverError("event-refused", f"{type(error).__name__}: {error}")
        if is_later:
            return Heard(0, why=why, is_reachable=False)
        return Heard(len(events), dict.fromkeys(range(len(events)), why.message))

    def _keep(self, spool: Path, refused: Sequence[tuple[Mapping[str, Any], str]]) -> None:
        if not refused:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        texts = [
            json.dumps({"at": now, "reason": why, "event": event}, ensure_ascii=False) + "\n" for event, why in refused
        ]
        path = refusals_of(spool, self.environment, self.name)
        # Where the disk is full the event still lies in the spool.
        with suppress(OSError), path.open("a", encoding="utf-8", errors="replace") as file:
            file.writelines(texts)


def _differs(known: tuple[str, int], heard: Receiver) -> bool:
    """Tell whether one who has heard what is noted is another one, or knows less by now."""
    return known[0] != heard.id or known[1] > heard.events


def _parsed(line: bytes) -> Mapping[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
