"""A reverse proxy that answers, breaks off or waits as planned, and writes down every request.

It passes on what it gets as it came, the ``Host`` header too, so signatures stay valid. Only plain HTTP.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

ONE_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "proxy-connection"})
UPSTREAM_SECONDS = 120


@dataclass(frozen=True)
class Answer:
    """Answers in the server's place, which never hears of it. ``code`` is S3's or Azure's name of the error."""

    status: int
    code: str = "InternalError"
    headers: tuple[tuple[str, str], ...] = ()


SERVER_ERROR = Answer(500, "InternalError")
SLOW_DOWN = Answer(503, "SlowDown")
EXPIRED_TOKEN = Answer(400, "ExpiredToken")
"""S3 gives it with 400, not 403."""
INVALID_KEY = Answer(403, "InvalidAccessKeyId")
SERVER_BUSY = Answer(503, "ServerBusy")
"""Azure's ``SlowDown``."""
AUTHENTICATION_FAILED = Answer(403, "AuthenticationFailed")
"""Azure's word for an expired credential."""


@dataclass(frozen=True)
class Hang:
    """Takes the request and says nothing for so long, then breaks off; the server never hears of it."""

    seconds: float = 3600.0


@dataclass(frozen=True)
class DropRequest:
    """Breaks off after so many bytes of the request's body; the server never hears of it."""

    after_bytes: int = 0


@dataclass(frozen=True)
class DropAnswer:
    """Passes the request on, so that it takes effect, and breaks off within the answer."""

    after_bytes: int = -1
    """So many of its body come; -1: nothing at all."""


@dataclass(frozen=True)
class Call:
    """Calls functions before the request is passed on and after it has taken effect, before its answer is.

    Where one returns False the connection is broken off there.
    """

    before: Callable[[], object] | None = None
    after: Callable[[], object] | None = None


Fault = Answer | Hang | DropRequest | DropAnswer | Call


@dataclass
class Request:
    """What came, and what became of it."""

    number: int
    """From 1, in the order in which requests came."""
    method: str
    path: str
    """Decoded, without the query."""
    query: str
    range: str | None
    sent_bytes: int = 0
    """Of the request's body, as far as it was read."""
    got_bytes: int = 0
    """Of the answer's body, as far as it was given."""
    status: int | None = None
    """None while it runs or where it was broken off."""
    fault: Fault | None = None


@dataclass
class _Rule:
    method: re.Pattern[str]
    path: re.Pattern[str]
    fault: Fault
    first: int
    times: int | None
    seen: int = 0

    def takes(self, request: Request) -> bool:
        target = f"{request.path}?{request.query}" if request.query else request.path
        if not (self.method.fullmatch(request.method) and self.path.search(target)):
            return False
        self.seen += 1
        return self.seen >= self.first and (self.times is None or self.seen < self.first + self.times)


