"""One worker process as its supervisor sees it."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from aiflow_sdk.channel import OutputReader, RecordReader

_POLL_SECONDS = 0.2
"""How often a child is looked at where the kernel cannot say that it ended."""
_TRACE_SECONDS = 0.5
"""How long a child has to say where it is."""
_DEAF_SECONDS = 10.0
"""How long a child may live on without the pipe by which it tells records."""


class Heard(NamedTuple):
    """What came from a worker."""

    earlier: list[dict[str, Any]]
    """Records that it had told before it was asked what it printed."""
    output: list[str]
    """Lines that it or what it started printed past Python's streams."""
    records: list[dict[str, Any]]
    """Records that came meanwhile: each secret that stands in the output was told by one of all these."""
    ended: bool


class WorkerProcess:
    """A child in a process group of its own, which ends when this process does, however that comes."""

    def __init__(
        self, order: Mapping[str, Any], *, python: str | None, environment: Mapping[str, str], wake: int
    ) -> None:
        request_read, request_write = os.pipe()
        records_read, records_write = os.pipe()
        life_read, self._life = os.pipe()
        output_read, output_write = os.pipe()
        handles = (request_read, records_write, life_read)
        # -u: what is printed survives a kill; -P: no file of the project stands for one of Python's.
        command = [python or sys.executable, "-u", "-P", "-X", "faulthandler", "-m", "aiflow_sdk.local.worker"]
        try:
            self._process = subprocess.Popen(
                [*command, *map(str, handles)],
                pass_fds=handles,
                stdin=subprocess.DEVNULL,
                stdout=output_write,
                stderr=output_write,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        finally:
            for handle in (*handles, output_write):
                os.close(handle)
        self._deaf_since: float | None = None
        self._records, self._output = OutputReader(records_read), OutputReader(output_read)
        self._selector = selectors.DefaultSelector()
        self._selector.register(records_read, selectors.EVENT_READ)
        self._selector.register(output_read, selectors.EVENT_READ)
        self._selector.register(wake, selectors.EVENT_READ)
        self._wake = wake
        self._pidfd: int | None = None
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # an old kernel, or one that forbids it
                self._pidfd = os.pidfd_open(self._process.pid)
                self._selector.register(self._pidfd, selectors.EVENT_READ)
        with suppress(BrokenPipeError), os.fdopen(request_write, "wb") as stream:
            stream.write(json.dumps(order).encode())

    def hear(self, timeout_seconds: float | None) -> Heard:
        """Wait until something comes, a signal arrives or the time is over; return what has come."""
        if self._deaf_since is not None and time.monotonic() - self._deaf_since > _DEAF_SECONDS:
            self.kill()  # user code closed the descriptors by which it speaks: nothing can be heard of it any more
        if self._pidfd is None or self._deaf_since is not None:
            timeout_seconds = _POLL_SECONDS if timeout_seconds is None else min(timeout_seconds, _POLL_SECONDS)
        ready = {key.fd for key, _ in self._selector.select(timeout_seconds)}
        if self._wake in ready:
            os.read(self._wake, 64)
        ended = self._has_ended()
        earlier = self._take(self._records)  # first, so that whoever printed something is known to be at work
        output = self._take(self._output)
        records = self._take(self._records)  # after the output, so that each secret in it is told of already
        if ended:
            output.append(self._output.rest())
        lines = [line.decode("utf-8", "replace") for line in output if line.strip()]
        return Heard(list(_parsed(earlier)), lines, list(_parsed(records)), ended)

    def _has_ended(self) -> bool:
        if self._process.returncode is None and not os.waitid(
            os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
        ):
            return False
        self.kill()  # what it started and left behind; while it is not reaped, its number is nobody else's
        return self._process.poll() is not None

    def trace(self) -> str:
        """Return where it is just now, while it imports a module: what ``faulthandler`` writes, else nothing."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGUSR1)
        text, patience = "", time.monotonic() + _TRACE_SECONDS
        while time.monotonic() < patience and "File " not in text:
            heard = self.hear(max(0.0, patience - time.monotonic()))
            text += "\n".join([*heard.output, ""])
        return text

    def cancel(self) -> None:
        """Ask it to stop."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group that is gone
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it if it is still there, and let everything go."""
        self.kill()
        self._process.wait()
        self._selector.close()
        for handle in (self._records.handle, self._output.handle, self._life, self._pidfd):
            if handle is not None:
                os.close(handle)

    @property
    def status(self) -> int | None:
        """Its exit code, negative where a signal ended it; None while it is there."""
        return self._process.returncode

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self._process.returncode
        if code is None:
            return "is still there"
        if code >= 0:
            return f"exited with code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"was killed by {name}"

    @property
    def signal_name(self) -> str | None:
        """The signal that ended it."""
        code = self._process.returncode
        return signal.Signals(-code).name if code is not None and code < 0 else None

    def _take(self, reader: RecordReader) -> list[bytes]:
        lines, closed = reader.lines()
        if closed:
            if reader is self._records and self._deaf_since is None:
                self._deaf_since = time.monotonic()
            with suppress(KeyError):
                self._selector.unregister(reader.handle)
        return lines


def _parsed(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # something else wrote to this descriptor
        if isinstance(record, dict):
            yield record
