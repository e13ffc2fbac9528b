"""What the processes of one local run share: a folder, in which an embedded Spark server says where it listens."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager

SESSION_DIR = "AIFLOW_SESSION_DIR"
"""Environment variable: the folder. What lies in it serves every process of the session and ends with it."""
SESSION_OWNER = "AIFLOW_SESSION_OWNER"
"""Environment variable: id of the process that began the session; a server of the session ends when it is gone."""


@contextmanager
def session() -> Iterator[dict[str, str]]:
    """Begin a session and yield its environment variables; what it started in the background ends with it."""
    folder = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"aiflow-{os.getpid()}-{os.urandom(6).hex()}")
    os.mkdir(folder, 0o700)  # fails if it is there: nobody else may have made it
    try:
        yield {SESSION_DIR: folder, SESSION_OWNER: str(os.getpid())}
    finally:
        _stop_spark(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _stop_spark(folder: str) -> None:
    """End the session's Spark server at once: it holds nothing that outlives the session."""
    try:
        with open(os.path.join(folder, "spark.json"), encoding="utf-8") as file:
            process = int(json.load(file)["pid"])
        if os.path.isdir("/proc/self"):  # Linux: make sure that the number is not another process's by now
            with open(f"/proc/{process}/cmdline", "rb") as file:
                if folder.encode() not in file.read():
                    return
        os.kill(process, signal.SIGKILL)
    except (OSError, ValueError, KeyError, TypeError):
        return  # there is none, or it is still starting and ends with the folder it cannot find