@dataclass
class Proxy:
    """A running proxy."""

    endpoint: str
    """``http://127.0.0.1:…``: give it to a place's ``options`` or ``storage``."""
    requests: list[Request] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)
    _running: set[int] = field(default_factory=set)

    def plan(self, fault: Fault, method: str = ".*", path: str = "", first: int = 1, times: int | None = 1) -> None:
        """Let a fault befall requests from the ``first`` that matches on, so many ``times`` (None: for ever).

        ``method`` matches whole, ``path`` anywhere in the decoded path and raw query. Of several plans that match, the
        first counts.
        """
        with self._lock:
            self._rules.append(_Rule(re.compile(method), re.compile(path), fault, first, times))

    def clear(self) -> None:
        """Forget all plans and all requests."""
        with self._lock:
            self._rules.clear()
            self.requests.clear()

    def seen(self, method: str = ".*", path: str = "") -> list[Request]:
        """Return the requests that match."""
        with self._lock:
            return [
                found for found in self.requests if re.fullmatch(method, found.method) and re.search(path, found.path)
            ]

    def bytes_got(self, path: str = "") -> int:
        """Return how many bytes of bodies readers have got."""
        return sum(request.got_bytes for request in self.seen("GET", path))

    def settle(self, timeout_seconds: float = 30.0) -> None:
        """Wait until no request is under way: what a dead client has sent may still be on its way to the server."""
        end = time.monotonic() + timeout_seconds
        while self._running:
            if time.monotonic() > end:
                raise TimeoutError(f"requests {sorted(self._running)} are still under way")
            time.sleep(0.002)

    def record(self, method: str, target: str, byte_range: str | None) -> Request:
        """Write a request down and decide what befalls it."""
        address = urlsplit(target)
        with self._lock:
            request = Request(len(self.requests) + 1, method, unquote(address.path), address.query, byte_range)
            self.requests.append(request)
            self._running.add(id(request))
            taking = [rule for rule in self._rules if rule.takes(request)]
            request.fault = taking[0].fault if taking else None
        return request


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: Proxy
    upstream: tuple[str, int]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away, killed or not, are no news."""


class _BrokenOffError(Exception):
    """The connection is to be broken off."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: ``Proxy.requests`` holds it."""

    def parse_request(self) -> bool:
        """Handle every method alike."""
        if not super().parse_request():
            return False
        setattr(self, f"do_{self.command}", self._handle)
        return True

    def _handle(self) -> None:
        request = self.server.proxy.record(self.command, self.path, self.headers.get("range"))
        try:
            self._befall(request)
        except _BrokenOffError:
            self.close_connection = True
            # Reset, as when a machine dies, and not closed in good order.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            self.close_connection = True  # the client has gone before its answer came
        finally:
            self.server.proxy._running.discard(id(request))

    def _befall(self, request: Request) -> None:
        fault = request.fault
        if isinstance(fault, DropRequest):
            self._read(request, fault.after_bytes)
            raise _BrokenOffError
        body = self._read(request)
        if isinstance(fault, Hang):
            self._wait(fault.seconds)
            raise _BrokenOffError
        if isinstance(fault, Answer):
            text = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>planned</Message></Error>".encode()
            headers = [("x-ms-error-code", fault.code), ("content-type", "application/xml"), *fault.headers]
            self._answer(request, fault.status, "planned", [*headers, ("content-length", str(len(text)))], text)
            return
        if isinstance(fault, Call) and fault.before and fault.before() is False:
            raise _BrokenOffError
        status, reason, headers, content = self._forward(body)
        if isinstance(fault, Call) and fault.after and fault.after() is False:
            raise _BrokenOffError
        if isinstance(fault, DropAnswer) and fault.after_bytes < 0:
            raise _BrokenOffError
        dropped = isinstance(fault, DropAnswer)
        part = content[: fault.after_bytes] if isinstance(fault, DropAnswer) else content
        self._answer(request, status, reason, headers, part)
        if dropped:
            self.wfile.flush()
            time.sleep(0.05)  # a reset overtakes what the other side has not read yet
            raise _BrokenOffError

    def _wait(self, seconds: float) -> None:
        """Wait, but not for a client that has gone, nor longer than the proxy lives."""
        end = time.monotonic() + seconds
        self.connection.settimeout(0.05)
        while time.monotonic() < end and not self.server.proxy._closed.is_set():
            try:
                if not self.connection.recv(1, socket.MSG_PEEK):
                    return
                time.sleep(0.05)
            except TimeoutError:
                continue
            except OSError:
                return

    def _read(self, request: Request, at_most: int | None = None) -> bytes:
        length = int(self.headers.get("content-length") or 0)
        if "transfer-encoding" in self.headers:
            raise _BrokenOffError  # S3 wants a length too
        body = self.rfile.read(length if at_most is None else min(length, at_most))
        request.sent_bytes = len(body)
        if at_most is None and len(body) < length:
            raise _BrokenOffError  # the client has gone
        return body

    def _forward(self, body: bytes) -> tuple[int, str, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(*self.server.upstream, timeout=UPSTREAM_SECONDS)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ONE_HOP:
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            raise _BrokenOffError from None
        finally:
            upstream.close()
        headers = [
            (name, value) for name, value in answer.getheaders() if name.lower() not in (*ONE_HOP, "content-length")
        ]
        length = answer.getheader("content-length") if self.command == "HEAD" else str(len(content))
        if answer.status not in (204, 304) and length is not None:
            headers.append(("content-length", length))
        return answer.status, answer.reason, headers, content

    def _answer(
        self, request: Request, status: int, reason: str, headers: list[tuple[str, str]], content: bytes
    ) -> None:
        self.send_response_only(status, reason)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        request.status = status
        if self.command != "HEAD":
            self.wfile.write(content)
            request.got_bytes = len(content)
        self.wfile.flush()


@contextmanager
def fault_proxy(upstream: str) -> Iterator[Proxy]:
    """Run a proxy before the server at ``http://127.0.0.1:…`` until the block ends."""
    address = urlsplit(upstream)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    server.upstream = (address.hostname or "", address.port or 80)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.proxy
    finally:
        server.proxy._closed.set()
        server.shutdown()
        server.server_close()
        thread.join()
