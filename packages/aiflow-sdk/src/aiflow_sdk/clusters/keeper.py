"""Keeps one job of the local cluster: starts it, stops it when asked, and writes down how it ended.

Run by file name, with the standard library alone, so that it is up in some ten milliseconds. It holds the lock on
``claim`` (a file descriptor that it inherits) as long as it lives; that lock is how others see that it does.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType


def keep(folder: Path, stop_seconds: float, command: list[str]) -> None:
    """Run the command in a session of its own; leave ``started``, ``output`` and ``exit`` in the folder."""
    process: subprocess.Popen[bytes] | None = None
    cancelled = False

    def cancel(signum: int, frame: FrameType | None) -> None:
        nonlocal cancelled
        if not cancelled:
            cancelled = True
            signal.setitimer(signal.ITIMER_REAL, stop_seconds)
        stop(process, signal.SIGTERM)

    signal.signal(signal.SIGTERM, cancel)
    signal.signal(signal.SIGALRM, lambda signum, frame: stop(process, signal.SIGKILL))
    # Before the job starts: whoever finds a free claim without this file knows that nothing ever ran.
    record(folder / "started", {"keeper": os.getpid(), "group": None})
    with (folder / "output").open("ab", buffering=0) as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            output.write(f"{error}\n".encode())
            record(folder / "exit", {"code": 127, "cancelled": cancelled, "message": str(error)})
            return
    record(folder / "started", {"keeper": os.getpid(), "group": process.pid})
    if cancelled:  # before there was a process to tell
        stop(process, signal.SIGTERM)
    code = process.wait()
    # What it left behind ends with it, as in a container.
    stop(process, signal.SIGKILL)
    record(folder / "exit", {"code": code, "cancelled": cancelled})


def stop(process: "subprocess.Popen[bytes] | None", signum: int) -> None:
    """Send the signal to the job's whole process group, if there is any of it left."""
    if process is not None:
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            os.killpg(process.pid, signum)


def record(path: Path, data: dict[str, object]) -> None:
    """Write the file in one step, so that no reader sees half of it."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(data), "utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    if os.fork() == 0:  # the submitter waits for the parent alone and has no child to reap
        keep(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
