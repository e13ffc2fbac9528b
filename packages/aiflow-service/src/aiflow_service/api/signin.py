"""Sign-in of people by a browser: to the provider, and back with a code (PKCE), into a session."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from aiflow_service.access.callers import SESSION_SECONDS
from aiflow_service.access.oidc import Provider, Untrusted
from aiflow_service.api.answers import answer
from aiflow_service.api.problem import PROBLEMS, not_found
from aiflow_service.api.services import SESSION_COOKIE, Services, ServicesOf, refuse_foreign_page

router = APIRouter(prefix="/api/v1/sign-in", tags=["sign-in"], responses=PROBLEMS)

_COOKIE = "aiflow_sign_in"
_PATH = "/api/v1/sign-in"
_SECONDS = 600
_OWN_PAGE = r"^/([^/\\\x00-\x1f][^\x00-\x1f]*)?$"
"""A page of this service, as ``/runs``: what begins with two slashes is another host's."""


@router.get("")
async def how(services: ServicesOf) -> Response:
    """Tell how people sign in here, as a command line or page needs it; nothing of it is secret."""
    if services.callers is None:
        return answer({"mode": "local"})
    provider = services.callers.provider
    if provider is None:
        return answer({"mode": "tokens"})
    settings = provider.sign_in
    told = {"issuer": settings.issuer, "client_id": settings.client_id, "scopes": settings.scopes}
    told["command_line_client_id"] = settings.command_line_client_id or settings.client_id
    return answer({"mode": "oidc", **told, "begin": f"{_PATH}/begin"})


@router.get("/begin", status_code=302, response_class=RedirectResponse)
async def begin(
    request: Request, services: ServicesOf, to: Annotated[str, Query(max_length=2000, pattern=_OWN_PAGE)] = "/"
) -> RedirectResponse:
    """Send a browser to the provider; `to` is the page of this service where it ends up."""
    provider = _provider(services)
    flow = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
    address = await run_in_threadpool(provider.authorization_address, **flow, redirect=_redirect(request, services))
    response = RedirectResponse(address, 302, {"Cache-Control": "no-store"})
    kept = base64.urlsafe_b64encode(json.dumps({**flow, "to": to}).encode()).decode()
    secure = _redirect(request, services).startswith("https:")
    response.set_cookie(_COOKIE, kept, _SECONDS, path=_PATH, secure=secure, httponly=True, samesite="lax")
    return response


@router.get("/return", status_code=302, response_class=RedirectResponse)
async def come_back(
    request: Request,
    services: ServicesOf,
    state: Annotated[str, Query(max_length=500)] = "",
    code: Annotated[str, Query(max_length=4000)] = "",
    error: Annotated[str, Query(max_length=500)] = "",
) -> RedirectResponse:
    """Take a browser that comes back from the provider, and begin its session."""
    provider = _provider(services)
    assert services.callers is not None
    flow = _flow(request.cookies.get(_COOKIE, ""))
    if not hmac.compare_digest(flow["state"].encode(), state.encode()) or not state:
        raise Untrusted("this sign-in was not begun in this browser, or too long ago: begin again")
    if error or not code:
        raise Untrusted(f"the provider did not let you in: {error or 'no code'}")
    redirect = _redirect(request, services)
    verifier, nonce = flow["verifier"], flow["nonce"]
    identity = await run_in_threadpool(provider.redeem, code, verifier=verifier, nonce=nonce, redirect=redirect)
    secret = await run_in_threadpool(services.callers.begin_session, identity)
    response = RedirectResponse(flow["to"], 302, {"Cache-Control": "no-store"})
    response.delete_cookie(_COOKIE, path=_PATH)
    secure = redirect.startswith("https:")
    response.set_cookie(SESSION_COOKIE, secret, SESSION_SECONDS, secure=secure, httponly=True, samesite="lax")
    return response


@router.post("/end")
async def end(request: Request, services: ServicesOf) -> Response:
    """End the browser's session."""
    secret = request.cookies.get(SESSION_COOKIE)
    if services.callers is not None and secret:
        await refuse_foreign_page(request)
        await run_in_threadpool(services.callers.end_session, secret)
    response = answer({"status": "signed out"})
    response.delete_cookie(SESSION_COOKIE)
    return response


def _provider(services: Services) -> Provider:
    if services.callers is None or services.callers.provider is None:
        raise not_found("sign-in by a provider")
    return services.callers.provider


def _redirect(request: Request, services: Services) -> str:
    """Return where the provider sends the browser back to; the settings say it, else it is where it came to."""
    return (services.address or f"http://{request.headers.get('host', '')}").rstrip("/") + f"{_PATH}/return"


def _flow(kept: str) -> dict[str, str]:
    try:
        told = json.loads(base64.urlsafe_b64decode(kept))
        found = {name: str(told[name]) for name in ("state", "nonce", "verifier", "to")}
        "".join(found.values()).encode()  # half of a pair of characters is none of ours
        return found
    except (ValueError, TypeError, KeyError, RecursionError):
        return {"state": "", "nonce": "", "verifier": "", "to": "/"}
