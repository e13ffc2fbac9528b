"""A receiver of OpenLineage events over HTTP that a test can start, stop and tell what to answer."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jsonschema

FACETS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "required": ["_producer", "_schemaURL"],
        "properties": {"_producer": {"format": "uri"}, "_schemaURL": {"format": "uri"}},
    },
}
DATASETS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["namespace", "name"],
        "properties": {
            "namespace": {"type": "string"},
            "facets": FACETS,
            "inputFacets": FACETS,
            "outputFacets": FACETS,
        },
    },
}
RUN_EVENT = {
    "type": "object",
    "required": ["eventTime", "producer", "schemaURL", "run", "job"],
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "format": "date-time"},
        "producer": {"type": "string", "format": "uri"},
        "schemaURL": {"type": "string", "format": "uri"},
        "run": {
            "type": "object",
            "required": ["runId"],
            "properties": {"runId": {"type": "string", "format": "uuid"}, "facets": FACETS},
        },
        "job": {
            "type": "object",
            "required": ["namespace", "name"],
            "properties": {"namespace": {"type": "string"}, "name": {"type": "string"}, "facets": FACETS},
        },
        "inputs": DATASETS,
        "outputs": DATASETS,
    },
}
"""What the specification 2-0-2 demands of a run event, restated."""

_VALIDATOR = jsonschema.Draft202012Validator(RUN_EVENT, format_checker=jsonschema.FormatChecker())

Answer = tuple[int, dict[str, str], Any]
"""Status, headers, and a body for JSON."""


class Receiver(ThreadingHTTPServer):
    """Takes events as the specification has it, and counts each once."""

    daemon_threads = True

    def __init__(self, port: int = 0, *, takes_batches: bool = True, takes_gzip: bool = True, is_strict: bool = True):
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.takes_batches, self.takes_gzip, self.is_strict = takes_batches, takes_gzip, is_strict
        self.heard: list[dict[str, Any]] = []
        """Every event that was taken, as often as it came."""
        self.requests: list[tuple[str, dict[str, str], int]] = []
        """Path, headers, and how many events, of each request."""
        self.connections = 0
        self.answers: list[Answer | None] = []
        """What the next requests are answered, whatever they hold; None: as always."""
        self.judge: Callable[[dict[str, Any]], Answer | None] = lambda event: None
        """Says what is wrong with an event."""
        self.pause_seconds = 0.0
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        self._open.append(request)
        super().process_request(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        for connection in self._open:  # kept open by those who would go on
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        time.sleep(self.pause_seconds)
        if headers.get("content-encoding") == "gzip":
            if not self.takes_gzip:
                return self._said(path, headers, 0, (415, {}, {"detail": "no gzip here"}))
            body = gzip.decompress(body)
        events = json.loads(body)
        many = events if isinstance(events, list) else [events]
        with self._lock:
            told = self.answers.pop(0) if self.answers else None
        if told:
            return self._said(path, headers, len(many), told)
        is_batch = path.endswith("/api/v1/lineage/batch")
        if (is_batch and not self.takes_batches) or not (is_batch or path.endswith("/api/v1/lineage")):
            return self._said(path, headers, len(many), (404, {}, {"detail": "Not Found"}))
        failed = []
        for index, event in enumerate(many):
            wrong = self.judge(event)
            if wrong is None and self.is_strict:
                _VALIDATOR.validate(event)
            if wrong is None:
                with self._lock:
                    self.heard.append(event)
            elif not is_batch or wrong[0] >= 500:
                return self._said(path, headers, len(many), wrong)
            else:
                failed.append({"index": index, "reason": wrong[2]["detail"], "retriable": False})
        return self._said(path, headers, len(many), (200, {}, {"failed_events": failed} if is_batch else None))

    def _said(self, path: str, headers: dict[str, str], events: int, answer: Answer) -> Answer:
        with self._lock:
            self.requests.append((path, headers, events))
        return answer


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, headers, data = self.server.answer(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        content = b"" if data is None else json.dumps(data).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def running(port: int = 0, **options: Any) -> Iterator[Receiver]:
    """Yield a receiver that serves, at this port (0: a free one)."""
    with Receiver(port, **options) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()
