"""Processes of tasks that need not import anything any more: ``python -m aiflow_sdk.runtime.forkserver``.

Importing what a task needs takes longer than most of what Airflow does for it. So a process in the user's environment
imports that once, runs nothing, and forks for each task that asks: the fork is :mod:`aiflow_sdk.runtime.child`, with
the pipes that came with the request. It serves one user, one interpreter and one set of environment variables, those
that it was started with, and ends after a while without tasks or with the process in whose behalf it was started.

It listens at an abstract socket of Linux, which leaves no file behind; both sides look whether the other is of the same
user. A request is one byte, ``FORK``, with three descriptors (standard input, output, records), and is answered by one
JSON line with the ``pid`` and, once that has ended, another with its ``status`` (as :func:`os.waitstatus_to_exitcode`
has it); or it is ``LOAD`` and a JSON object with ``plan`` and ``task``: what they need is imported before the next
request. Where a thread runs here a fork is not safe, and the server ends instead.
"""

from __future__ import annotations

import io
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from aiflow_sdk.channel import FORK, LOAD, user_of

_LOAD_BYTES = 8_192
_SECONDS = 10.0
"""How long whoever has connected may take to ask; others are answered meanwhile."""
_HEARING_SECONDS = 1.0
"""How long whoever asked may take to hear the answer, which fits into what the socket holds."""


class ForkServer:
    """Listens until ``owner`` has ended, or for ``idle_seconds`` after the last request and the last task's end."""

    def __init__(self, address: str, owner: int, idle_seconds: float) -> None:
        """Raises ``OSError`` where another one listens there, or the owner has ended already."""
        self._idle_seconds = idle_seconds
        self._running: dict[int, socket.socket] = {}
        self._asking: dict[int, tuple[socket.socket, float]] = {}
        """By descriptor those who have connected and not asked yet, and until when they may."""
        self._owner = os.pidfd_open(owner)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(f"\0{address}")
        self._listener.listen(64)
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._selector = selectors.DefaultSelector()
        for source in (self._listener.fileno(), self._woken, self._owner):
            self._selector.register(source, selectors.EVENT_READ)

    def serve(self) -> None:
        """Answer requests until nobody needs this any more. In a fork it does not return."""
        until = time.monotonic() + self._idle_seconds
        while self._running or time.monotonic() < until:
            now = time.monotonic()
            ends = [*([until] if until > now else ()), *(end for _, end in self._asking.values())]
            seconds = max(0.0, min(ends) - now) if ends else None
            ready = {key.fd for key, _ in self._selector.select(seconds)}
            if self._woken in ready:
                with suppress(BlockingIOError):
                    os.read(self._woken, 4_096)
                self._reap()
            if self._listener.fileno() in ready:
                self._accept()
            if not all(self._answer(self._asked(one)) for one in ready & self._asking.keys()):
                break
            for one in [one for one, (_, end) in self._asking.items() if end <= time.monotonic()]:
                self._asked(one).close()
            if self._owner in ready:
                break
            if ready:
                until = time.monotonic() + self._idle_seconds
        self._listener.close()
        for one in list(self._asking):
            self._asked(one).close()
        self._reap(options=0)  # others hear of their ends

    def _accept(self) -> None:
        """Let one of the same user ask, who may have gone again."""
        connection, _ = self._listener.accept()
        if user_of(connection) != os.getuid():
            connection.close()
            return
        self._asking[connection.fileno()] = (connection, time.monotonic() + _SECONDS)
        self._selector.register(connection, selectors.EVENT_READ)

    def _asked(self, number: int) -> socket.socket:
        """Return the connection of a descriptor, which is no longer waited for."""
        connection, _ = self._asking.pop(number)
        self._selector.unregister(connection)
        return connection

    def _answer(self, connection: socket.socket) -> bool:
        """Answer one request; False where no more can be."""
        connection.settimeout(_HEARING_SECONDS)
        handles: list[int] = []
        try:
            asked, handles, _, _ = socket.recv_fds(connection, _LOAD_BYTES, 3)
            if asked.startswith(LOAD):
                _load(asked[1:])
            elif asked == FORK and len(handles) == 3:
                if len(os.listdir("/proc/self/task")) > 1:
                    return False
                if pid := os.fork():
                    self._running[pid] = connection
                    os.setpgid(pid, pid)  # here too: who hears of it may end the group at once
                    connection.sendall(json.dumps({"pid": pid}).encode() + b"\n")
                else:
                    self._become_child(connection, handles)
        except OSError:  # who asked has gone
            pass
        finally:
            for handle in handles:
                os.close(handle)
            if connection not in self._running.values():
                connection.close()
        return True

    def _become_child(self, connection: socket.socket, handles: list[int]) -> NoReturn:
        """Do a task as a process of its own, that has nothing of the server's but what was imported."""
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for one in (
                self._listener,
                connection,
                *self._running.values(),
                *(one for one, _ in self._asking.values()),
            ):
                one.close()
            for handle in (self._woken, self._wake, self._owner):
                os.close(handle)
            stdin, stdout, records = handles
            for handle, number in ((stdin, 0), (stdout, 1), (stdout, 2)):
                os.dup2(handle, number)
            os.close(stdin)
            os.close(stdout)
            _reopen_streams()
            from aiflow_sdk.runtime.child import do_task

            do_task(records)
        except BaseException:  # noqa: BLE001 nothing of the server may go on here; what went wrong is in the task's log
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(1)

    def _reap(self, options: int = os.WNOHANG) -> None:
        """Tell of those that have ended; without ``WNOHANG`` of all, as they end."""
        while self._running:
            pid, status = os.waitpid(-1, options)
            if not pid:
                return
            connection = self._running.pop(pid)
            with suppress(OSError):  # who asked has gone
                connection.sendall(json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode() + b"\n")
            connection.close()


def _reopen_streams() -> None:
    """Open input, output and error anew, unbuffered as the server's: those still take a pipe for what they had."""
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), sys.stdin.encoding, sys.stdin.errors)
    for number, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        raw = cast(BinaryIO, io.FileIO(number, "w", closefd=False))
        setattr(sys, name, io.TextIOWrapper(raw, old.encoding, old.errors, write_through=True))


def _load(told: bytes) -> None:
    from aiflow_sdk.runtime.loading import load_what_one_needs

    with suppress(Exception, SystemExit):  # whatever a plugin's module raises; the task will meet it and tell it
        order = json.loads(told)
        load_what_one_needs(Path(order["plan"]), order["task"], is_to_fork=True)


def main(arguments: list[str]) -> None:
    """Serve at an address, in behalf of an owner, for so long without tasks; the last says what to import first."""
    address, owner, idle_seconds, told = arguments
    try:
        server = ForkServer(address, int(owner), float(idle_seconds))
    except OSError:  # another one is there, or nobody is who would use it
        return
    os.chdir("/")
    from aiflow_sdk.runtime.loading import load_what_all_need

    load_what_all_need()
    _load(told.encode())
    server.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
