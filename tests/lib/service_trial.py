"""The metadata service as a process of its own, a client of it, and events to send."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

START_SECONDS = 60.0
_SPECIFICATION = "https://openlineage.io/spec"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


@dataclass
class Service:
    """A running service."""

    process: subprocess.Popen[str]
    host: str
    port: int
    database: str
    log: Path
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.port}"

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask on a connection that is kept; anew where the service has closed it for having been silent."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            return self._ask(self._connection, method, path, body, headers)
        except ConnectionError:  # seen while it is asked, or while the answer is waited for
            self.close()
            self._connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
            return self._ask(self._connection, method, path, body, headers)

    @staticmethod
    def _ask(
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def get(self, path: str, /, **query: Any) -> Any:
        """Return the JSON of an answer that must be 200."""
        answer = self.request("GET", path + (f"?{urlencode(query)}" if query else ""))
        assert answer.status == 200, answer
        return answer.json()

    def pages(self, path: str, /, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of all pages."""
        while True:
            page = self.get(path, **query)
            yield from page["items"]
            if page["next"] is None:
                return
            query["cursor"] = page["next"]

    def send(self, event: Mapping[str, Any] | bytes, **headers: str) -> Answer:
        """Send one event."""
        raw = event if isinstance(event, bytes) else json.dumps(event).encode()
        return self.request("POST", "/api/v1/lineage", raw, {"Content-Type": "application/json", **headers})

    def send_batch(self, events: Sequence[Any]) -> Answer:
        """Send a batch."""
        raw = json.dumps(list(events)).encode()
        return self.request("POST", "/api/v1/lineage/batch", raw, {"Content-Type": "application/json"})

    def dataset(self, name: str, namespace: str = "onelake") -> dict[str, Any]:
        """Return a dataset by one of its names."""
        (found,) = self.get("/api/v1/datasets", namespace=namespace, name=name)["items"]
        whole: dict[str, Any] = self.get(f"/api/v1/datasets/{found['id']}")
        return whole

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def kill(self) -> None:
        """Kill the process at once."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, as Ctrl-C does, and return its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


def start_service(folder: Path, database: str, *arguments: str, python: str | Path = sys.executable) -> Service:
    """Start a service on a free port and return once it answers."""
    number = next(_NUMBERS)
    log = folder / f"service-{number}.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [python, "-m", "aiflow_service", "--port", "0", "--database", database, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=written,
            text=True,
            cwd=folder,  # where its audit's key and checkpoints lie: those of one database are not another's
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        raise RuntimeError(f"the service did not start:\n{log.read_text()[-4000:]}")
    process.stdout.close()
    host, _, port = line.strip().rpartition("//")[2].rpartition(":")
    return Service(process, host, int(port), database, log)


_NUMBERS = itertools.count()


@contextmanager
def running_service(
    folder: Path, database: str, *arguments: str, python: str | Path = sys.executable
) -> Iterator[Service]:
    """Run a service until the block ends; ``python`` of the environment that has it."""
    service = start_service(folder, database, *arguments, python=python)
    try:
        yield service
    finally:
        service.close()
        if service.process.poll() is None:
            service.kill()


def facet(name: str, version: str = "1-0-0", **fields: Any) -> dict[str, Any]:
    """Return a facet of OpenLineage's own."""
    address = f"{_SPECIFICATION}/facets/{version}/{name}.json#/$defs/{name}"
    return {"_producer": "urn:test", "_schemaURL": address, **fields}


def dataset(name: str, namespace: str = "onelake", **facets: Any) -> dict[str, Any]:
    """Return a dataset of an event."""
    return {"namespace": namespace, "name": name, "facets": facets}


def run_event(
    event_type: str = "COMPLETE",
    *,
    job: str = "shop/orders",
    namespace: str = "aiflow/dev",
    run_id: str | None = None,
    at: str = "2026-11-20T10:00:00Z",
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    run_facets: Mapping[str, Any] | None = None,
    job_facets: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a run event; datasets may be given by their names alone."""
    return {
        "eventType": event_type,
        "eventTime": at,
        "producer": "urn:test",
        "schemaURL": f"{_SPECIFICATION}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": run_id or str(uuid.uuid4()), "facets": dict(run_facets or {})},
        "job": {"namespace": namespace, "name": job, "facets": dict(job_facets or {})},
        "inputs": [dataset(one) if isinstance(one, str) else one for one in inputs],
        "outputs": [dataset(one) if isinstance(one, str) else one for one in outputs],
    }


def unique(name: str) -> str:
    """Return a name that no other test uses: all share one service of each kind."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    """Wait until a condition holds, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.05)
