"""What the routes work with; the app puts it together once.

What routes depend on is asynchronous although it waits for nothing: FastAPI would call it in a thread otherwise.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from aiflow_service.access import EVERYTHING, Callers, Credential, Denied, Role, Scope, Unknown, audited
from aiflow_service.access.oidc import ProviderSilent, Untrusted
from aiflow_service.api.problem import STRANGER, Problem, note_denial
from aiflow_service.audit import AuditKeeper, Caller
from aiflow_service.cost import Prices
from aiflow_service.database import Database
from aiflow_service.database.protection import SEES
from aiflow_service.database.tables import DEFAULT_TEAM_ID
from aiflow_service.ingest import EventWriter, Sender
from aiflow_service.keeping import FOR_EVER, Retention


class Changes:
    """A bell for those who wait until something is written."""

    def __init__(self) -> None:
        self._bell = asyncio.Event()

    def bell(self) -> asyncio.Event:
        """Return the bell that the next write rings."""
        return self._bell

    def ring(self) -> None:
        """Say that something was written; in the loop's thread."""
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()

    @staticmethod
    async def wait(bell: asyncio.Event, seconds: float) -> None:
        """Wait until a bell is rung, or so long: other replicas, which write too, ring their own."""
        try:
            await asyncio.wait_for(bell.wait(), seconds)
        except TimeoutError:
            return


@dataclass
class Services:
    """The parts of a running service."""

    database: Database
    writer: EventWriter
    changes: Changes
    keeper: AuditKeeper
    prices: Prices
    callers: Callers | None = None
    """Absent in local mode, where nobody signs in."""
    address: str | None = None
    """Where browsers reach the service, if the settings say so."""
    retention: Retention = FOR_EVER
    """For how long things are kept."""
    is_ending: bool = False
    """Whether whoever listens has to be let go."""


async def services_of(request: Request) -> Services:
    """Return the parts of the service that a request came to."""
    found: Services = request.app.state.services
    return found


SESSION_COOKIE = "aiflow_session"

OPEN_ROUTES = frozenset(
    {"/healthz", "/readyz", "/api/v1/sign-in", "/api/v1/sign-in/begin", "/api/v1/sign-in/end", "/api/v1/sign-in/return"}
)
"""What may be asked by whoever comes: it tells nothing of anybody's pipelines."""


async def scope_of(request: Request) -> Scope:
    """Return what the caller sees and may do: the one place where that is decided. Every route passes it.

    Raises :class:`Problem` (401) for whoever is not known.
    """
    services: Services = request.app.state.services
    if services.callers is None:
        scope = EVERYTHING
    elif request.scope["route"].path in OPEN_ROUTES:
        return NOBODY
    else:
        credential = credential_of(request)
        if credential.is_session and request.method not in ("GET", "HEAD"):
            await refuse_foreign_page(request)
        try:
            scope = await _find_scope(services.callers, credential)
        except Unknown as error:
            await note_denial(request, STRANGER, str(error))
            raise Problem(401, "unauthorized", str(error), headers={"WWW-Authenticate": "Bearer"}) from error
        if scope.everywhere is None and not scope.roles:
            detail = f"{scope.caller.name} is in no team yet: an owner of one has to say so"
            await note_denial(request, scope.caller, detail)
            raise Problem(403, "no-team", detail)
    SEES.set(scope.setting)
    return scope


async def renewed_scope(request: Request) -> Scope | None:
    """Return what the caller of a request that goes on sees and may do by now, None where that is nothing.

    So it ends when the token is revoked or over, the last role is taken, or nothing can be said of the token.
    """
    services: Services = request.app.state.services
    if services.callers is None:
        return EVERYTHING
    try:
        scope = await _find_scope(services.callers, credential_of(request))
    except (Unknown, Untrusted, ProviderSilent):
        return None
    if scope.everywhere is None and not scope.roles:
        return None
    SEES.set(scope.setting)
    return scope


async def _find_scope(callers: Callers, credential: Credential) -> Scope:
    found = callers.remembered(credential)
    return found if found is not None else await run_in_threadpool(callers.find, credential)


NOBODY = Scope(frozenset())


def credential_of(request: Request) -> Credential:
    """Return what a request carries. Raises :class:`Problem` where that is nothing."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and secret.strip():
        return Credential(secret.strip())
    if cookie := request.cookies.get(SESSION_COOKIE):
        return Credential(cookie, is_session=True)
    detail = "sign in, or send a token as Authorization: Bearer …"
    raise Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


async def refuse_foreign_page(request: Request) -> None:
    """Return if a browser's request comes from a page of this service, as browsers say by themselves.

    Raises :class:`Problem`.
    """
    if not _is_own_page(request):
        detail = "another site's page may not change anything here"
        await note_denial(request, STRANGER, detail)
        raise Problem(403, "foreign-origin", detail)


def _is_own_page(request: Request) -> bool:
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site == "same-origin"
    origin = request.headers.get("origin", "").rpartition("//")[2]
    return origin == request.headers.get("host")


async def sender_of(scope: Annotated[Scope, Depends(scope_of)]) -> Sender:
    """Return whom the caller sends events for. Raises what :func:`speak` does."""
    return speak(scope, Role.OPERATOR)


async def editor_of(scope: Annotated[Scope, Depends(scope_of)]) -> Sender:
    """Return whom the caller deploys and configures for. Raises what :func:`speak` does."""
    return speak(scope, Role.EDITOR)


def speak(scope: Scope, role: Role) -> Sender:
    """Return the team that the caller speaks for, having a role in it: what it tells of belongs to it.

    Who has the role in every team speaks for all, and claims say whose each thing is. Raises :class:`Denied` for who
    has it in none, :class:`Problem` for who has it in several.
    """
    if scope.may(role, None):
        return Sender(DEFAULT_TEAM_ID, True, scope.caller.environment)
    able = sorted(team_id for team_id in scope.roles if scope.may(role, team_id))
    if not able:
        most = max((mine for team_id in scope.roles if (mine := scope.role_in(team_id))), default=scope.everywhere)
        (team_id,) = scope.roles if len(scope.roles) == 1 else (None,)
        raise Denied(scope.caller, role, most, team_id, "in a team")
    if len(able) > 1:
        raise Problem(
            422,
            "team-ambiguous",
            "you are in several teams: send with a token of one, or name one with team= where the request has it",
        )
    return Sender(able[0], False, scope.caller.environment)


async def caller_of(scope: Annotated[Scope, Depends(scope_of)]) -> Caller:
    """Return who asks, as the audit names them."""
    return audited(scope.caller)


ServicesOf = Annotated[Services, Depends(services_of)]
ScopeOf = Annotated[Scope, Depends(scope_of)]
SenderOf = Annotated[Sender, Depends(sender_of)]
EditorOf = Annotated[Sender, Depends(editor_of)]
CallerOf = Annotated[Caller, Depends(caller_of)]
