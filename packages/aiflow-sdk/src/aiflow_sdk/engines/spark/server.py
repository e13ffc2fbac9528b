"""The embedded Spark: a Sail server in a process of its own, which ends with its owner.

``python -m aiflow_sdk.engines.spark.server FOLDER OWNER LOCK`` writes its address to ``FOLDER/spark.json``, lets go of
the lock that it inherited (file descriptor LOCK), and waits for process OWNER to end, killed or not, or for a signal.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

STOP_SECONDS = 2.0
OWNER_CHECK_SECONDS = 0.5


def serve(folder: Path, owner: int, lock: int) -> None:
    """Serve Spark Connect until the owner is gone or a signal comes, and tidy up."""
    done = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: done.set())
    threading.Thread(target=wait_for_end, args=(owner, done), daemon=True).start()

    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    host, port = server.listening_address or ("", 0)
    facts = {"address": f"sc://{host}:{port}", "pid": os.getpid(), "owner": owner}
    announcement = folder / "spark.json"
    temporary = folder / f"spark.{os.getpid()}.json"
    temporary.write_text(json.dumps(facts), "utf-8")
    temporary.replace(announcement)
    os.close(lock)
    # In slices: a signal that comes while a lock is waited for without a limit may wait, too.
    while not done.wait(OWNER_CHECK_SECONDS):
        pass
    announcement.unlink(missing_ok=True)
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    if folder.name.startswith("aiflow-spark-"):  # made for this server alone
        shutil.rmtree(folder, ignore_errors=True)
    stopping = threading.Thread(target=server.stop, daemon=True)
    stopping.start()
    stopping.join(STOP_SECONDS)
    os._exit(0)  # a server that still has a session may hang at a plain exit


def wait_for_end(owner: int, done: threading.Event) -> None:
    """Set the event once the process ``owner`` has ended."""
    try:
        if hasattr(os, "pidfd_open"):  # Linux: no process id is taken for another, and a zombie counts as ended
            import select

            poll = select.poll()
            poll.register(os.pidfd_open(owner), select.POLLIN)
            poll.poll()
        else:
            while not done.wait(OWNER_CHECK_SECONDS):
                os.kill(owner, 0)
    except (ProcessLookupError, PermissionError):
        pass
    done.set()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
