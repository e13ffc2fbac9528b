"""Addresses of lakes and stores: one spelling for each place, so that two of them can be compared.

Forms, as the stores' own documentation gives them: a folder or ``file:///…``; ``s3://bucket/path`` (``s3a``, ``s3n``);
``az://container/path`` (``azure``, ``adl``), ``abfss://container@account.dfs.core.windows.net/path`` (``abfs``; also
``blob``), ``https://account.dfs.core.windows.net/container/path``; Fabric OneLake as
``abfss://workspace@onelake.dfs.fabric.microsoft.com/item.Lakehouse/Tables`` or its ``https://`` form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from aiflow_sdk.errors import ConfigurationError

StoreKind = Literal["folder", "s3", "azure"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # one letter is a Windows drive
_S3 = frozenset({"s3", "s3a", "s3n"})
_CONTAINER = frozenset({"az", "azure", "adl"})
_FILE_SYSTEM = frozenset({"abfs", "abfss"})
_AZURE_HOST = re.compile(r"([a-z0-9-]+)\.(?:dfs|blob)\.(core\.windows\.net|fabric\.microsoft\.com)")
FABRIC = "fabric.microsoft.com"
"""Where the names of Fabric's stores end."""
_FORMS = "a folder, s3://bucket/…, az://container/… or abfss://container@account.dfs.core.windows.net/…"


@dataclass(frozen=True)
class Address:
    """A place in a store, in the one spelling that this module gives it."""

    kind: StoreKind
    host: str = ""
    """Of an object store: ``bucket``, or ``account/container`` (the account may be empty: the settings name it)."""
    path: str = ""
    """Decoded. Of a folder absolute; in an object store without a slash at either end."""
    domain: str = ""
    """Of an Azure account that the address names: ``core.windows.net`` or ``fabric.microsoft.com``."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of a file system."""
        return self.kind == "folder"

    @property
    def uri(self) -> str:
        """The address as drivers take it: an absolute folder, ``s3://…``, ``az://…`` or ``abfss://…``."""
        if self.is_folder:
            return self.path
        path = f"/{self.path}".rstrip("/")
        if self.kind == "s3":
            return f"s3://{self.host}{path}"
        account, _, container = self.host.partition("/")
        if not account:
            return f"az://{container}{path}"
        return f"abfss://{container}@{account}.dfs.{self.domain}{path}"

    def joined(self, key: str) -> Address:
        """Return the place ``key`` (``a/b``) below this one."""
        if self.is_folder:
            return Address("folder", path=f"{self.path.rstrip('/')}/{key}")
        return Address(self.kind, self.host, f"{self.path}/{key}".strip("/"), self.domain)

    def contains(self, other: Address) -> bool:
        """Whether ``other`` is this place or lies below it."""
        if self.kind != other.kind or not _are_one_host(self.host.lower(), other.host.lower()):
            return False
        mine, theirs = self._compared, other._compared
        return not mine or theirs == mine or theirs.startswith(f"{mine}/")

    @property
    def _compared(self) -> str:
        path = self.path.strip("/")
        return path.lower() if self.domain == FABRIC else path  # which takes a name in any case

    def overlaps(self, other: Address) -> bool:
        """Whether one of the two places contains the other."""
        return self.contains(other) or other.contains(self)


def parse_address(text: str, *, root: Path | None = None, storage: Mapping[str, Any] | None = None) -> Address:
    """Return the address that ``text`` spells; a folder is relative to ``root``, its links are resolved.

    ``storage`` gives the account of ``az://container``. Raises ``ConfigurationError`` (``unsupported-store``).
    """
    if not text.strip() or "\0" in text:
        raise ConfigurationError("unsupported-store", "the address of a store is empty", hint=f"write {_FORMS}")
    if not _SCHEME.match(text):
        return Address("folder", path=((root or Path.cwd()) / Path(text).expanduser()).resolve().as_posix())
    parts = urlsplit(text)
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if scheme == "file" and host in ("", "localhost"):
        return Address("folder", path=Path(unquote(parts.path) or "/").resolve().as_posix())
    if parts.query or parts.fragment or parts.password:
        raise _unsupported(text, "carries more than a place", "credentials belong to [environments.NAME.storage]")
    path = _path_of(text, parts.path)
    if scheme in _S3 and (":" in parts.netloc or "@" in parts.netloc):
        raise _unsupported(text, "names more than a bucket", "the endpoint belongs to [environments.NAME.storage]")
    if scheme in _S3 and host and not parts.username:
        return Address("s3", host, path)
    if scheme in _CONTAINER and host and not parts.username:
        return Address("azure", f"{str((storage or {}).get('account', '')).lower()}/{host}", path)
    if (found := _AZURE_HOST.fullmatch(host)) and scheme in (_FILE_SYSTEM | {"https"}):
        container, rest = (parts.username or "", path) if scheme in _FILE_SYSTEM else _first(path)
        if container:
            return Address("azure", f"{found[1]}/{unquote(container)}", rest, found[2])
    raise _unsupported(text, "is of no store that is known", f"write {_FORMS}")


def _are_one_host(one: str, other: str) -> bool:
    """Whether two hosts may be one: an account that is not named may be any, a region's OneLake is OneLake."""
    mine, theirs = one.split("/"), other.split("/")
    if mine[-1] != theirs[-1] or len(mine) != len(theirs):
        return False
    accounts = {
        account.rpartition("-")[2] if account.endswith("-onelake") else account for account in (mine[0], theirs[0])
    }
    return len(mine) == 1 or len(accounts) == 1 or "" in accounts


def _path_of(text: str, path: str) -> str:
    """Return the path decoded, without empty parts and ``.``. Raises for one that climbs out by ``..``."""
    parts: list[str] = []
    for part in (unquote(part) for part in path.split("/")):
        if set(part) & set("/\\%?#"):
            raise _unsupported(text, "has a name with one of / \\ % ? #", "use plain names for folders")
        if part == ".." and not parts:
            raise _unsupported(text, "leads out of its store", "write it without '..'")
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _first(path: str) -> tuple[str, str]:
    container, _, rest = path.partition("/")
    return container, rest


def _unsupported(text: str, what: str, hint: str) -> ConfigurationError:
    return ConfigurationError("unsupported-store", f"the address {without_credentials(text)} {what}", hint=hint)


def without_credentials(address: str) -> str:
    """Return an address without what may be a password, a key or a signature."""
    return re.sub(r"//[^/@]*:[^/@]*@", "//", address.split("?", 1)[0])
