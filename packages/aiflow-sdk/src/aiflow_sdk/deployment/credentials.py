"""Passwords in the addresses that packages are installed from: what is published, all who deploy and run can read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch

from aiflow_sdk.errors import DefinitionError, Where

_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<user>[^/\s@:'\"]*)(?P<password>:[^\s@'\"]*)?@(?P<rest>[^\s'\"]*)"
)
_QUERY = re.compile(
    r"://[^\s'\"]*?[?&;](?:[\w.-]*[_.-])?(?:(?:access|private|api|auth|job|deploy)?(?:token|key|secret)|password|passwd|pwd"
    r"|sig|signature|credential|pat)=(?P<value>[^\s&;#'\"]+)",
    re.IGNORECASE,
)
"""A value of an address's query whose name says that it opens something."""
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
        in_query = (found["value"] for found in _QUERY.finditer(line))
        if any(map(_holds_secret, _ADDRESS.finditer(line))) or not all(map(_VARIABLE.fullmatch, in_query)):
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
    user, password = found["user"], (found["password"] or "")[1:]
    is_key = "ssh" in found["scheme"].lower()  # there a key opens the door, and the name is none
    first, slash, _ = password.partition("/")
    if slash and (is_key or user.startswith("[") or first.isdigit() or not first or _VARIABLE.fullmatch(first)):
        return False  # a host and its port; the "@" is one of the path
    if password:
        return not _VARIABLE.fullmatch(password)
    # An organisation's name stands in the address anyway: https://NAME@dev.azure.com/NAME/…
    is_name = user.lower() in re.split(r"[/.:@]", found["rest"].lower())
    return not is_key and len(user) > _LONGEST_USER and not is_name and not _VARIABLE.fullmatch(user)
