"""Sign-in by OpenID Connect: discovery, keys that are replaced, tokens that are checked, the code flow with PKCE.

OpenID Connect Core 1.0, Discovery 1.0; RFC 7636 (PKCE), RFC 7517 (keys), RFC 8725 (what a checker of tokens heeds).
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt

from aiflow_service.access.roles import Role
from aiflow_service.access.signin import SignIn, is_safe_address

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a key pair alone: neither ``none`` nor one that a public key could make."""
KEYS_SECONDS = 300.0
"""How long keys are used before they are asked for again: a key that is withdrawn counts at most so long."""
STALE_SECONDS = 3600.0
"""How long they are used while the provider does not answer."""
_PAUSE_SECONDS = 5.0
"""Between two requests for keys that an unknown key has caused, so that forged tokens cannot make a flood of them."""
_WAIT_SECONDS = 1.0
"""How long a token by an unknown key waits while another one has the provider asked."""
_LEEWAY_SECONDS = 10
_PATIENCE_SECONDS = 5.0
_MAX_BYTES = 1024 * 1024


class Untrusted(Exception):  # noqa: N818 it is an answer
    """A token or an answer that does not prove who somebody is; the text says why, for people."""


class ProviderSilent(Exception):  # noqa: N818 it is an answer
    """The provider does not answer: nothing can be said of a token now."""


@dataclass(frozen=True)
class Identity:
    """Somebody whom the issuer vouches for, with the roles that the groups give by the settings."""

    issuer: str
    subject: str
    name: str
    roles: Mapping[str, Role]
    """By the team's name."""
    everywhere: Role | None
    issued_at: int
    """In microseconds."""


