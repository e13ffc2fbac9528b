"""Two ways to sign in at a provider: by a browser of this machine, or by one on another device."""

from __future__ import annotations

import hmac
import http.server
import secrets
import socketserver
import sys
import time
import urllib.parse
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from aiflow_sdk.errors import AccessError, ConfigurationError, ReceiverError, plural
from aiflow_sdk.service.provider import Provider, SignIn, Tokens, denied, shown

_PATH = "/signed-in"
_STEP_SECONDS = 0.2
_REQUEST_SECONDS = 1.0
"""Browsers open connections that they may use later; meanwhile another one waits."""
_LEAST_INTERVAL_SECONDS = 1.0
_INTERVAL_SECONDS = 5.0
_SLOWER_SECONDS = 5.0
_PAGE = '<!doctype html><meta charset="utf-8"><title>aiflow</title><p>{}</p>'


class BrowserFlow:
    """The code flow with PKCE: the browser comes back to a port of this machine that is open while the block runs.

    Raises ``ConfigurationError`` (``port-taken``).
    """

    def __init__(self, provider: Provider, sign_in: SignIn, *, port: int = 0) -> None:
        self._provider = provider
        self._state, self._nonce, self._verifier = (secrets.token_urlsafe(32) for _ in range(3))
        self._answer: Mapping[str, str] | None = None
        self._strangers = 0
        try:
            self._server = _Server(("127.0.0.1", port), self._handler())
        except OSError as error:
            raise ConfigurationError(
                "port-taken",
                f"port {port} of this machine, which the browser is to come back to, cannot be had: {error.strerror}",
                hint="leave --port out, or name another that the provider lets come back to",
            ) from error
        self._server.timeout = _STEP_SECONDS
        self._redirect = f"http://127.0.0.1:{self._server.server_address[1]}{_PATH}"
        self.page = provider.page(
            sign_in, state=self._state, nonce=self._nonce, verifier=self._verifier, redirect=self._redirect
        )
        """Where somebody signs in."""

    def __enter__(self) -> BrowserFlow:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    def wait(self, seconds: float) -> Tokens:
        """Return the tokens once somebody has signed in.

        Raises ``AccessError`` (``login-denied``, ``login-timeout``), ``ReceiverError``.
        """
        deadline = time.monotonic() + seconds
        while self._answer is None:
            if time.monotonic() >= deadline:
                more = f"; {self._strangers} answers of other sign-ins came" if self._strangers else ""
                raise timed_out(seconds, more)
            self._server.handle_request()
        if error := self._answer.get("error"):
            said = self._answer.get("error_description")
            raise denied(f"nobody was let in: {shown(f'{error}: {said}' if said else error)}")
        form = {
            "grant_type": "authorization_code",
            "code": self._answer["code"],
            "redirect_uri": self._redirect,
            "code_verifier": self._verifier,
        }
        return self._provider.ask_token(form, nonce=self._nonce)

    def _take(self, target: str) -> tuple[HTTPStatus, str]:
        """Take what a browser comes with; of another sign-in's answer nothing is used, and this one is waited for."""
        parts = urllib.parse.urlsplit(target)
        if parts.path != _PATH:
            return HTTPStatus.NOT_FOUND, "There is nothing here."
        told = {name: values[0] for name, values in urllib.parse.parse_qs(parts.query).items()}
        if not hmac.compare_digest(told.get("state", "").encode(), self._state.encode()):
            self._strangers += 1
            return HTTPStatus.BAD_REQUEST, "This sign-in was not begun by the command that waits here: begin again."
        if not told.get("code") and not told.get("error"):
            return HTTPStatus.BAD_REQUEST, "The provider sent no code."
        self._answer = self._answer or told
        return HTTPStatus.OK, "aiflow goes on in the terminal; this page can be closed."

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        flow = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = _REQUEST_SECONDS

            def do_GET(self) -> None:
                status, text = flow._take(self.path)
                body = _PAGE.format(text).encode()
                self.send_response(status)
                for name, value in {
                    "Content-Type": "text/html; charset=utf-8",
                    "Content-Length": str(len(body)),
                    "Cache-Control": "no-store",
                    "Referrer-Policy": "no-referrer",
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Say nothing: the address holds the code."""

        return Handler


class _Server(socketserver.TCPServer):
    """A server that, other than http.server's, asks no name server what this machine is called."""

    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def sign_in_on_device(provider: Provider, sign_in: SignIn, show: Callable[[str, str], None], seconds: float) -> Tokens:
    """Return the tokens once somebody has signed in on another device; ``show`` gets the page and the code to type.

    Raises as :meth:`BrowserFlow.wait`.
    """
    begun = provider.begin_on_device(sign_in)
    show(shown(begun["verification_uri"]), shown(begun["user_code"]))
    interval = max(_seconds(begun.get("interval"), _INTERVAL_SECONDS), _LEAST_INTERVAL_SECONDS)
    seconds = min(seconds, _seconds(begun.get("expires_in"), seconds))
    deadline = time.monotonic() + seconds
    silence: ReceiverError | None = None
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(interval, left))
        try:
            found, silence = provider.ask_device_token(begun["device_code"]), None
        except ReceiverError as error:
            silence = error
            interval += _SLOWER_SECONDS  # as RFC 8628 3.5 has it
            continue
        if isinstance(found, Tokens):
            return found
        match found.word:
            case "authorization_pending":
                continue
            case "slow_down":
                interval += _SLOWER_SECONDS
            case "expired_token":
                break
            case "access_denied":
                raise denied(f"nobody was let in: {shown(found.text)}")
            case _:
                raise found.denial
    raise silence or timed_out(seconds)


def timed_out(seconds: float, more: str = "") -> AccessError:
    """Return the error for a sign-in that nobody has ended in time."""
    return AccessError(
        "login-timeout",
        f"nobody has signed in within {plural(round(seconds), 'second')}{more}",
        hint="try again: aiflow login",
        retryable=True,
    )


def _seconds(value: Any, otherwise: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return min(float(value), 3600.0) if is_number else otherwise
