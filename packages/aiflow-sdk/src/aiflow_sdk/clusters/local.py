"""This machine as a cluster: a job is a process with a keeper that outlives whoever submitted it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import PositiveFloat

from aiflow_sdk.clusters import keeper
from aiflow_sdk.errors import StoreError
from aiflow_sdk.ir import FrozenMap
from aiflow_sdk.plan import JobHandle, JobState, Token
from aiflow_sdk.plugins import Cluster, Job
from aiflow_sdk.stores import try_lock

CHUNK_BYTES = 1 << 16


class LocalCluster(Cluster, kind="local"):
    """Runs jobs as processes of this machine; they go on when the submitter ends.

    Each job has a folder below ``state``: ``claim`` (locked while the job may run), ``started``, ``output`` and
    ``exit``. A job gets this process' environment with its own variables on top; its memory and cores are not limited.
    """

    state: str = ".aiflow/jobs"
    """Where the jobs' folders lie, relative to the project."""
    stop_seconds: PositiveFloat = 10
    """How long a cancelled job may take to end by itself, before it is killed."""

    def submit(self, job: Job, token: Token) -> JobHandle:
        """Start the job and return its handle. The same token never starts a second one: its handle is returned again.

        A claim that its submitter left behind before anything was started is taken over. Raises ``StoreError`` when
        the state folder cannot be written.
        """
        handle = self._handle(token)
        folder = _folder(handle)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            tried = False
            while not (folder / "started").exists():
                with _claim(folder) as claim:
                    if claim is not None and not (folder / "started").exists():
                        if tried:
                            raise OSError("its keeper ended at once")
                        self._start(job, folder, claim)
                        tried = True
                time.sleep(0.005)  # its keeper, or another submitter's, is about to write the file
        except (OSError, subprocess.CalledProcessError) as error:
            raise StoreError(
                "job-state-unwritable",
                f"the job cannot be started in {folder}: {error}",
                hint="make the folder writable, or set 'state' of the local cluster to one that is",
            ) from error
        return handle

    def find(self, token: Token) -> JobHandle | None:
        handle = self._handle(token)
        return handle if _state(_folder(handle)).phase != "unknown" else None

    def poll(self, handles: Sequence[JobHandle]) -> Mapping[JobHandle, JobState]:
        return {handle: _state(_folder(handle)) for handle in handles}

    def cancel(self, handle: JobHandle) -> None:
        """Ask the job to end and return at once; after ``stop_seconds`` its keeper kills the whole process group."""
        folder = _folder(handle)
        started = _read(folder / "started")
        if started is None or (folder / "exit").exists():
            return
        try:
            if _is_claimed(folder):
                os.kill(started["keeper"], signal.SIGTERM)
            elif started["group"]:  # the keeper was killed, nobody is left to wait politely
                os.killpg(started["group"], signal.SIGKILL)
        except ProcessLookupError:
            pass

    def logs(self, handle: JobHandle, offset: int = 0) -> Iterator[bytes]:
        try:
            with (_folder(handle) / "output").open("rb") as output:
                output.seek(offset)
                while chunk := output.read(CHUNK_BYTES):
                    yield chunk
        except FileNotFoundError:
            return

    def _start(self, job: Job, folder: Path, claim: int) -> None:
        subprocess.run(
            [sys.executable, "-I", "-S", keeper.__file__, str(folder), str(self.stop_seconds), *job.command],
            cwd=job.folder,
            env={**os.environ, **job.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[claim],
            start_new_session=True,
            check=True,
        )

    def _handle(self, token: Token) -> JobHandle:
        name = hashlib.sha256(token.text.encode()).hexdigest()[:32]
        folder = f"{self.environment.resolve(self.state)}/{name}"
        return JobHandle(cluster=self.kind, id=name, details=FrozenMap({"folder": folder}))


def _folder(handle: JobHandle) -> Path:
    return Path(handle.details["folder"])


def _state(folder: Path) -> JobState:
    ended = _read(folder / "exit")
    if ended is None:
        claimed = _is_claimed(folder)
        ended = _read(folder / "exit")  # it may have ended between the two looks
        if ended is None:
            return _unended(claimed, _read(folder / "started"))
    code = ended["code"]
    if ended["cancelled"]:
        return JobState(phase="cancelled")
    if code == 0:
        return JobState(phase="succeeded")
    message = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
    return JobState(phase="failed", message=ended.get("message", message))


def _unended(claimed: bool, started: dict[str, Any] | None) -> JobState:
    """Return the state of a job whose end is not written down."""
    if started is None:
        return JobState(phase="pending") if claimed else JobState(phase="unknown", message="it was never started")
    if claimed or (started["group"] and _has_processes(started["group"])):
        return JobState(phase="running")
    return JobState(phase="failed", message="it was killed together with its keeper, so its exit code is lost")


@contextmanager
def _claim(folder: Path) -> Iterator[int | None]:
    """Yield the locked claim's file descriptor, or None while somebody else holds it."""
    claim = os.open(folder / "claim", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        yield claim if try_lock(claim) else None
    finally:
        os.close(claim)  # the keeper's copy, if there is one, keeps the lock


def _is_claimed(folder: Path) -> bool:
    if not (folder / "claim").exists():
        return False
    with _claim(folder) as claim:
        return claim is None


def _has_processes(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    return data
