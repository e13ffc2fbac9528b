"""An OpenID provider on loopback: discovery, keys that can be replaced, signed tokens, the code flow with PKCE, codes
for other devices (RFC 8628), tokens that renew.

It signs for real, with RS256 and ES256, so that whoever checks its tokens does so as with any provider.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm


@dataclass
class OpenIdProvider:
    """A provider; ``keys`` are those that it shows, by their id, each with its algorithm."""

    issuer: str
    client_id: str = "aiflow"
    keys: dict[str, tuple[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """The paths that were asked for."""
    is_silent: bool = False
    """Whether it answers 503 to everything."""
    elsewhere: str | None = None
    """Where it sends whoever asks for anything."""
    answers: threading.Event = field(default_factory=threading.Event)
    """Set unless it is to take its time: until it is set again, nobody gets an answer."""
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "ana"})
    """The claims of whoever signs in next by the browser."""
    denies: bool = False
    """Whether whoever comes by the browser, or to type a device's code, says no."""
    renews: bool = False
    """Whether it gives refresh tokens; each is good once."""
    token_claims: dict[str, Any] = field(default_factory=dict)
    """What its next tokens say otherwise."""
    has_devices: bool = True
    device_seconds: int = 60
    device_answers: list[str] = field(default_factory=list)
    """Errors for the next polls of a device; without one a device waits until somebody has typed its code."""
    _devices: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    """By the device's code who has typed the person's code; None: nobody yet."""
    _refreshes: dict[str, dict[str, Any]] = field(default_factory=dict)
    _codes: dict[str, tuple[dict[str, str], dict[str, Any]]] = field(default_factory=dict)

    def add_key(self, algorithm: str = "RS256") -> str:
        """Make a key pair, show its public half, and return its id."""
        number = uuid.uuid4().hex[:8]
        if algorithm == "RS256":
            self.keys[number] = algorithm, rsa.generate_private_key(public_exponent=65537, key_size=2048)
        else:
            self.keys[number] = algorithm, ec.generate_private_key(ec.SECP256R1())
        return number

    def token(self, key: str | None = None, **claims: Any) -> str:
        """Return a token that is good for an hour, signed by a key, the newest one unless another is named."""
        number = key or list(self.keys)[-1]
        algorithm, private = self.keys[number]
        told = {"iss": self.issuer, "aud": self.client_id, "sub": "ana", "iat": time.time(), "exp": time.time() + 3600}
        return jwt.encode({**told, **claims}, private, algorithm, headers={"kid": number})

    def __post_init__(self) -> None:
        self.answers.set()

    def public_keys(self) -> list[dict[str, Any]]:
        """Return the public halves as JWKS has them."""
        shown = []
        for number, (algorithm, private) in self.keys.items():
            kind = RSAAlgorithm if algorithm == "RS256" else ECAlgorithm
            told = kind.to_jwk(private.public_key(), as_dict=True)
            shown.append({**told, "kid": number, "alg": algorithm, "use": "sig"})
        return shown

    def authorize(self, query: dict[str, str]) -> str:
        """Return where the browser is sent, as if the person had typed the right password."""
        if self.denies:
            return f"{query['redirect_uri']}?{urlencode({'error': 'access_denied', 'state': query['state']})}"
        code = uuid.uuid4().hex
        self._codes[code] = query, dict(self.person)
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def begin_device(self) -> dict[str, Any]:
        """Return the codes of a device that has no browser; `type_code` is what the person does then."""
        number = uuid.uuid4().hex
        self._devices[number] = None
        page = f"{self.issuer}/device"
        told = {"device_code": number, "user_code": "ABCD-EFGH", "verification_uri": page}
        return {**told, "expires_in": self.device_seconds, "interval": 1}

    def type_code(self) -> None:
        """Let the person type the code of every device that waits."""
        for number in self._devices:
            self._devices[number] = dict(self.person)

    def answer(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Return status and body of the token endpoint."""
        match form.get("grant_type"):
            case "refresh_token":
                person = self._refreshes.pop(form.get("refresh_token", ""), None)
                told = None if person is None else self._given(person)
            case "urn:ietf:params:oauth:grant-type:device_code":
                if self.device_answers:
                    return 400, {"error": self.device_answers.pop(0)}
                if form.get("device_code") in self._devices and self._devices[form["device_code"]] is None:
                    return 400, {"error": "access_denied" if self.denies else "authorization_pending"}
                person = self._devices.pop(form.get("device_code", ""), None)
                told = None if person is None else self._given(person)
            case _:
                told = self.redeem(form)
        return (400, {"error": "invalid_grant"}) if told is None else (200, told)

    def _given(self, person: dict[str, Any]) -> dict[str, Any]:
        told = {"token_type": "Bearer", "id_token": self.token(**{**person, **self.token_claims})}
        if self.renews:
            told["refresh_token"] = uuid.uuid4().hex
            self._refreshes[told["refresh_token"]] = {name: one for name, one in person.items() if name != "nonce"}
        return told

    def redeem(self, form: dict[str, str]) -> dict[str, Any] | None:
        """Return the tokens for a code, once, to whom knows the verifier; else None."""
        query, person = self._codes.pop(form.get("code", ""), (None, {}))
        if query is None or form.get("redirect_uri") != query["redirect_uri"]:
            return None
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != query["code_challenge"]:
            return None
        return self._given({"nonce": query["nonce"], **person})

    def discovery(self) -> dict[str, Any]:
        """Return what the provider says of itself."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            **({"device_authorization_endpoint": f"{self.issuer}/devices"} if self.has_devices else {}),
            "scopes_supported": ["openid", "email", "offline_access"],
        }


class _Handler(BaseHTTPRequestHandler):
    provider: OpenIdProvider

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, urlsplit(self.path).query
        self.provider.asked.append(path)
        if self.provider.is_silent:
            return self._answer(503, {})
        match path:
            case "/.well-known/openid-configuration":
                return self._answer(200, self.provider.discovery())
            case "/keys":
                return self._answer(200, {"keys": self.provider.public_keys()})
            case "/authorize":
                to = self.provider.authorize({key: values[0] for key, values in parse_qs(query).items()})
                return self._answer(302, {}, {"Location": to})
        return self._answer(404, {})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"])).decode()
        path = urlsplit(self.path).path
        self.provider.asked.append(path)
        if self.provider.is_silent:
            return self._answer(503, {})
        if path == "/devices":
            return self._answer(200, self.provider.begin_device())
        return self._answer(*self.provider.answer({key: values[0] for key, values in parse_qs(raw).items()}))

    def _answer(self, status: int, told: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self.provider.answers.wait(60)
        if self.provider.elsewhere is not None:
            status, told, headers = 302, {}, {"Location": self.provider.elsewhere + self.path}
        body = json.dumps(told).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def openid_provider() -> Iterator[OpenIdProvider]:
    """Run a provider until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    provider = OpenIdProvider(f"http://127.0.0.1:{server.server_address[1]}")
    provider.add_key()
    server.RequestHandlerClass = type("_Bound", (_Handler,), {"provider": provider})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
