"""An S3 server: moto in a process of its own, with atomic conditional puts and checked signatures."""

from __future__ import annotations

import http.client
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from harness.process import SERVERS, check_installed, server

REGION = "eu-central-1"


@dataclass(frozen=True)
class Credentials:
    """An access key and its secret."""

    access_key_id: str
    secret_access_key: str


GOOD = Credentials("AKIAHARNESS", "a secret/of+the-harness")
EXPIRED = Credentials("ASIAEXPIRED", "a secret/that+was")
"""Its every request is answered ``ExpiredToken``."""
UNKNOWN = Credentials("AKIAUNKNOWN", "a secret/of+nobody")
"""Its every request is answered ``InvalidAccessKeyId``."""
MISSPELT = Credentials(GOOD.access_key_id, "another secret")
"""Its every request is answered ``SignatureDoesNotMatch``."""


@dataclass(frozen=True)
class S3Server:
    """A running server."""

    endpoint: str
    """``http://127.0.0.1:…``"""
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    def bucket(self, name: str | None = None) -> str:
        """Make a bucket and return its name."""
        name = name or f"bucket-{next(self._numbers)}"
        status, body = self._ask("PUT", f"/{name}", _LOCATION)
        assert status == 200, body
        return name

    def storage(self, credentials: Credentials = GOOD, endpoint: str | None = None) -> dict[str, str]:
        """Return the options by which aiflow finds the store; ``endpoint`` may be that of a proxy."""
        return {
            "endpoint": endpoint or self.endpoint,
            "region": REGION,
            "access_key_id": credentials.access_key_id,
            "secret_access_key": credentials.secret_access_key,
            "allow_http": "true",
        }

    def options(self, credentials: Credentials = GOOD, endpoint: str | None = None) -> dict[str, str]:
        """Return the same as delta-rs, polars, obstore and Sail's environment spell it."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
            "AWS_ALLOW_HTTP": "true",
        }

    def files(self, bucket: str, prefix: str = "") -> dict[str, int]:
        """Return the keys below a prefix and their sizes, asked of the server itself."""
        found: dict[str, int] = {}
        token = ""
        while True:
            path = f"/{bucket}?list-type=2&encoding-type=url&prefix={quote(prefix, safe='')}"
            status, body = self._ask("GET", path + (f"&continuation-token={quote(token, safe='')}" if token else ""))
            assert status == 200, body
            found |= _listed(body.decode())
            more = re.search("<NextContinuationToken>(.*?)</NextContinuationToken>", body.decode())
            if more is None:
                return found
            token = more[1]

    def read(self, bucket: str, key: str) -> bytes:
        """Return an object's content, asked of the server itself."""
        status, body = self._ask("GET", f"/{bucket}/{quote(key)}")
        assert status == 200, body
        return body

    def write(self, bucket: str, key: str, content: bytes) -> None:
        """Put an object, whatever was there."""
        status, body = self._ask("PUT", f"/{bucket}/{quote(key)}", content)
        assert status == 200, body

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        status, body = self._ask("DELETE", f"/{bucket}/{quote(key)}")
        assert status == 204, body

    def _ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        address = urlsplit(self.endpoint)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        try:
            connection.request(method, path, body, {"x-harness": "1"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


_LOCATION = (
    f"<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
).encode()


def _listed(text: str) -> dict[str, int]:
    from urllib.parse import unquote

    entries = re.findall("<Contents>(.*?)</Contents>", text, re.DOTALL)
    return {unquote(_value(entry, "Key")): int(_value(entry, "Size")) for entry in entries}


def _value(entry: str, name: str) -> str:
    found = re.search(f"<{name}>(.*?)</{name}>", entry, re.DOTALL)
    assert found, entry
    return found[1]


@contextmanager
def s3_server(environment: Mapping[str, str] | None = None) -> Iterator[S3Server]:
    """Run a server until the block ends."""
    check_installed()
    program = Path(__file__).with_name("moto_server.py")
    keys = (
        f"{GOOD.access_key_id}={GOOD.secret_access_key}",
        f"{EXPIRED.access_key_id}={EXPIRED.secret_access_key}=expired",
    )
    command = (str(SERVERS / "bin" / "python"), "-u", str(program), *keys)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AWS_", "LD_PRELOAD"))}
    with server(command, r"listening on (\d+)", {**clean, **(environment or {})}) as found:
        yield S3Server(f"http://127.0.0.1:{found[1]}")
