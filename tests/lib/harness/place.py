"""An empty place of its own in any of the stores: the same few verbs for a folder, S3, Azure Blob and OneLake."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

from harness.azure import Account
from harness.s3 import S3Server

Kind = Literal["folder", "s3", "azure", "onelake"]
KINDS: tuple[Kind, ...] = ("folder", "s3", "azure", "onelake")


class Place(Protocol):
    """Where a lake of a test lies. Keys are relative to it; what is asked here goes past every proxy."""

    @property
    def kind(self) -> Kind:
        """What holds it."""

    @property
    def address(self) -> str:
        """As a user writes it, without a slash at the end."""

    @property
    def host(self) -> str:
        """The server's ``http://127.0.0.1:…``, for a proxy; empty for a folder."""

    def storage(self, endpoint: str | None = None) -> dict[str, str]:
        """Options as aiflow names them; ``endpoint`` may be a proxy's."""

    def options(self, endpoint: str | None = None) -> dict[str, str]:
        """Options as delta-rs, polars and obstore name them."""

    def files(self, prefix: str = "") -> dict[str, int]:
        """Keys and sizes."""

    def read(self, key: str) -> bytes:
        """One object's content."""

    def write(self, key: str, content: bytes) -> None:
        """Put one object."""

    def delete(self, key: str) -> None:
        """Delete one object."""


@dataclass(frozen=True)
class FolderPlace:
    """A folder."""

    root: Path
    kind: Kind = "folder"
    host: str = ""

    @property
    def address(self) -> str:
        """The folder's path."""
        return str(self.root)

    def storage(self, endpoint: str | None = None) -> dict[str, str]:
        """None are needed."""
        return {}

    options = storage

    def files(self, prefix: str = "") -> dict[str, int]:
        """Keys and sizes of the files."""
        found = {
            path.relative_to(self.root).as_posix(): path.stat().st_size
            for path in self.root.rglob("*")
            if path.is_file()
        }
        return {key: size for key, size in found.items() if key.startswith(prefix)}

    def read(self, key: str) -> bytes:
        """One file's content."""
        return (self.root / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        """Write one file, folders made."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def delete(self, key: str) -> None:
        """Delete one file."""
        (self.root / key).unlink()


@dataclass(frozen=True)
class StorePlace:
    """A prefix in a bucket or a container."""

    kind: Kind
    server: S3Server | Account
    bucket: str
    prefix: str = "lake"

    @property
    def address(self) -> str:
        """``s3://…`` or ``abfss://…``."""
        if isinstance(self.server, S3Server):
            return f"s3://{self.bucket}/{self.prefix}"
        return self.server.address(self.bucket, self.prefix)

    @property
    def host(self) -> str:
        """The server's address."""
        return self.server.endpoint if isinstance(self.server, S3Server) else self.server.host

    def storage(self, endpoint: str | None = None) -> dict[str, str]:
        """Options as aiflow names them."""
        return self.server.storage(endpoint=endpoint)

    def options(self, endpoint: str | None = None) -> dict[str, str]:
        """Options as delta-rs, polars and obstore name them."""
        return self.server.options(endpoint=endpoint)

    def files(self, prefix: str = "") -> dict[str, int]:
        """Keys and sizes of the objects."""
        found = self.server.files(self.bucket, f"{self.prefix}/{prefix}")
        return {key.removeprefix(f"{self.prefix}/"): size for key, size in found.items()}

    def read(self, key: str) -> bytes:
        """One object's content."""
        return self.server.read(self.bucket, f"{self.prefix}/{key}")

    def write(self, key: str, content: bytes) -> None:
        """Put one object."""
        self.server.write(self.bucket, f"{self.prefix}/{key}", content)

    def delete(self, key: str) -> None:
        """Delete one object."""
        self.server.delete(self.bucket, f"{self.prefix}/{key}")

    def open(self, endpoint: str | None = None, *, tries_again: bool = True, **options: str) -> Any:
        """Open the place with obstore, a client that is not aiflow's; ``options`` go before ours."""
        from obstore.store import AzureStore, S3Store

        kind: Any = S3Store if isinstance(self.server, S3Server) else AzureStore
        retries = {} if tries_again else {"retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=5)}}
        return kind(self.bucket, prefix=self.prefix, config={**self.options(endpoint), **options}, **retries)
