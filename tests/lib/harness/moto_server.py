"""moto's S3, made to hold what S3 promises; run by .venv-servers, never imported by tests.

- A request is read whole and then handled under one lock: conditional puts are atomic (moto alone looks, then puts).
- Signatures (AWS Signature Version 4, headers only) are checked as S3 does, with its error codes; moto takes anything.
- A request whose clock is more than a quarter of an hour off is refused.

Access keys and their secrets come as arguments ``KEY=SECRET``; ``KEY=SECRET=expired`` is one whose session has ended.
Requests with the header ``x-harness`` are let through unsigned. Ends with its standard input.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import logging
import os
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

SKEW = timedelta(minutes=15)
EMPTY = hashlib.sha256(b"").hexdigest()


class RefusedError(Exception):
    """S3's answer to a request that it does not take."""

    def __init__(self, status: str, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Door:
    """A WSGI application before moto's: signatures, and one request at a time."""

    def __init__(self, application: Any, secrets: dict[str, tuple[str, bool]]) -> None:
        self.application = application
        self.secrets = secrets
        self.lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = read_body(environ)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        try:
            if "HTTP_X_HARNESS" in environ:
                environ["HTTP_AUTHORIZATION"] = (
                    "AWS4-HMAC-SHA256 Credential=harness/20200101/eu-central-1/s3/aws4_request"
                )
            else:
                self.check(environ, body)
        except RefusedError as refusal:
            text = f"<Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>"
            answer = b"" if environ["REQUEST_METHOD"] == "HEAD" else text.encode()
            start_response(refusal.status, [("Content-Type", "application/xml"), ("Content-Length", str(len(answer)))])
            return [answer]
        with self.lock:
            answered = self.application(environ, start_response)
            try:
                return [b"".join(answered)]
            finally:
                getattr(answered, "close", lambda: None)()

    def check(self, environ: dict[str, Any], body: bytes) -> None:
        """Raise ``RefusedError`` unless the request is signed by a key that is known and has not expired."""
        scheme, _, rest = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme != "AWS4-HMAC-SHA256":
            raise RefusedError("403 Forbidden", "AccessDenied", "Access Denied")
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        key, *scope = parts["Credential"].split("/")
        if key not in self.secrets:
            raise RefusedError(
                "403 Forbidden",
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
            )
        secret, has_expired = self.secrets[key]
        if has_expired:
            raise RefusedError("400 Bad Request", "ExpiredToken", "The provided token has expired.")
        sent = environ["HTTP_X_AMZ_DATE"]
        moment = datetime.strptime(sent, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) - moment) > SKEW:
            raise RefusedError(
                "403 Forbidden",
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            )
        payload = environ.get("HTTP_X_AMZ_CONTENT_SHA256", EMPTY)
        if len(payload) == 64 and payload != hashlib.sha256(body).hexdigest():
            raise RefusedError(
                "400 Bad Request",
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )
        request = canonical_request(environ, parts["SignedHeaders"], payload)
        text = "\n".join((scheme, sent, "/".join(scope), hashlib.sha256(request.encode()).hexdigest()))
        signing = b"AWS4" + secret.encode()
        for step in (*scope, text):
            signing = hmac.new(signing, step.encode(), hashlib.sha256).digest()
        if not hmac.compare_digest(signing.hex(), parts["Signature"]):
            raise RefusedError(
                "403 Forbidden",
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
            )


def canonical_request(environ: dict[str, Any], signed: str, payload: str) -> str:
    """Return what the client has signed. The path is taken as it came: S3 encodes it once."""
    path, _, query = environ.get("RAW_URI", environ["REQUEST_URI"]).partition("?")
    pairs = sorted((name, value) for name, _, value in (pair.partition("=") for pair in query.split("&")) if name)
    headers = [f"{name}:{' '.join(header(environ, name).split())}" for name in signed.split(";")]
    canonical_query = "&".join(f"{name}={value}" for name, value in pairs)
    return "\n".join((environ["REQUEST_METHOD"], path, canonical_query, *headers, "", signed, payload))


def header(environ: dict[str, Any], name: str) -> str:
    """Return a header's value as it came."""
    variable = name.upper().replace("-", "_")
    return str(environ.get(variable if variable in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{variable}", ""))


def read_body(environ: dict[str, Any]) -> bytes:
    """Return the whole body; the handler has undone chunks."""
    if environ.get("wsgi.input_terminated"):
        return bytes(environ["wsgi.input"].read())
    return bytes(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))


class Handler(MotoRequestHandler):  # type: ignore[misc]  # moto is not in .venv
    """Sends headers and body without waiting between them."""

    disable_nagle_algorithm = True


def end_with_input() -> None:
    """End this process as soon as whoever started it has closed the pipe, or died."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Listen on a free port of 127.0.0.1 and say which."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    secrets = {
        key: (secret, expired == "expired") for key, secret, expired in (f"{a}=".split("=")[:3] for a in sys.argv[1:])
    }
    server = make_server(
        "127.0.0.1", 0, Door(create_backend_app("s3"), secrets), threaded=True, request_handler=Handler
    )
    threading.Thread(target=end_with_input, daemon=True).start()
    print(f"listening on {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
