"""A server that is called over HTTP: through a proxy where one is named, on kept connections, past every redirect."""

import base64
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aiflow_sdk.web import WebServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.command, self.path, self.headers))
        self.send_response(301 if self.path == "/moved" else 200)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def do_CONNECT(self):
        self.server.asked.append((self.command, self.path, self.headers))
        self.send_error(403)

    def log_message(self, *arguments):
        pass


@contextmanager
def serving():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def get(address: str, path: str = "a"):
    server = WebServer(address)
    return server.request("GET", path, timeout_seconds=5)


@pytest.fixture
def proxy(monkeypatch):
    with serving() as server:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://ana:p%40ss@127.0.0.1:{server.server_address[1]}")
            monkeypatch.delenv(name.upper(), raising=False)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield server


def test_a_proxy_is_asked_for_another_machine_with_its_login(proxy):
    assert get("http://elsewhere.invalid:81/below").content == b"ok"
    ((command, path, headers),) = proxy.asked
    assert (command, path) == ("GET", "http://elsewhere.invalid:81/below/a")
    assert headers["Host"] == "elsewhere.invalid:81"
    assert base64.b64decode(headers["Proxy-Authorization"].split()[1]) == b"ana:p@ss"


def test_through_a_proxy_the_other_end_of_https_is_asked_for(proxy):
    with pytest.raises(OSError, match="403"):
        get("https://elsewhere.invalid/")
    ((command, path, headers),) = proxy.asked
    assert (command, path) == ("CONNECT", "elsewhere.invalid:443")
    assert headers["Proxy-Authorization"].startswith("Basic ")


def test_no_proxy_is_asked_for_this_machine_or_for_whom_no_proxy_names(proxy, monkeypatch):
    with serving() as server:
        assert get(f"http://127.0.0.1:{server.server_address[1]}").content == b"ok"
        assert len(server.asked) == 1
    monkeypatch.setenv("no_proxy", "elsewhere.invalid")
    with pytest.raises(socket.gaierror):
        get("http://elsewhere.invalid/")
    assert proxy.asked == []


def test_a_redirect_is_an_answer():
    with serving() as server:
        reply = get(f"http://127.0.0.1:{server.server_address[1]}", "moved")
    assert (reply.status, reply.headers["location"]) == (301, "http://127.0.0.1:1/")


@pytest.mark.parametrize("address", ["ftp://x", "http://", "x", "http://x:y", "http://[::1"])
def test_a_wrong_address_is_a_value_error(address):
    with pytest.raises(ValueError, match=r"is not the address of a web server|Port could not be cast|Invalid IPv6"):
        get(address)
