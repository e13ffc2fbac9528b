"""What the processes of one local run share: a folder, in which an embedded Spark server says where it listens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SESSION_DIR = "AIFLOW_SESSION_DIR"
"""Environment variable: the folder. What lies in it serves every process of the session and ends with it."""
SESSION_OWNER = "AIFLOW_SESSION_OWNER"
"""Environment variable: id of the process that began the session; a server of the session ends when it is gone."""

_STOP_SECONDS = 2.0


@contextmanager
def session() -> Iterator[dict[str, str]]:
    """Begin a session and yield its environment variables; what it started in the background ends with it."""
    folder = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"aiflow-{os.getpid()}-{os.urandom(6).hex()}")
    os.mkdir(folder, 0o700)  # fails if it is there: nobody else may have made it
    try:
        yield {SESSION_DIR: folder, SESSION_OWNER: str(os.getpid())}
    finally:
        _stop_spark(os.path.join(folder, "spark.json"))
        shutil.rmtree(folder, ignore_errors=True)


def _stop_spark(path: str) -> None:
    try:
        with open(path, encoding="utf-8") as file:
            process = int(json.load(file)["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # no Spark was needed, or it came no further than its start and ends with its owner
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            time.sleep(0.01)
            os.kill(process, 0)
        os.kill(process, signal.SIGKILL)
