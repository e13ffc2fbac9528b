"""What every request passes through: who may knock in local mode, trace ids, the log and the figures."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

from prometheus_client import Histogram
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiflow_sdk.web import is_loopback
from aiflow_service.api.figures import REQUESTS
from aiflow_service.api.problem import problem_response
from aiflow_service.audit import Caller, Entry
from aiflow_service.database.protection import SEES, SEES_NOTHING
from aiflow_service.logs import ORIGIN, TRACE_ID
from aiflow_service.masking import hide_secrets_in_text

_LOG = logging.getLogger("aiflow_service.requests")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""What is counted by its name: whoever may knock may make others up."""
_QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/api/v1/lineage", "/api/v1/lineage/batch"})
"""Routes that are asked so often that the log tells only of their failures."""


class Passage:
    """The outermost layer of the app. ``local``: nobody signs in, so only this machine's own names are answered to."""

    def __init__(self, app: ASGIApp, *, local: bool, on_denied: Callable[[Entry], None]) -> None:
        self._app = app
        self._local = local
        self._on_denied = on_denied

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        found = _TRACEPARENT.fullmatch(headers.get(b"traceparent", b""))
        trace_id = found[1].decode() if found else f"{random.getrandbits(128):032x}"
        token = TRACE_ID.set(trace_id)
        ORIGIN.set((scope.get("client") or ("",))[0] or None)
        SEES.set(SEES_NOTHING)
        began = time.perf_counter()
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-trace-id", trace_id.encode()))
            await send(message)

        try:
            if self._local and (stranger := _stranger(headers)):
                await self._record(scope, stranger, trace_id)
                detail = f"without sign-in the service answers to this machine alone, not to {stranger}"
                await problem_response(403, "foreign-origin", detail)(scope, receive, note)
            else:
                await self._app(scope, receive, note)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            _figure_of(method, route, status).observe(seconds)
            if status >= 400 or route not in _QUIET:
                told = {
                    "method": scope["method"],
                    "path": hide_secrets_in_text(scope["path"]),
                    "status": status,
                    "seconds": round(seconds, 4),
                }
                _LOG.info("request", extra={"facts": told})
            TRACE_ID.reset(token)

    async def _record(self, scope: Scope, stranger: str, trace_id: str) -> None:
        caller = Caller("stranger", ORIGIN.get(), trace_id)
        details = {"method": scope["method"], "path": scope["path"][:200]}
        entry = Entry(caller, "request.denied", "host", stranger, result="denied", details=details)
        try:
            await asyncio.to_thread(self._on_denied, entry)
        except SQLAlchemyError:
            _LOG.exception("a denial could not be recorded")


@lru_cache(maxsize=1_000)
def _figure_of(method: str, route: str, status: int) -> Histogram:
    """Return the figure of requests of a kind; it is quicker found here than where it lies."""
    return REQUESTS.labels(method, route, status)


def _stranger(headers: dict[bytes, bytes]) -> str | None:
    """Return the host that a request was made for, or the page that made it, where that is not this machine.

    A page of the internet that is open in a browser here can reach a loopback address too.
    """
    host = headers.get(b"host", b"").decode("latin-1")
    if host and not is_loopback(_host_in(f"//{host}")):
        return host
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and not is_loopback(_host_in(origin)):
        return origin
    # What a page of elsewhere shows as a picture or a script is asked for without saying whose page that is.
    is_followed = headers.get(b"sec-fetch-mode") == b"navigate"
    if not origin and headers.get(b"sec-fetch-site") == b"cross-site" and not is_followed:
        return "another site's page"
    return None


@lru_cache(maxsize=64)  # whoever asks decides how long each is
def _host_in(address: str) -> str:
    """Return an address' host; empty where it has none or is none, as ``http://[::1`` is."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
