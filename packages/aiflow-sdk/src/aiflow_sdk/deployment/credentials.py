"""Passwords in the addresses that packages are installed from: what is published, all who deploy and run can read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch

from aiflow_sdk.errors import DefinitionError, Where

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<user>[^/\s@:'\"]*)(?P<password>:[^/\s@'\"]*)?@")
_VARIABLE = re.compile(r"(\$\{[A-Z0-9_]+\})+")
"""As pip and uv fill it in, where they install."""
_LONGEST_USER = 19
"""A longer name is a token. ``VssSessionToken@`` and ``oauth2accesstoken@`` only say that a keyring is to be asked."""
_INSTALLERS_FILES = (
    "*requirements*.txt",
    "*requirements*.in",
    "*constraints*.txt",
    "*.lock",
    "pyproject.toml",
    "uv.toml",
    "poetry.toml",
    "Pipfile",
    "Pipfile.lock",
    "pip.conf",
    "pip.ini",
    "setup.cfg",
)


def is_installers_file(path: str) -> bool:
    """Tell whether a file of this name may say where packages are installed from."""
    name = path.rpartition("/")[2]
    return any(fnmatch(name, pattern) for pattern in _INSTALLERS_FILES)


def credential_problems(path: str, text: str) -> Iterator[DefinitionError]:
    """Yield an error for each line with an address that holds a password or token, which is not shown."""
    for number, line in enumerate(text.splitlines(), 1):
        if any(map(_holds_secret, _ADDRESS.finditer(line))):
            yield literal_credential(Where(path, number))


def literal_credential(where: Where) -> DefinitionError:
    """Return the error for such an address."""
    return DefinitionError(
        "literal-secret",
        "a password or token stands in the address that packages come from, and whoever reads what is deployed would "
        "read it",
        where=where,
        hint="take it out of the address; on the workers set UV_INDEX_URL, or UV_INDEX_<NAME>_USERNAME and _PASSWORD, "
        "or use a keyring; pip and uv also fill in https://${USER}:${TOKEN}@…",
    )


def _holds_secret(found: re.Match[str]) -> bool:
    password = (found["password"] or "")[1:]
    if password:
        return not _VARIABLE.fullmatch(password)
    is_key = "ssh" in found["scheme"].lower()  # there a key opens the door, and the name is none
    return not is_key and len(found["user"]) > _LONGEST_USER and not _VARIABLE.fullmatch(found["user"])
