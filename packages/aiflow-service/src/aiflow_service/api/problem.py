"""Errors as problem documents (RFC 9457), each with a ``code`` that does not change."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from aiflow_service.access import Caller, Change, Denied, Unseen, entry_of
from aiflow_service.access.oidc import ProviderSilent, Untrusted
from aiflow_service.access.teams import Taken
from aiflow_service.api.invalid import why_invalid
from aiflow_service.database import UnfitDatabase
from aiflow_service.ingest import Overloaded, Unwritable
from aiflow_service.masking import hide_secrets_in_text
from aiflow_service.openlineage import Refusal
from aiflow_service.runs import SeveralTeams

_LOG = logging.getLogger("aiflow_service.api")


class ProblemDocument(BaseModel):
    """What went wrong: ``status`` is HTTP's, ``code`` is for programs, ``detail`` for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    place: str | None = None
    """Where in the request: a JSON pointer, or the name of a parameter."""


class Problem(Exception):  # noqa: N818 it is an answer
    """Raised in a route to answer with a problem."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        place: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.place = place
        self.headers = headers


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ProblemDocument, "description": "What is wrong with the request."},
    "5XX": {"model": ProblemDocument, "description": "What is wrong here, and whether to come again."},
}
"""For the description of every route; :func:`describe_problems` says of which kind their content is."""

_MEDIA_TYPE = "application/problem+json"

STRANGER = Caller("stranger")
"""Whoever is not known."""


def not_found(what: str) -> Problem:
    """Return the problem of something that is not there, or that the caller does not see: nobody can tell which."""
    return Problem(404, "not-found", f"there is no such {what}")


def problem_response(
    status: int, code: str, detail: str, *, place: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """Return the response that tells of a problem."""
    told = {"type": f"urn:aiflow:problem:{code}", "title": HTTPStatus(status).phrase, "status": status, "code": code}
    told["detail"] = detail
    if place is not None:
        told["place"] = place
    return Response(msgspec.json.encode(told), status, headers, media_type=_MEDIA_TYPE)


def unfit_problem(error: UnfitDatabase) -> Response:
    """Return the response that tells why nothing can be done with the database until somebody mends it."""
    return problem_response(
        503, error.problem, f"{error}; once that is mended, ask or send again", headers={"Retry-After": "5"}
    )


def describe_problems(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document in which the content of every error is a problem: FastAPI knows one kind a route."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status in PROBLEMS:
                    (content,) = response["content"].values()
                    response["content"] = {_MEDIA_TYPE: content}
    return document


async def note_denial(request: Request, caller: Caller, why: str, team_id: int | None = None) -> None:
    """Record that somebody was denied something; where that cannot be, the log has it."""
    route = getattr(request.scope.get("route"), "path", "none")
    facts = {"path": request.url.path[:200], "why": why}
    change = Change(caller, "request.denied", f"{request.method} {route}", team_id, facts, "denied")
    try:
        await run_in_threadpool(request.app.state.services.keeper.deny, entry_of(change))
    except SQLAlchemyError:
        _LOG.exception("a denial could not be recorded")


def install(app: FastAPI) -> None:
    """Answer every error of the app with a problem document."""

    @app.exception_handler(Problem)
    async def told(_: Request, error: Problem) -> Response:
        return problem_response(error.status, error.code, error.detail, place=error.place, headers=error.headers)

    @app.exception_handler(Unseen)
    async def unseen(_: Request, error: Unseen) -> Response:
        told = not_found(error.what)
        return problem_response(told.status, told.code, told.detail)

    @app.exception_handler(Taken)
    async def taken(_: Request, error: Taken) -> Response:
        return problem_response(409, "name-taken", str(error))

    @app.exception_handler(SeveralTeams)
    async def ambiguous(_: Request, error: SeveralTeams) -> Response:
        return problem_response(422, "team-ambiguous", str(error), place="query/team")

    @app.exception_handler(ProviderSilent)
    async def silent(_: Request, error: ProviderSilent) -> Response:
        _LOG.warning("the sign-in provider cannot be used: %s", error)
        detail = "who you are cannot be checked now: the sign-in provider does not answer as it should"
        return problem_response(503, "provider-unreachable", detail, headers={"Retry-After": "5"})

    @app.exception_handler(Untrusted)
    async def untrusted(request: Request, error: Untrusted) -> Response:
        await note_denial(request, STRANGER, str(error))
        return problem_response(401, "unauthorized", str(error), headers={"WWW-Authenticate": "Bearer"})

    @app.exception_handler(Denied)
    async def denied(request: Request, error: Denied) -> Response:
        await note_denial(request, error.caller, str(error), error.team_id)
        return problem_response(403, "forbidden", str(error))

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        return problem_response(error.status, error.code, error.reason, place=error.place)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return problem_response(400, "body-cut", "the sender went before all of the body had come")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = "/".join(str(part) for part in first["loc"])
        return problem_response(422, "parameter-invalid", f"{place}: {why_invalid(first)}", place=place)

    @app.exception_handler(HTTPException)
    async def answered(request: Request, error: HTTPException) -> Response:
        code = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "request-invalid")
        detail = error.detail
        if code == "not-found":
            detail = f"there is no {hide_secrets_in_text(request.url.path)}; /openapi.json has what there is"
        headers = dict(error.headers or {})
        if error.status_code == 405:  # a path's methods are routes of their own, of which only one was asked
            route = getattr(request.scope.get("route"), "path", "")
            methods = app.openapi()["paths"].get(route, ())
            headers["Allow"] = ", ".join(sorted(method.upper() for method in methods))
        return problem_response(error.status_code, code, detail, headers=headers)

    @app.exception_handler(Overloaded)
    async def overloaded(_: Request, error: Overloaded) -> Response:
        return problem_response(503, "overloaded", "too many events wait to be written", headers={"Retry-After": "1"})

    @app.exception_handler(UnfitDatabase)
    async def unfit(_: Request, error: UnfitDatabase) -> Response:
        _LOG.error("%s", error)
        return unfit_problem(error)

    @app.exception_handler(Unwritable)
    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    @app.exception_handler(PoolTimeoutError)
    async def unreachable(_: Request, error: Exception) -> Response:
        _LOG.error("the database does not answer", exc_info=error)
        detail = "the database does not answer; what was sent may be sent again and counts once"
        return problem_response(503, "database-unreachable", detail, headers={"Retry-After": "5"})

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        _LOG.error("a request failed", exc_info=error)
        return problem_response(500, "internal", "the service has a fault; its log says more")
