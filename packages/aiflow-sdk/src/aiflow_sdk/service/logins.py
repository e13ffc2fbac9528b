"""Who the user of this machine is to each metadata service: tokens by address, in a file that they alone may read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from aiflow_sdk.config import Environment, resolve_secret
from aiflow_sdk.errors import ConfigurationError, StoreError, Where
from aiflow_sdk.redaction import REDACTOR

_OTHERS = 0o077


def logins_file() -> Path:
    """Return the file: ``$XDG_CONFIG_HOME/aiflow/logins.json``, else in ``~/.config``."""
    # Not Path's own way, which raises where a container's user has no home.
    return Path(os.path.expanduser(os.environ.get("XDG_CONFIG_HOME") or "~/.config")) / "aiflow" / "logins.json"


def find_token(environment: Environment, *, is_personal: bool) -> str | None:
    """Return the token that an environment's service is called with; None where there is none.

    What a pipeline does (its tasks' grants, its releases, as its events) goes with the environment's ``service_token``,
    so that all of it is one team's; what somebody asks for themselves (``is_personal``) goes with their own login.
    Where one is absent the other stands for it. Raises ``ConfigurationError`` (``unknown-secret``, ``unsafe-login``).
    """
    assert environment.service is not None
    reference = environment.service_token
    if reference is None or is_personal:
        login = find_login(environment.service)
        if login is not None or reference is None:
            return login
    return resolve_secret(reference, environment)


def find_login(address: str) -> str | None:
    """Return the token that the user has for a service, hidden from now on in what this process writes down.

    Raises ``ConfigurationError`` (``unsafe-login``) where others may read the file, or it cannot be read.
    """
    token = _read().get(_key(address))
    if token is not None:
        REDACTOR.add(token)
    return token


def keep_login(address: str, token: str) -> Path:
    """Keep the token for a service, in place of an earlier one, and return the file. Raises as :func:`find_login`,
    and ``StoreError`` (``store-not-writable``)."""
    return _write({**_read(), _key(address): token})


def forget_login(address: str) -> bool:
    """Forget the token for a service; tell whether there was one."""
    known = dict(_read())
    if known.pop(_key(address), None) is None:
        return False
    _write(known)
    return True


def _key(address: str) -> str:
    return address.rstrip("/")


def _read() -> Mapping[str, str]:
    path = logins_file()
    try:
        with path.open("rb") as file:
            is_open_to_others = bool(os.fstat(file.fileno()).st_mode & _OTHERS)
            told = json.loads(file.read())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _unsafe(path, f"it cannot be read ({type(error).__name__})", "remove it, and log in again") from None
    if is_open_to_others:
        raise _unsafe(path, "others than its owner may read it", f"chmod 600 {path}")
    if not isinstance(told, dict) or not all(isinstance(one, str) for one in told.values()):
        raise _unsafe(path, "it holds something else", "remove it, and log in again")
    return told


def _write(logins: Mapping[str, str]) -> Path:
    path = logins_file()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileNotFoundError):
            beside.unlink()
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(logins, file, indent=1)
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise StoreError(
            "store-not-writable",
            f"{path} cannot be written: {error.strerror or error}",
            hint="let its folder be written to, or name another one with XDG_CONFIG_HOME",
        ) from error
    return path


def _unsafe(path: Path, why: str, hint: str) -> ConfigurationError:
    return ConfigurationError(
        "unsafe-login", f"the logins of this machine are not used: {why}", where=Where(str(path)), hint=hint
    )
