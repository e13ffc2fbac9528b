"""An OpenID provider as a command line sees it: found by its issuer, asked for tokens, its answers looked through.

OpenID Connect Core 1.0 and Discovery 1.0; RFC 8252 (command lines), RFC 7636 (PKCE), RFC 8628 (devices without a
browser). The client is a public one: it has no secret. What a token says is read and its signature left to the service,
as OpenID Connect Core 3.1.3.7 has it for a token that came from the token endpoint itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.client
import json
import math
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiflow_sdk.errors import AccessError, ReceiverError
from aiflow_sdk.web import Reply, TooLong, WebServer, is_open_road

_PATIENCE_SECONDS = 10.0
_MOST_BYTES = 1 << 20
_SHOWN_CHARACTERS = 200
_OK = 200
_SETTINGS_HINT = "whoever runs the service should look at its sign-in settings: issuer, client_id"
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass(frozen=True)
class SignIn:
    """How people sign in to a service, as it tells at ``/api/v1/sign-in``."""

    issuer: str
    client_id: str
    """What the provider calls the command line."""
    scopes: tuple[str, ...]


@dataclass(frozen=True)
class Tokens:
    """What a provider gave."""

    token: str
    """The signed one that says who somebody is, which the service takes."""
    expires_at: float
    """Seconds since 1970."""
    subject: str
    refresh_token: str | None = None


@dataclass(frozen=True)
class Refusal:
    """An error as OAuth tells it: the word for it (RFC 6749 5.2, RFC 8628 3.5), and the text."""

    word: str
    text: str

    @property
    def denial(self) -> AccessError:
        """The error for whoever wanted to log in."""
        return denied(f"the provider refuses: {shown(self.text)}")


@dataclass(frozen=True)
class Provider:
    """A provider that has said where it is asked for what."""

    issuer: str
    client_id: str
    authorization_address: str
    token_address: str
    device_address: str | None = None
    """Where a sign-in on another device is begun; None: it knows none."""
    gives_refresh_by_scope: bool = False
    """Whether a refresh token is asked for by the scope ``offline_access``."""

    def scopes_of(self, sign_in: SignIn) -> str:
        """Return what is asked for."""
        more = ["offline_access"] if self.gives_refresh_by_scope else []
        return " ".join(dict.fromkeys([*sign_in.scopes, *more]))

    def page(self, sign_in: SignIn, *, state: str, nonce: str, verifier: str, redirect: str) -> str:
        """Return the address of the page where somebody signs in."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": redirect,
            "scope": self.scopes_of(sign_in),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in self.authorization_address else "?"
        return f"{self.authorization_address}{joint}{urllib.parse.urlencode(query)}"

    def ask_token(self, form: Mapping[str, str], *, nonce: str | None = None, subject: str | None = None) -> Tokens:
        """Return the tokens for what a form of the token endpoint holds.

        ``nonce`` and ``subject``: what the token has to say. Raises ``AccessError`` (``login-denied``) for a refusal
        and for a token of something else, ``ReceiverError`` (``provider-unreachable``).
        """
        told = _ask(self.token_address, {"client_id": self.client_id, **form})
        if isinstance(told, Refusal):
            raise told.denial
        return self._tokens(told, nonce, subject)

    def ask_device_token(self, device_code: str) -> Tokens | Refusal:
        """Return the tokens of a sign-in on another device, or why there are none yet. Raises as :meth:`ask_token`."""
        form = {"client_id": self.client_id, "grant_type": _DEVICE_GRANT, "device_code": device_code}
        told = _ask(self.token_address, form)
        return told if isinstance(told, Refusal) else self._tokens(told, None, None)

    def _tokens(self, told: Mapping[str, Any], nonce: str | None, subject: str | None) -> Tokens:
        token = told.get("id_token")
        if not isinstance(token, str):
            hint = "the scopes of the service's sign-in settings have to hold openid"
            raise denied("the provider gave no token that says who signed in", hint=hint)
        claims = _claims(token)
        audience = claims.get("aud")
        wrong = [
            what
            for what, is_right in (
                (f"another issuer's ({claims.get('iss')!r})", claims.get("iss") == self.issuer),
                (f"for another audience ({audience!r})", self.client_id in _listed(audience)),
                ("of another sign-in", nonce is None or claims.get("nonce") == nonce),
                ("somebody else's", subject is None or claims.get("sub") == subject),
                ("over already", _number(claims.get("exp")) > time.time()),
                ("nobody's", isinstance(claims.get("sub"), str)),
            )
            if not is_right
        ]
        if wrong:
            raise denied(f"the provider's token is {shown(wrong[0])}", hint=_SETTINGS_HINT)
        refresh = told.get("refresh_token")
        refresh = refresh if isinstance(refresh, str) and refresh else None
        return Tokens(token, _number(claims["exp"]), str(claims["sub"]), refresh)

    def begin_on_device(self, sign_in: SignIn) -> dict[str, Any]:
        """Return what the device endpoint answers. Raises as :meth:`ask_token`."""
        assert self.device_address is not None
        told = _ask(self.device_address, {"client_id": self.client_id, "scope": self.scopes_of(sign_in)})
        if isinstance(told, Refusal):
            raise told.denial
        for name in ("device_code", "user_code", "verification_uri"):
            if not isinstance(told.get(name), str) or not told[name].isprintable():
                raise denied("the provider began no sign-in on another device", hint="log in with a browser")
        return told


