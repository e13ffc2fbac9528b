"""Measures what an attempt of a task uses of the machine, as far as the kernel tells: processor time and memory.

What cannot be known is None, never a guess. Where several attempts share a process, nobody can tell whose a thread of a
pool worked for: then the figures are those of the process, and are named so. Needs ``/proc`` for memory (Linux).
"""

from __future__ import annotations

import os
import resource
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

SAMPLE_SECONDS = 0.2
"""How often memory is looked at."""
_SCAN_SECONDS = 1.0
"""How often it is looked for new processes, at most; where that takes long, less often: it costs half a percent."""
_SCAN_SHARE = 0.005
_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")

_servers: set[int] = set()


def note_server(pid: int) -> None:
    """Note that a child process is a server of several attempts, so that it is no part of the one that began it."""
    _servers.add(pid)


class _Process(NamedTuple):
    """What ``/proc/PID/stat`` says (proc_pid_stat(5))."""

    parent: int
    cpu_seconds: float
    """Of children that have ended too."""
    started: float
    """Seconds after the machine's own start."""


class _Sample(NamedTuple):
    moment: float
    process_bytes: int | None
    """Of the process and all that it has started, servers excepted."""
    cgroup_bytes: int | None


class _Memory:
    """The most, and the sum over time, of something that is looked at now and then."""

    def __init__(self) -> None:
        self.peak: int | None = None
        self.byte_seconds: float | None = None
        self._last: tuple[float, int] | None = None

    def take(self, moment: float, size: int | None) -> None:
        if size is None:
            return
        self.peak = max(size, self.peak or 0)
        if self._last:
            before, earlier = self._last
            self.byte_seconds = (self.byte_seconds or 0.0) + (moment - before) * (size + earlier) / 2
        self._last = moment, size


class Meter:
    """Measures one attempt from :meth:`start` to :meth:`stop`. Several may measure at once in one process."""

    def __init__(self, *, is_whole_process: bool = False) -> None:
        """``is_whole_process``: the process was started for this attempt, so all that it has used is the attempt's."""
        self._is_whole_process = is_whole_process
        self._at_once = 1
        self._process = _Memory()
        self._cgroup = _Memory()
        self._server_memory = _Memory()
        self._server: int | None = None
        self._has_server = False
        self._server_cpu: float | None = None
        self._is_server_new = False
        self._cpu_before: tuple[float, dict[int, float]] = (0.0, {})
        self._cgroup_cpu = _cgroup_cpu()
        self._has_own_peak = is_whole_process
        self._began = 0.0
        self._booted = 0.0

    def start(self) -> Meter:
        """Begin; it costs less than a millisecond."""
        self._began, self._booted = time.monotonic(), _since_boot()
        if not self._is_whole_process:
            self._cpu_before = _cpu_used()
        _sampler.add(self)
        return self

    def follow(self, pid: int | None) -> None:
        """Measure, apart, a server that computes for the attempt; None: one that is on another machine."""
        self._has_server = True
        server = _read(pid) if pid is not None else None
        if pid is None or server is None:
            return
        note_server(pid)
        self._is_server_new = server.started >= self._booted - 1 / _TICKS
        self._server_cpu = 0.0 if self._is_server_new else server.cpu_seconds
        self._server_memory.take(time.monotonic(), _memory_of(pid))
        self._server = pid

    def stop(self) -> dict[str, Any]:
        """End, and return the fields of the facet ``aiflow_usage``, JSON-ready."""
        _sampler.remove(self)
        ended = time.monotonic()
        figures = {
            "cpu_seconds": self._cpu_seconds(),
            "peak_memory_bytes": self._peak(),
            "memory_byte_seconds": _rounded(self._process.byte_seconds),
        }
        unknown = dict.fromkeys(figures)
        is_alone = self._at_once == 1
        told: dict[str, Any] = {
            "seconds": round(ended - self._began, 6),
            **(figures if is_alone else unknown),
            "attempts_at_once": self._at_once,
        }
        if not is_alone:
            told["process"] = figures
        if self._has_server:
            told["server"] = self._server_figures() if is_alone else unknown
        if self._cgroup.peak is not None or self._cgroup_cpu is not None:
            after = _cgroup_cpu()
            is_known = self._cgroup_cpu is not None and after is not None
            told["cgroup"] = {
                "cpu_seconds": round((after or 0.0) - (self._cgroup_cpu or 0.0), 6) if is_known else None,
                "peak_memory_bytes": self._cgroup.peak,
                "memory_byte_seconds": _rounded(self._cgroup.byte_seconds),
            }
        return told

    def take(self, sample: _Sample) -> None:
        """Take what was seen of memory."""
        self._process.take(sample.moment, sample.process_bytes)
        self._cgroup.take(sample.moment, sample.cgroup_bytes)
        if self._server is not None:
            self._server_memory.take(sample.moment, _memory_of(self._server))

    def share(self, at_once: int) -> None:
        """Note that so many attempts are at work in this process."""
        self._at_once = max(self._at_once, at_once)

    def own_peak(self) -> None:
        """Let the kernel count the process's peak from now on, where nobody else measures (proc_pid_clear_refs(5))."""
        if not self._is_whole_process:
            with suppress(OSError):
                (_PROC / "self/clear_refs").write_bytes(b"5")
                self._has_own_peak = True

    def _cpu_seconds(self) -> float:
        total, living = _cpu_used()
        before, living_before = self._cpu_before
        # One that became known as a server meanwhile is none of the attempt's processes, before either.
        before += sum(seconds for pid, seconds in living_before.items() if pid not in _servers)
        return round(max(0.0, total + sum(living.values()) - before), 6)

    def _peak(self) -> int | None:
        seen = self._process.peak
        if self._has_own_peak and (own := _peak_of("self")) is not None:
            return max(own, seen or 0)
        return seen

    def _server_figures(self) -> dict[str, Any]:
        cpu, peak = None, self._server_memory.peak
        if self._server is not None and self._server_cpu is not None and (server := _read(self._server)):
            cpu = round(server.cpu_seconds - self._server_cpu, 6)
            if self._is_server_new and (own := _peak_of(str(self._server))) is not None:
                peak = max(own, peak or 0)
        byte_seconds = _rounded(self._server_memory.byte_seconds)
        return {"cpu_seconds": cpu, "peak_memory_bytes": peak, "memory_byte_seconds": byte_seconds}


