"""The short way of events: past FastAPI's routing and dependencies, which take longer than all else of a request.

What is asked of the caller, what is done and what is answered are those of the routes in
:mod:`aiflow_service.api.ingest`, which describe it in the OpenAPI document too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from aiflow_service.access import Role
from aiflow_service.api.ingest import receive, receive_batch, router
from aiflow_service.api.services import Services, scope_of, speak
from aiflow_service.ingest import Sender

Take = Callable[[Request, Services, Sender], Awaitable[Response]]
_TAKES: Mapping[str, Take] = {"/api/v1/lineage": receive, "/api/v1/lineage/batch": receive_batch}
_ROUTES = {route.path: route for route in router.routes if isinstance(route, APIRoute)}
"""What figures, logs and denials name the request by."""


class Intake:
    """A layer of the app that takes events itself and passes all else on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST of events, pass anything else on."""
        take = _TAKES.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if take is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTES[scope["path"]]
        request = Request(scope, receive)
        try:
            sender = speak(await scope_of(request), Role.OPERATOR)
            response = await take(request, request.app.state.services, sender)
        except Exception as error:  # whatever it is, FastAPI would find its handler by its kind too; others go on up
            if (handler := _handler(request.app, error)) is None:
                raise
            response = await handler(request, error)
        await response(scope, receive, send)


def _handler(app: FastAPI, error: Exception) -> Any:
    """Return what answers an error; that for those which nobody expects stands outside of all layers."""
    found = (app.exception_handlers.get(kind) for kind in type(error).__mro__ if kind is not Exception)
    return next((handler for handler in found if handler is not None), None)