def denied(message: str, hint: str = "try again: aiflow login") -> AccessError:
    """Return the error for a provider, or somebody who sat before it, that said no."""
    return AccessError("login-denied", message, hint=hint)


def find_provider(sign_in: SignIn) -> Provider:
    """Return the provider of an issuer.

    Raises ``ReceiverError`` (``provider-unreachable``), ``AccessError`` (``login-denied``).
    """
    told = _ask(f"{sign_in.issuer.rstrip('/')}/.well-known/openid-configuration", None)
    if isinstance(told, Refusal):
        raise told.denial
    if told.get("issuer") != sign_in.issuer:
        named = shown(f"{told.get('issuer')!r}, and the service calls it {sign_in.issuer!r}")
        raise denied(f"the provider calls itself {named}", hint=_SETTINGS_HINT)
    addresses = {}
    for name in ("authorization_endpoint", "token_endpoint", "device_authorization_endpoint"):
        address = told.get(name)
        if name == "device_authorization_endpoint" and address is None:
            continue
        if not isinstance(address, str) or not _is_safe(address):
            raise denied(f"the provider's {name} is no https address", hint=_SETTINGS_HINT)
        addresses[name] = address
    scopes = told.get("scopes_supported")
    return Provider(
        sign_in.issuer,
        sign_in.client_id,
        addresses["authorization_endpoint"],
        addresses["token_endpoint"],
        addresses.get("device_authorization_endpoint"),
        isinstance(scopes, list) and "offline_access" in scopes,
    )


def _ask(address: str, form: Mapping[str, str] | None) -> dict[str, Any] | Refusal:
    """Return the JSON object at an address, or an OAuth error. Raises ``ReceiverError``."""
    if not _is_safe(address):
        raise denied(f"the provider's address {address!r} is no https address", hint=_SETTINGS_HINT)
    parts = urllib.parse.urlsplit(address)
    server = WebServer(f"{parts.scheme}://{parts.netloc}", most_bytes=_MOST_BYTES)
    path = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Accept": "application/json"}
    body = None
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = urllib.parse.urlencode(form).encode()
    try:
        method = "GET" if form is None else "POST"
        reply = server.request(method, path, body=body, headers=headers, timeout_seconds=_PATIENCE_SECONDS)
    except (OSError, http.client.HTTPException, ValueError, TooLong) as error:
        raise _unreachable(address, str(error) or type(error).__name__) from error
    return _read(address, reply)


def _read(address: str, reply: Reply) -> dict[str, Any] | Refusal:
    try:
        told = json.loads(reply.content)
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict):
        if reply.status == _OK:
            return told
        if isinstance(error := told.get("error"), str) and 400 <= reply.status < 500:
            said = told.get("error_description")
            return Refusal(error, f"{error}: {said}" if isinstance(said, str) else error)
    raise _unreachable(address, f"it answered {reply.status}" if reply.status != _OK else "it answered no JSON object")


def shown(text: str) -> str:
    """Return what somebody else wrote as it may be shown."""
    return "".join(one if one.isprintable() else " " for one in text)[:_SHOWN_CHARACTERS]


def _unreachable(address: str, why: str) -> ReceiverError:
    host = urllib.parse.urlsplit(address).netloc
    return ReceiverError(
        "provider-unreachable",
        f"the sign-in provider at {host} cannot be reached: {why}",
        hint="see that it is up and can be reached from here; a machine token needs no provider (--with-token)",
        retryable=True,
    )


def _claims(token: str) -> dict[str, Any]:
    """Return what a signed token says. Raises ``AccessError`` (``login-denied``)."""
    try:
        payload = token.split(".")[1]
        told = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, binascii.Error, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise denied("what the provider gave is no token", hint=_SETTINGS_HINT)
    return told


def _listed(audience: Any) -> list[Any]:
    return audience if isinstance(audience, list) else [audience]


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else 0.0


def _is_safe(address: str) -> bool:
    return address.startswith(("https://", "http://")) and not is_open_road(address)
