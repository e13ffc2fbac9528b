"""The metadata service as a process, and a load generator that costs little beside it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import uvloop
from measure import DATA, ROOT

T = TypeVar("T")

KEPT = os.environ.get("SERVICE_DATABASES")
"""A folder for databases that take long to fill."""


@dataclass
class Running:
    """A service that runs, and what the system says that it takes."""

    port: int
    pid: int
    ready_seconds: float
    """From the start of the process until it said that it answers."""

    @property
    def megabytes(self) -> float:
        """The most that it ever had."""
        return self._memory("VmHWM")

    @property
    def megabytes_now(self) -> float:
        """What it has now."""
        return self._memory("VmRSS")

    @property
    def cpu_seconds(self) -> float:
        """What it has had of the processors."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _memory(self, name: str) -> float:
        return int(Path(f"/proc/{self.pid}/status").read_text().split(f"{name}:")[1].split()[0]) / 1024


@contextmanager
def service(address: str, *arguments: str) -> Iterator[Running]:
    """Run a service on a database until the block ends."""
    command = [sys.executable, "-m", "aiflow_service", "--port", "0", "--database", address, "--log-level", "WARNING"]
    with TemporaryDirectory() as folder, ExitStack() as stack:  # what it keeps of its own goes with it
        began = time.perf_counter()
        process = stack.enter_context(
            subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True, cwd=folder)
        )
        stack.callback(process.terminate)
        assert process.stdout is not None
        line = process.stdout.readline()
        yield Running(int(line.strip().rpartition(":")[2]), process.pid, time.perf_counter() - began)


@contextmanager
def fresh_databases() -> Iterator[Iterator[tuple[str, str]]]:
    """Give an empty database of each kind, by its name and address."""
    sys.path.insert(0, str(ROOT / "tests" / "lib"))
    from harness.postgres import postgres_server

    DATA.mkdir(parents=True, exist_ok=True)

    def each() -> Iterator[tuple[str, str]]:
        with TemporaryDirectory(dir=DATA) as folder:
            yield "sqlite", f"sqlite:///{folder}/service.db"
        with postgres_server(durable=True) as server:
            yield "postgresql", server.database()

    yield each()


@contextmanager
def filled_databases(name: str, fill: Callable[[str], T]) -> Iterator[Iterator[tuple[str, str, T]]]:
    """Give a database of each kind that ``fill`` has written, and what that returned: something that JSON holds.

    They go with the block, unless ``SERVICE_DATABASES`` names a folder: there they stay, and are taken as they are by
    whoever asks for the same name.
    """
    if KEPT is None:
        with fresh_databases() as databases:
            yield ((kind, address, fill(address)) for kind, address in databases)
        return
    sys.path.insert(0, str(ROOT / "tests" / "lib"))
    from harness.postgres import postgres_server

    folder = Path(KEPT).absolute() / name

    def each() -> Iterator[tuple[str, str, T]]:
        beside = folder / "sqlite"  # where the service keeps the key of its audit too
        said = folder / "sqlite.json"
        if not said.exists():
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
        address = f"sqlite:///{beside}/service.db"
        yield "sqlite", address, _filled(said, fill, address)
        with postgres_server(durable=True, kept=folder / "postgresql") as server:
            said = folder / "postgresql.json"
            address = server.address(name) if said.exists() else server.database(name=name)
            yield "postgresql", address, _filled(said, fill, address)

    yield each()


def _filled(said: Path, fill: Callable[[str], T], address: str) -> T:
    """Return what filling said, or says; written down when it is done, so that half a database is made anew."""
    if not said.exists():
        began = time.perf_counter()
        made = fill(address)
        seconds = time.perf_counter() - began
        print(f"  {said.parent.name}, {said.stem}: filled in {seconds:.0f} s", file=sys.stderr, flush=True)
        said.write_text(json.dumps(made))
    found: T = json.loads(said.read_text())
    return found


class _Asking(asyncio.Protocol):
    """One connection: sends a request, and the next one when it is answered."""

    def __init__(self, requests: Iterator[bytes], times: list[float], done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._times = times
        self._done = done
        self._answer = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a socket's is one that writes
        self._next()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._times.append(time.perf_counter() - self._began)
        if head[9:12] not in (b"200", b"201"):
            self._end(RuntimeError(self._answer[:1000].decode()))
            return
        self._answer = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionError("the service has closed the connection"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._end(None)
            return
        assert self._transport is not None
        self._began = time.perf_counter()
        self._transport.write(request)

    def _end(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None) if error is None else self._done.set_exception(error)
            if self._transport is not None:
                self._transport.close()


def send(port: int, connections: int, requests: Iterator[bytes], seconds: float | None = None) -> list[float]:
    """Send requests over some connections, so many seconds or all; returns the seconds that each took."""
    times: list[float] = []

    def until(deadline: float) -> Iterator[bytes]:
        while time.perf_counter() < deadline and (request := next(requests, None)) is not None:
            yield request

    async def run() -> None:
        loop = asyncio.get_running_loop()
        given = requests if seconds is None else until(time.perf_counter() + seconds)
        ends: Sequence[asyncio.Future[None]] = [loop.create_future() for _ in range(connections)]
        for done in ends:
            await loop.create_connection(lambda done=done: _Asking(given, times, done), "127.0.0.1", port)  # type: ignore[misc]  # mypy takes the default for a parameter
        await asyncio.gather(*ends)

    uvloop.run(run())
    return times


def request_of(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
