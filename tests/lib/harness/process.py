"""Servers of their own processes, which end when the test process does, however that ends."""

from __future__ import annotations

import queue
import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
SERVERS = ROOT / ".venv-servers"
START_SECONDS = 120.0
"""A busy machine starts node slowly."""


@contextmanager
def server(command: Sequence[str], ready: str, environment: Mapping[str, str]) -> Iterator[re.Match[str]]:
    """Run a server until the block ends; yields the match of ``ready`` in the line that says that it listens.

    The server has to end when its standard input does: so it never outlives a killed test process.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(environment),
        start_new_session=True,
    )
    told: queue.SimpleQueue[re.Match[str] | None] = queue.SimpleQueue()
    last: deque[str] = deque(maxlen=40)
    reader = threading.Thread(target=_read, args=(process, re.compile(ready), told, last), daemon=True)
    reader.start()
    try:
        yield _listening(process, told, last)
    finally:
        process.kill()
        process.wait()
        reader.join()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _read(
    process: subprocess.Popen[str],
    ready: re.Pattern[str],
    told: queue.SimpleQueue[re.Match[str] | None],
    last: deque[str],
) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        last.append(line)
        found = ready.search(line)
        if found:
            told.put(found)
    told.put(None)


def _listening(
    process: subprocess.Popen[str], told: queue.SimpleQueue[re.Match[str] | None], last: deque[str]
) -> re.Match[str]:
    started = time.monotonic()
    try:
        found = told.get(timeout=START_SECONDS)
    except queue.Empty:
        found = None
    if found is None:
        seconds = time.monotonic() - started
        raise RuntimeError(f"{process.args!r} did not listen within {seconds:.0f} s:\n{''.join(last)}")
    return found


def check_installed() -> None:
    """Raise ``RuntimeError`` where ``scripts/servers.sh`` has not run."""
    if not (SERVERS / ".installed").is_file():
        raise RuntimeError("the test servers are not installed: run scripts/servers.sh (make test does)")