class _Sampler:
    """Looks at memory now and then, in one thread, as long as anybody measures."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._meters: list[Meter] = []
        self._wake = threading.Event()
        self._descendants: set[int] = set()
        self._next_scan = 0.0

    def add(self, meter: Meter) -> None:
        with self._lock:
            self._meters.append(meter)
            for one in self._meters:
                one.share(len(self._meters))
            if len(self._meters) == 1:
                meter.own_peak()
                self._next_scan = 0.0
                self._wake = threading.Event()
                threading.Thread(target=self._run, args=(self._wake,), name="usage", daemon=True).start()
            meter.take(self._sample())

    def remove(self, meter: Meter) -> None:
        with self._lock:
            if meter in self._meters:
                meter.take(self._sample())
                self._meters.remove(meter)
                if not self._meters:
                    self._wake.set()

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(SAMPLE_SECONDS):
            with self._lock:
                if ended.is_set():
                    return
                sample = self._sample()
                for meter in self._meters:
                    meter.take(sample)

    def _sample(self) -> _Sample:
        now = time.monotonic()
        size = _memory_of("self")
        if size is not None and _has_children():
            if now >= self._next_scan:
                self._descendants = _descendants()
                self._next_scan = now + max(_SCAN_SECONDS, (time.monotonic() - now) / _SCAN_SHARE)
            size += sum(_memory_of(pid) or 0 for pid in self._descendants)
        return _Sample(now, size, _cgroup_memory())


_sampler = _Sampler()


def _cpu_used() -> tuple[float, dict[int, float]]:
    """Return the processor time of this process and its children that have ended, and of each that lives."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    living = {pid: one.cpu_seconds for pid in (_descendants() if _has_children() else ()) if (one := _read(pid))}
    return total, living


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _descendants() -> set[int]:
    """Return the processes that this one has started, and those that these have; not servers and what is theirs."""
    with suppress(OSError):
        processes = {int(name): one for name in os.listdir(_PROC) if name.isdecimal() and (one := _read(name))}
        found: set[int] = set()
        parents = {os.getpid()}
        while parents:
            parents = {pid for pid, one in processes.items() if one.parent in parents} - found - _servers
            found |= parents
        return found
    return set()


def _read(pid: int | str) -> _Process | None:
    text = _text(_PROC / str(pid) / "stat")
    if text is None:
        return None
    fields = text.rpartition(") ")[2].split()  # the command's name may hold anything
    cpu = sum(map(int, fields[11:15])) / _TICKS
    return _Process(int(fields[1]), cpu, int(fields[19]) / _TICKS)


def _memory_of(pid: int | str) -> int | None:
    text = _text(_PROC / str(pid) / "statm")
    return int(text.split()[1]) * _PAGE_BYTES if text else None


def _peak_of(pid: str) -> int | None:
    for line in (_text(_PROC / pid / "status") or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def _cgroup(name: str, root: Path | None = None) -> str | None:
    """Return what a file of this process's cgroup holds, of the unified hierarchy (cgroups(7), version 2)."""
    for line in (_text(_PROC / "self/cgroup") or "").splitlines():
        if line.startswith("0::/"):
            return _text((root or _CGROUPS) / line.removeprefix("0::/") / name)
    return None


def _cgroup_memory() -> int | None:
    # The root of the machine has no such file: what all of it does is no task's.
    text = _cgroup("memory.current") if _has_cgroup() else None
    return int(text) if text else None


def _cgroup_cpu() -> float | None:
    for line in (_cgroup("cpu.stat") or "").splitlines() if _has_cgroup() else ():
        if line.startswith("usage_usec "):
            return int(line.split()[1]) / 1e6
    return None


_cgroup_is_there: bool | None = None


def _has_cgroup() -> bool:
    global _cgroup_is_there
    if _cgroup_is_there is None:
        _cgroup_is_there = _cgroup("memory.current") is not None
    return _cgroup_is_there


def _text(path: Path) -> str | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(handle, 65536).decode("utf-8", "replace")
    except OSError:
        return None  # it has ended meanwhile
    finally:
        os.close(handle)


def _since_boot() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
