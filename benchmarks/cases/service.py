"""The metadata service: events taken in over HTTP, on both databases."""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import DATA, ROOT, Row

SECONDS = float(os.environ.get("SERVICE_SECONDS", "10"))
JOBS, TABLES = 1_000, 2_000


def service_ingest() -> list[Row]:
    """Events of 4 kB with ten datasets, durable when acknowledged: one a request on 32 connections, and 100 on four."""
    rows = []
    for kind, address in databases():
        with running_service(address) as process:
            for name, connections, size, bound in (("single", 32, 1, 1_000), ("batches", 4, 100, 3_000)):
                before = process.cpu_seconds
                rate, times, sent = asyncio.run(_load(process.port, connections, size))
                cpu = 1000 * (process.cpu_seconds - before) / sent
                p50, p95 = percentiles(times)
                told = f"{rate:.0f}/s"
                print(
                    f"  {kind} {name}: {told}, p50 {p50:.1f} ms, p95 {p95:.1f} ms, "
                    f"{cpu:.2f} ms of a processor an event, {process.megabytes:.0f} MB",
                    file=sys.stderr,
                )
                rows.append(Row(f"ingest_{kind}_{name}", told, f"{bound}/s", rate / bound, "≥ 1", rate >= bound))
    return rows


def percentiles(times: list[float]) -> tuple[float, float]:
    """Return the median and the 95th percentile in milliseconds."""
    return 1000 * statistics.median(times), 1000 * statistics.quantiles(times, n=20)[-1]


def databases() -> Iterator[tuple[str, str]]:
    """Yield an empty database of each kind, with its address."""
    sys.path.insert(0, str(ROOT / "tests" / "lib"))
    from harness.postgres import postgres_server

    DATA.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=DATA) as folder:
        yield "sqlite", f"sqlite:///{folder}/service.db"
    with postgres_server(durable=True) as server:
        yield "postgresql", server.database()


@dataclass
class Running:
    """A service that runs, and what the system says that it takes."""

    port: int
    pid: int

    @property
    def megabytes(self) -> float:
        """The most that it ever had."""
        return int(Path(f"/proc/{self.pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

    @property
    def cpu_seconds(self) -> float:
        """What it has had of the processors."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running_service(address: str, *arguments: str) -> Iterator[Running]:
    """Run the service until the block ends."""
    command = [sys.executable, "-m", "aiflow_service", "--port", "0", "--database", address, "--log-level", "WARNING"]
    command += arguments
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(process.terminate)
        assert process.stdout is not None
        yield Running(int(process.stdout.readline().strip().rpartition(":")[2]), process.pid)


def _event(dice: random.Random) -> bytes:
    job = int(JOBS * dice.random() ** 2)
    schema = {
        "_producer": "urn:bench",
        "_schemaURL": "https://openlineage.io/spec/facets/1-2-0/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet",
        "fields": [{"name": f"column_{number}", "type": "string"} for number in range(5)],
    }
    tables = [
        {"namespace": "bench", "name": f"t{(job * 7 + n * n * 3) % TABLES}", "facets": {"schema": schema}}
        for n in range(10)
    ]
    event = {
        "eventType": dice.choice(["START", "COMPLETE"]),
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime()) + f"{dice.randrange(10**6):06}Z",
        "producer": "urn:bench",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": str(uuid.UUID(int=dice.getrandbits(128))), "facets": {}},
        "job": {"namespace": "bench", "name": f"job{job}"},
        "inputs": tables[:5],
        "outputs": tables[5:],
    }
    return json.dumps(event).encode()


async def _load(port: int, connections: int, size: int) -> tuple[float, list[float], int]:
    """Send for some seconds; returns events a second, the seconds of each request, and the events of all."""
    dice = random.Random(size)
    prepared = [_event(dice) for _ in range(2_000)]
    times: list[float] = []
    sent = 0
    deadline = 0.0

    def body() -> bytes:
        """Return new events: of those prepared, each with a run id of its own."""
        made = []
        for _ in range(size):
            event = prepared[dice.randrange(len(prepared))]
            at = event.index(b'"runId": "') + 10
            made.append(event[:at] + str(uuid.UUID(int=dice.getrandbits(128))).encode() + event[at + 36 :])
        return made[0] if size == 1 else b"[" + b",".join(made) + b"]"

    async def sender() -> None:
        nonlocal sent
        ask = await connect(port)
        path = "/api/v1/lineage" if size == 1 else "/api/v1/lineage/batch"
        while time.perf_counter() < deadline:
            told = body()
            began = time.perf_counter()
            await ask("POST", path, told)
            times.append(time.perf_counter() - began)
            sent += size

    warmed = 0
    for length in (2.0, SECONDS):  # the first is to warm up
        times.clear()
        warmed, sent = sent, 0
        began = time.perf_counter()
        deadline = began + length
        await asyncio.gather(*(sender() for _ in range(connections)))
    return sent / (time.perf_counter() - began), times, sent + warmed


async def connect(port: int, token: str | None = None) -> Callable[[str, str, bytes], Awaitable[bytes]]:
    """Return what asks on one connection that is kept: method, path, body."""
    kind = "Content-Type: application/json\r\n"
    login = f"Authorization: Bearer {token}\r\n" if token else ""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)

    async def ask(method: str, path: str, body: bytes) -> bytes:
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{login}{kind}Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        answer = await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        assert head.split()[1] in ("200", "201"), answer
        return answer

    return ask