class Provider:
    """An OpenID provider, asked as seldom as can be; any thread may use it."""

    def __init__(self, sign_in: SignIn) -> None:
        self.sign_in = sign_in
        self._asking = threading.Lock()
        """Held by the one who asks for keys; whoever knows the key at hand goes on without it."""
        self._metadata: dict[str, Any] | None = None
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._keys_at = float("-inf")
        self._asked_at = float("-inf")

    def validate(self, token: str, *, nonce: str | None = None) -> Identity:
        """Return whom a signed token names.

        Issuer, audience, times and signature are checked. Raises :class:`Untrusted`, :class:`ProviderSilent`.
        """
        settings = self.sign_in
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise Untrusted("the token is not signed in a way that proves anything")
            claims = jwt.decode(
                token,
                self._key(header.get("kid")),
                algorithms=list(ALGORITHMS),
                audience=sorted(settings.audiences),
                issuer=settings.issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise Untrusted(f"the token does not hold: {error}") from error
        if nonce is not None and claims.get("nonce") != nonce:
            raise Untrusted("the token was made for another sign-in")
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        clients = {settings.client_id, settings.command_line_client_id or settings.client_id}
        if several and claims.get("azp", settings.client_id) not in clients:
            raise Untrusted("the token was made for another client")
        return self._identity(claims)

    def authorization_address(self, *, state: str, nonce: str, verifier: str, redirect: str) -> str:
        """Return where a browser is sent to sign in. Raises :class:`ProviderSilent`."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self.sign_in.client_id,
            "redirect_uri": redirect,
            "scope": " ".join(self.sign_in.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = str(self._discover()["authorization_endpoint"])
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"

    def redeem(self, code: str, *, verifier: str, nonce: str, redirect: str) -> Identity:
        """Return who has signed in, for the code that the browser came back with.

        Raises :class:`Untrusted`, :class:`ProviderSilent`.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "client_id": self.sign_in.client_id,
            "code_verifier": verifier,
        }
        if (secret := self.sign_in.client_secret()) is not None:
            form["client_secret"] = secret
        answer = _fetch(str(self._discover()["token_endpoint"]), urlencode(form).encode())
        if not isinstance(answer.get("id_token"), str):
            raise Untrusted("the provider gave no token for the code")
        return self.validate(answer["id_token"], nonce=nonce)

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        told = claims.get(self.sign_in.groups_claim)
        groups = [one for one in told if isinstance(one, str)] if isinstance(told, list) else []
        subject, email = str(claims["sub"]), claims.get("email")
        # An address that nobody has verified is one that anybody may have written down, as any other name is: neither
        # names somebody in the audit.
        is_proven = isinstance(email, str) and email != "" and claims.get("email_verified") is True
        name = str(email) if is_proven else subject
        roles, everywhere = self.sign_in.roles_of(groups, {subject, name})
        issued_at = int(float(claims["iat"]) * 1_000_000)
        return Identity(self.sign_in.issuer, subject, name[:200], roles, everywhere, issued_at)

    def _discover(self) -> dict[str, Any]:
        if self._metadata is None:
            found = _fetch(self.sign_in.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if found.get("issuer") != self.sign_in.issuer:
                raise ProviderSilent(f"the provider calls itself {found.get('issuer')!r}, not {self.sign_in.issuer!r}")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not isinstance(found.get(name), str) or not is_safe_address(found[name]):
                    raise ProviderSilent(f"the provider's {name} is no https address")
            self._metadata = found
        return self._metadata

    def _key(self, number: str | None) -> jwt.PyJWK:
        age = time.monotonic() - self._keys_at
        found = self._find(number)
        if found is None or age > KEYS_SECONDS:
            # While the provider takes its time, nobody waits for it whose key is known, and others not for long.
            is_known = found is not None and age <= STALE_SECONDS
            if self._asking.acquire(timeout=0 if is_known else _WAIT_SECONDS):
                try:
                    self._renew_keys(number)
                finally:
                    self._asking.release()
            elif not is_known:
                raise ProviderSilent("the provider is being asked for its keys")
            found = self._find(number)
        if found is None:
            raise Untrusted("the token is signed by a key that the provider does not have")
        return found

    def _renew_keys(self, number: str | None) -> None:
        """Ask for the keys, unless somebody has just done so. Raises :class:`ProviderSilent` where none are known."""
        age = time.monotonic() - self._keys_at
        is_wanted = age > KEYS_SECONDS or self._find(number) is None
        if is_wanted and time.monotonic() - self._asked_at >= _PAUSE_SECONDS:
            self._asked_at = time.monotonic()
            try:
                self._keys = self._ask_keys()
                self._keys_at = time.monotonic()
            except ProviderSilent:
                if age > STALE_SECONDS:
                    raise
        elif age > STALE_SECONDS:
            raise ProviderSilent("the provider's keys cannot be had")

    def _find(self, number: str | None) -> jwt.PyJWK | None:
        if number is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(number)

    def _ask_keys(self) -> dict[str | None, jwt.PyJWK]:
        told = _fetch(str(self._discover()["jwks_uri"])).get("keys")
        found: dict[str | None, jwt.PyJWK] = {}
        for one in told if isinstance(told, list) else []:
            try:
                key = jwt.PyJWK(one)
            except (jwt.PyJWTError, AttributeError, TypeError):
                continue  # a kind of key that is not known here
            if key.algorithm_name in ALGORITHMS and one.get("use", "sig") == "sig":
                found[key.key_id] = key
        if not found:
            raise ProviderSilent("the provider has no keys")
        return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: a code and the client's secret are for the address that was checked."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _fetch(address: str, form: bytes | None = None) -> dict[str, Any]:
    request = urllib.request.Request(address, form, {"Accept": "application/json"})
    try:
        with _OPENER.open(request, timeout=_PATIENCE_SECONDS) as response:
            raw = response.read(_MAX_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            if form is not None and 400 <= error.code < 500:
                raise Untrusted("the provider does not know this code") from error
        raise ProviderSilent(f"{urlsplit(address).netloc} answers {error.code}") from error
    except (OSError, ValueError) as error:
        raise ProviderSilent(f"{urlsplit(address).netloc} does not answer: {error}") from error
    try:
        told = json.loads(raw)
    except ValueError as error:
        raise ProviderSilent(f"{urlsplit(address).netloc} answers no JSON") from error
    if not isinstance(told, dict):
        raise ProviderSilent(f"{urlsplit(address).netloc} answers no JSON object")
    return told
