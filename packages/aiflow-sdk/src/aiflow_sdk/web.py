"""A server that is called over HTTP, with the standard library: past or through proxies, and no redirect is followed.

A login would be handed to whoever a redirect names. A machine's own address is called past any proxy; for others the
variables ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY`` count, as everywhere in Python.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import socket
import urllib.parse
import urllib.request
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple


class Reply(NamedTuple):
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    """By their names in small letters."""
    content: bytes


class TooLong(Exception):  # noqa: N818 it is an answer
    """A server's answer is longer than whoever asked has use for."""


class WebServer:
    """One server. Any thread may call it; each request has a connection to itself."""

    def __init__(self, address: str, *, keeps_open: bool = False, most_bytes: int | None = None) -> None:
        """``keeps_open``: a connection serves the next request too.

        For requests that may be sent twice: a server may have closed it meanwhile, which is seen only by trying.
        ``most_bytes``: how long an answer may be; None: as long as it is.
        """
        self.address = address.rstrip("/")
        self._keeps_open = keeps_open
        self._most_bytes = most_bytes
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._finalizer = weakref.finalize(self, _close_all, self._idle)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float,
        connect_seconds: float | None = None,
    ) -> Reply:
        """Return the answer to a request, whatever its status; ``path`` is below the server's address.

        Raises ``OSError`` or ``http.client.HTTPException`` where there was none, ``ValueError`` for a wrong address,
        :class:`TooLong`.
        """
        parts = urllib.parse.urlsplit(self.address)
        proxy = _proxy_of(parts)
        target = f"{parts.path}/{path}"
        sent = {"User-Agent": "aiflow", **(headers or {})}
        if proxy and parts.scheme == "http":
            target = f"http://{parts.netloc}{target}"
            sent |= _login_of(proxy)
        if not self._keeps_open:
            sent["Connection"] = "close"
        if connection := self._take_idle():
            # Else the server has closed it since, which is the one fault that is mended here.
            with suppress(ConnectionError, http.client.BadStatusLine):
                return self._ask(connection, method, target, body, sent, timeout_seconds)
        connection = _connection(parts, proxy, min(timeout_seconds, connect_seconds or timeout_seconds))
        return self._ask(connection, method, target, body, sent, timeout_seconds)

    def close(self) -> None:
        """Close the connections that are open and not in use."""
        _close_all(self._idle)

    def _take_idle(self) -> http.client.HTTPConnection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_seconds: float,
    ) -> Reply:
        try:
            connection.sock.settimeout(timeout_seconds)
            connection.request(method, target, body, dict(headers))
            with connection.getresponse() as response:
                found = {name.lower(): value for name, value in response.headers.items()}
                reply = Reply(response.status, found, self._read(response))
        except BaseException:  # whatever ended it, the connection is no use any more; it goes on up
            connection.close()
            raise
        if self._keeps_open and connection.sock is not None:  # http.client has closed it where the server will
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        if self._most_bytes is None:
            return response.read()
        content = response.read(self._most_bytes)
        if len(content) == self._most_bytes and response.read(1):
            raise TooLong(f"its answer is longer than {self._most_bytes:,} bytes")
        return content


def is_loopback(host: str) -> bool:
    """Tell whether a host, by name or address, is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_open_road(address: str) -> bool:
    """Tell whether a token that is sent to an address could be read on its way: plain http, to another machine."""
    try:
        host = urllib.parse.urlsplit(address).hostname or ""
    except ValueError:  # as http://[x, which is no machine's
        host = ""
    return address.startswith("http:") and not is_loopback(host)


def _close_all(connections: deque[http.client.HTTPConnection]) -> None:
    with suppress(IndexError):
        while True:
            connections.pop().close()


def _connection(
    parts: urllib.parse.SplitResult, proxy: urllib.parse.SplitResult | None, timeout_seconds: float
) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    host, port = parts.hostname, parts.port
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{parts.geturl()!r} is not the address of a web server")
    if proxy is None:
        connection = kind(host, port, timeout=timeout_seconds)
    else:
        connection = kind(proxy.hostname or "", proxy.port or 80, timeout=timeout_seconds)
        if parts.scheme == "https":
            connection.set_tunnel(host, port, headers=_login_of(proxy))
    # Else a small body waits for the header's acknowledgement.
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _proxy_of(parts: urllib.parse.SplitResult) -> urllib.parse.SplitResult | None:
    if is_loopback(parts.hostname or ""):
        return None
    stated = urllib.request.getproxies().get(parts.scheme)
    if not stated or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return urllib.parse.urlsplit(stated if "://" in stated else f"http://{stated}")


def _login_of(proxy: urllib.parse.SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    unquote = urllib.parse.unquote
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
