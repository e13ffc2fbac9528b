"""The preloaded library that counts, kills, fills and forbids (shim.c), and the file by which it is told what to do."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from harness.process import ROOT

When = Literal["before", "after", "torn"]
"""Around the step; ``torn`` stops a write half way through its bytes, and is ``before`` for any other call."""

_SOURCE = Path(__file__).with_name("shim.c")
_HEADER = struct.Struct("=10q4096s")
_TRACE_BYTES = 1 << 22
_WHEN: dict[When, int] = {"before": 0, "after": 1, "torn": 2}


_LINE = re.compile(r"(\d+)\t(\w+)\t(-?\d+)\t(.*)")


@dataclass(frozen=True)
class Step:
    """One call below the root."""

    number: int
    """From 1; 0 for a read, which is no step."""
    call: str
    """``open`` (to change), ``write``, ``close``, ``fsync``, ``rename``, ``link``, ``unlink``, ``mkdir``, ``rmdir``,
    ``truncate``, ``allocate``, ``copy``; of reads ``open_to_read``, ``read``, ``map``."""
    size: int
    """Bytes that were to be written, or were read or mapped."""
    path: str


@dataclass(frozen=True)
class Faults:
    """What befalls a process, and the processes that it starts, in the files below ``root``."""

    root: Path
    kill_at: int = 0
    """The step; 0 for none."""
    when: When = "before"
    kill_group: bool = True
    """Kill the whole process group, as when a machine dies, or only the process (of several) that takes the step."""
    disk_bytes: int | None = None
    """So many bytes can be written, then ENOSPC. What is deleted frees none."""
    denied: int = 0
    """The errno of every change, as EROFS or EACCES."""
    clock_seconds: int = 0
    """Added to the clock of the day; the times of files stay the kernel's."""
    reads: bool = False
    """Trace reads too."""


class Control:
    """The control file of one run."""

    def __init__(self, path: Path, faults: Faults) -> None:
        self.path = path
        header = _HEADER.pack(
            0,
            faults.kill_at,
            _WHEN[faults.when],
            faults.kill_group,
            -1 if faults.disk_bytes is None else faults.disk_bytes,
            faults.denied,
            faults.clock_seconds,
            faults.reads,
            0,
            _HEADER.size + _TRACE_BYTES,
            os.fsencode(faults.root.resolve()),
        )
        with path.open("wb") as file:
            file.write(header)
            file.truncate(_HEADER.size + _TRACE_BYTES)

    def environment(self) -> dict[str, str]:
        """Return the variables by which a new process obeys."""
        return {"LD_PRELOAD": str(library()), "AIFLOW_FAULT_CONTROL": str(self.path)}

    def steps(self) -> list[Step]:
        """Return what has been traced so far."""
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            length = _HEADER.unpack_from(content)[8]
            if length > _TRACE_BYTES:
                raise RuntimeError(f"a trace of {length} bytes does not fit into {_TRACE_BYTES}")
            trace = content[_HEADER.size : _HEADER.size + length]
        # A thread that dies while it writes its line leaves a hole, or the beginning of a line.
        lines = map(_LINE.fullmatch, os.fsdecode(trace.replace(b"\0", b"")).splitlines())
        return [Step(int(one[1]), one[2], int(one[3]), one[4]) for one in lines if one]

    def count(self) -> int:
        """Return how many steps have been taken so far."""
        with self.path.open("rb") as file:
            return int(_HEADER.unpack(file.read(_HEADER.size))[0])


@cache
def library() -> Path:
    """Return the compiled library, compiled at its first use."""
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    path = ROOT / "build" / "harness" / f"shim-{digest}.so"
    if path.is_file():
        return path
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("there is no C compiler: run scripts/servers.sh (make test does)")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # another process may be compiling it as well
        made = Path(folder) / path.name
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", made, _SOURCE, "-ldl"], check=True)
        made.replace(path)
    return path


def run_with_faults(
    command: list[str] | tuple[str, ...],
    faults: Faults,
    *,
    timeout_seconds: float = 60.0,
    environment: Mapping[str, str] | None = None,
) -> tuple[subprocess.CompletedProcess[str], list[Step]]:
    """Run a command under faults to its end; return how it ended (output of both streams joined) and its steps."""
    with tempfile.TemporaryDirectory() as folder:
        control = Control(Path(folder) / "control", faults)
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {}), **control.environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout_seconds,
            start_new_session=True,
        )
        return done, control.steps()
