"""Starts, finds and stops the embedded Spark server of a session folder.

One server serves every process that is told of the folder by ``AIFLOW_SESSION_DIR``; ``AIFLOW_SESSION_OWNER`` is the
process whose end is the server's end. Without them a process has a server of its own, which ends with it.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiflow_sdk.engines.spark.server import has_ended
from aiflow_sdk.errors import MissingExtraError, RunError, install_hint
from aiflow_sdk.usage import note_server

SESSION_DIR = "AIFLOW_SESSION_DIR"
SESSION_OWNER = "AIFLOW_SESSION_OWNER"
START_SECONDS = 60.0
STOP_SECONDS = 5.0
IDLE_SECONDS = 30 * 24 * 3600
"""Sail forgets a session that was idle for so long; a run with long Python tasks must find it again."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running embedded server."""

    address: str
    """``sc://127.0.0.1:port``."""
    pid: int
    scratch: Path
    """A folder for files that pass between the server and its clients; it ends with the server."""

    @property
    def is_alive(self) -> bool:
        """Whether somebody listens at its address."""
        return answers(self.address)

    def scratch_folder(self) -> Path:
        """Return a new folder in ``scratch``."""
        self.scratch.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.scratch))


def answers(address: str) -> bool:
    """Return whether somebody listens at an embedded server's address."""
    host, port = address.removeprefix("sc://").rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


Variables = Mapping[str, str]
"""Environment variables of a server: how it opens the lake's store. Servers of one session with others are others."""
_NONE: Variables = {}


def start_server(variables: Variables = _NONE) -> None:
    """Start the server unless there is one or one is being started, and return at once."""
    folder, name = _session_folder(), _name_of(variables)
    if _find(folder, name) is None:
        with _lock(folder, name) as lock:
            if lock is not None and _find(folder, name) is None:
                _spawn(folder, lock, variables)


def running_server(variables: Variables = _NONE) -> Server:
    """Return the server of this session, started now if there is none (or it has died).

    Raises ``RunError`` when it does not come up.
    """
    deadline = time.monotonic() + START_SECONDS
    folder, name = _session_folder(), _name_of(variables)
    tried = False
    while (server := _find(folder, name)) is None:
        with _lock(folder, name) as lock:  # whoever starts a server holds it until the address is known
            if lock is not None and (server := _find(folder, name)) is None:
                if tried:
                    raise _failure(folder, name, "ended before it listened")
                _spawn(folder, lock, variables)
                tried = True
        if time.monotonic() > deadline:
            raise _failure(folder, name, f"did not listen within {START_SECONDS:.0f} s")
        time.sleep(0.005)
    return server


def stop_servers(session_dir: str | os.PathLike[str]) -> None:
    """Stop the embedded servers of a session folder and wait until they are gone."""
    folder = Path(session_dir)
    for path in folder.glob("spark*.json"):
        _stop(folder, path.stem)


def _stop(folder: Path, name: str) -> None:
    server = _announced(folder, name)
    if server is None:
        return
    if server.is_alive:  # else the process id may be another's by now
        try:
            os.kill(server.pid, signal.SIGTERM)
            if not has_ended(server.pid, STOP_SECONDS):
                os.kill(server.pid, signal.SIGKILL)
                has_ended(server.pid, STOP_SECONDS)
        except ProcessLookupError:
            pass
        if child := _children.pop(server.pid, None):
            child.wait()
    (folder / f"{name}.json").unlink(missing_ok=True)


_own_folder: tuple[int, Path] | None = None
"""The folder of this process' own server, and the process; a fork starts over."""
_children: dict[int, subprocess.Popen[bytes]] = {}
"""The servers that this process started, so that it reaps them."""
_guard = threading.Lock()


def _name_of(variables: Variables) -> str:
    """Return what the server's files in the session's folder are called."""
    if not variables:
        return "spark"
    return f"spark-{hashlib.sha256(json.dumps(dict(variables), sort_keys=True).encode()).hexdigest()[:16]}"


def _session_folder() -> Path:
    if shared := os.environ.get(SESSION_DIR):
        folder = Path(shared)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    global _own_folder
    with _guard:
        if _own_folder is None or _own_folder[0] != os.getpid() or not _own_folder[1].exists():
            _own_folder = (os.getpid(), Path(tempfile.mkdtemp(prefix="aiflow-spark-")))
            atexit.register(_stop_own, *_own_folder)
        return _own_folder[1]


def _stop_own(pid: int, folder: Path) -> None:
    if pid == os.getpid():
        stop_servers(folder)


def _find(folder: Path, name: str) -> Server | None:
    server = _announced(folder, name)
    return server if server and server.is_alive else None


def _announced(folder: Path, name: str) -> Server | None:
    try:
        facts = json.loads((folder / f"{name}.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    return Server(facts["address"], facts["pid"], folder / f"{name}-scratch")


@contextmanager
def _lock(folder: Path, name: str) -> Iterator[int | None]:
    """Yield the locked file's descriptor, or None while another process holds it."""
    lock = os.open(folder / f"{name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = True
        except BlockingIOError:
            is_ours = False
        yield lock if is_ours else None
    finally:
        os.close(lock)  # a server that was started meanwhile has a copy, and with it the lock


def _spawn(folder: Path, lock: int, variables: Variables) -> None:
    from importlib.util import find_spec

    if find_spec("pysail") is None:
        raise MissingExtraError(
            "missing-extra", "the embedded Spark needs the package 'pysail'", hint=install_hint("spark")
        )
    owner = os.environ.get(SESSION_OWNER, str(os.getpid())) if SESSION_DIR in os.environ else str(os.getpid())
    name = _name_of(variables)
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "aiflow_sdk.engines.spark.server", str(folder), name, owner, str(lock)],
            env={**_server_environment(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            start_new_session=True,  # Ctrl-C is for the runner, which cancels the tasks first
        )
    note_server(process.pid)
    for pid in [pid for pid, child in _children.items() if child.poll() is not None]:
        del _children[pid]
    if SESSION_DIR in os.environ:
        process.returncode = 0  # it is the session's and may outlive this process, which deserves no ResourceWarning
    else:
        _children[process.pid] = process


def _server_environment() -> dict[str, str]:
    """Return this process' environment, with its import path: Python UDFs run in the server and import user code."""
    return {
        "RUST_LOG": "warn",
        "SAIL_SPARK__SESSION_TIMEOUT_SECS": str(IDLE_SECONDS),
        **{name: value for name, value in os.environ.items() if name != "SPARK_REMOTE"},  # of an earlier server
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }


def _failure(folder: Path, name: str, what: str) -> RunError:
    log = folder / f"{name}.log"
    lines = log.read_text("utf-8", "replace").splitlines()[-20:] if log.exists() else []
    return RunError(
        "spark-server-failed",
        f"the embedded Spark server {what}",
        hint="its last lines of output follow; run 'aiflow doctor'",
        retryable=True,
        notes=lines,
    )
