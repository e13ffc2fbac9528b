"""The embedded Spark: a Sail server in a process of its own, which ends with its owner.

``python -m aiflow_sdk.engines.spark.server FOLDER NAME OWNER LOCK`` writes its address to ``FOLDER/NAME.json``,
lets go of the lock that it inherited (file descriptor LOCK), and waits for process OWNER to end, killed or not, or for
a signal.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from aiflow_sdk.stores import replace_file

STOP_SECONDS = 2.0
OWNER_CHECK_SECONDS = 0.5


def serve(folder: Path, name: str, owner: int, lock: int) -> None:
    """Serve Spark Connect until the owner is gone or a signal comes, and tidy up."""
    done = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: done.set())
    threading.Thread(target=wait_for_end, args=(owner, done), daemon=True).start()

    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    announcement = folder / f"{name}.json"
    try:
        announce(announcement, server.listening_address or ("", 0), owner)
    except OSError:  # the session ended meanwhile, and its folder with it
        os._exit(1)
    os.close(lock)
    with suppress(ImportError):  # Sail needs it for the first session; the client is busy importing its own
        import pyspark  # noqa: F401 imported for Sail, which finds it loaded
    # In slices: a signal that comes while a lock is waited for without a limit may wait, too.
    while not done.wait(OWNER_CHECK_SECONDS):
        pass
    announcement.unlink(missing_ok=True)
    shutil.rmtree(folder / f"{name}-scratch", ignore_errors=True)
    if folder.name.startswith("aiflow-spark-"):  # made for this server alone
        shutil.rmtree(folder, ignore_errors=True)
    stopping = threading.Thread(target=server.stop, daemon=True)
    stopping.start()
    stopping.join(STOP_SECONDS)
    os._exit(0)  # a server that still has a session may hang at a plain exit


def announce(path: Path, address: tuple[str, int], owner: int) -> None:
    """Write down, in one step, where the server listens."""
    facts = {"address": f"sc://{address[0]}:{address[1]}", "pid": os.getpid(), "owner": owner}
    replace_file(path, json.dumps(facts))


def wait_for_end(owner: int, done: threading.Event) -> None:
    """Set the event once the process ``owner`` has ended."""
    while not has_ended(owner, OWNER_CHECK_SECONDS):
        pass
    done.set()


def has_ended(pid: int, seconds: float) -> bool:
    """Return whether the process ends within so many seconds."""
    try:
        if hasattr(os, "pidfd_open"):  # Linux: tells at once, and of a zombie, too
            process = os.pidfd_open(pid)
            try:
                return bool(select.select([process], [], [], seconds)[0])
            finally:
                os.close(process)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.02)
    except (ProcessLookupError, PermissionError):  # the latter: the number is somebody else's by now
        return True
    return False


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
