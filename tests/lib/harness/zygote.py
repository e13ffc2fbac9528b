"""A process that has imported everything and forks a child for each job: importing polars and delta-rs takes longest.

Run as a program it is the zygote, told by lines of JSON on its standard input, answering by lines on its standard
output; ``Zygote`` is how the tests hold one. Its children take part in the faults of shim.c.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.job import call
from harness.process import ROOT

PRELOADED = ("polars", "pyarrow.parquet", "pyarrow.dataset", "deltalake")
PRELOADED_FOR_SPARK = (*PRELOADED, "pandas", "pysail.spark", "pyspark.sql.connect.session")
"""Sail's server and its client start well in a fork: 0.4 s in place of 5 and more."""
IDLE_THREADS = frozenset({"polars-ooc-clea", "jemalloc_bg_thd"})
"""What imports start and a child can do without: polars' sweeper of spilled files; jemalloc minds forks itself."""
_NO_THREADS = {
    "OPENBLAS_NUM_THREADS": "1",
    "_RJEM_MALLOC_CONF": "background_thread:false",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYTHONPATH": str(ROOT / "tests" / "lib"),
}


class Zygote:
    """Forks children that call functions of Python files. One job at a time."""

    def __init__(self, preloaded: Sequence[str] = PRELOADED) -> None:
        from harness.shim import library

        clean = {name: value for name, value in os.environ.items() if name != "AIFLOW_FAULT_CONTROL"}
        self._process = subprocess.Popen(
            (sys.executable, "-m", "harness.zygote", *preloaded),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**clean, **_NO_THREADS, "LD_PRELOAD": str(library())},
            start_new_session=True,
        )
        try:
            self.start_seconds = float(self._ask(None)["seconds"])
        except RuntimeError:
            self.close()
            raise

    def run(
        self,
        file: str | Path,
        function: str,
        arguments: Sequence[Any],
        *,
        control: Path | None,
        output: Path,
        timeout_seconds: float,
        started: Callable[[int], object] = lambda pid: None,
    ) -> int | None:
        """Call a function in a child, whose process ``started`` is told.

        Returns how it ended as ``subprocess`` says it (``-9``: killed), None after the time-out.
        """
        job = {
            "file": str(file),
            "function": function,
            "arguments": list(arguments),
            "control": str(control) if control else None,
            "output": str(output),
            "timeout_seconds": timeout_seconds,
        }
        started(int(self._ask(job)["pid"]))
        returncode = self._ask(None)["returncode"]
        return None if returncode is None else int(returncode)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _ask(self, message: dict[str, Any] | None) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if message is not None:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the zygote has died: {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _child(job: dict[str, Any]) -> int:
    os.setsid()
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(old, new)
    if job["control"]:
        os.environ["AIFLOW_FAULT_CONTROL"] = job["control"]
        ctypes.CDLL(None).aiflow_fault_attach(os.fsencode(job["control"]))
    try:
        call(job["file"], job["function"], job["arguments"])
    except SystemExit as exit:
        return int(exit.code or 0)
    except BaseException:  # noqa: BLE001  # whatever it is, a child must not go on as the zygote
        import traceback

        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _run(job: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> int | None:
    child = os.fork()
    if child == 0:
        os._exit(_child(job))
    answer({"pid": child})
    descriptor = os.pidfd_open(child)
    try:
        ended, _, _ = select.select([descriptor], [], [], job["timeout_seconds"])
    finally:
        os.close(descriptor)
    try:
        os.killpg(child, signal.SIGKILL)  # what the child has started ends with it
    except ProcessLookupError:
        if not ended:
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if ended else None


def main() -> None:
    """Import, then fork a child for each line."""
    started = time.monotonic()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a chatty import must not be taken for an answer
    for name in sys.argv[1:]:
        importlib.import_module(name)
    threads = {Path(f"/proc/self/task/{thread}/comm").read_text().strip() for thread in os.listdir("/proc/self/task")}
    if threads - {Path("/proc/self/comm").read_text().strip(), *IDLE_THREADS}:
        raise RuntimeError(f"threads run after the imports, and a fork would lose them: {sorted(threads)}")

    def answer(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    answer({"seconds": time.monotonic() - started})
    for line in iter(sys.stdin.readline, ""):
        answer({"returncode": _run(json.loads(line), answer)})


if __name__ == "__main__":
    main()
