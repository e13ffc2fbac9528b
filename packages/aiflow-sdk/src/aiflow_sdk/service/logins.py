"""Who the user of this machine is to each metadata service: tokens by address, in a file that they alone may read."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from aiflow_sdk.config import Environment, resolve_secret
from aiflow_sdk.errors import AccessError, ConfigurationError, ReceiverError, StoreError, Where
from aiflow_sdk.redaction import REDACTOR
from aiflow_sdk.stores import replace_private_file

if TYPE_CHECKING:
    from aiflow_sdk.service.provider import Provider, Tokens

_OTHERS = 0o077
_AHEAD_SECONDS = 60.0
"""How long before it is over a token is renewed."""


class _Signed(TypedDict):
    """A sign-in provider's token, and what renews it (empty: nothing does)."""

    token: str
    expires_at: float
    """Seconds since 1970."""
    subject: str
    refresh_token: str
    issuer: str
    client_id: str
    token_address: str


def logins_file() -> Path:
    """Return the file: ``$XDG_CONFIG_HOME/aiflow/logins.json``, else in ``~/.config``."""
    # Not Path's own way, which raises where a container's user has no home.
    return Path(os.path.expanduser(os.environ.get("XDG_CONFIG_HOME") or "~/.config")) / "aiflow" / "logins.json"


def find_token(environment: Environment, *, is_personal: bool) -> str | None:
    """Return the token that an environment's service is called with; None where there is none.

    What a pipeline does (its tasks' grants, its releases, as its events) goes with the environment's ``service_token``,
    so that all of it is one team's; what somebody asks for themselves (``is_personal``) goes with their own login.
    Where one is absent the other stands for it. Raises ``ConfigurationError`` (``unknown-secret``) and as
    :func:`find_login`.
    """
    assert environment.service is not None
    reference = environment.service_token
    if reference is None or is_personal:
        login = find_login(environment.service)
        if login is not None or reference is None:
            return login
    return resolve_secret(reference, environment)


def find_asker(environment: Environment) -> str | None:
    """Return a digest of who calls an environment's service, the same for each token of theirs that is renewed.

    It tells neither token nor name. None: nobody, as far as can be said.
    """
    assert environment.service is not None
    who: str | _Signed | None = environment.service_token
    if who is None:
        with suppress(ConfigurationError):
            who = _read().get(_key(environment.service))
    if isinstance(who, dict):
        who = f"{who['issuer']}\n{who['subject']}"
    return who and hashlib.sha256(who.encode()).hexdigest()


def find_login(address: str) -> str | None:
    """Return the token that the user has for a service, hidden from now on in what this process writes down.

    One of a sign-in provider is renewed shortly before it is over, where the provider gave what renews it. Raises
    ``ConfigurationError`` (``unsafe-login``) where others may read the file, or it cannot be read, ``AccessError``
    (``login-over``), and ``ReceiverError`` (``provider-unreachable``) where a token is over and cannot be renewed now.
    """
    kept = _read().get(_key(address))
    if isinstance(kept, dict):
        REDACTOR.add(kept["token"])
        if not _is_good(kept) and kept["refresh_token"]:
            kept = _renewed(address, kept)
    if isinstance(kept, dict):
        if time.time() >= kept["expires_at"]:
            raise _over(address, kept)
        kept = kept["token"]
    if kept is not None:
        REDACTOR.add(kept)
    return kept


def has_login(address: str) -> bool:
    """Tell whether the user has a token for a service, good or not.

    Raises ``ConfigurationError`` (``unsafe-login``).
    """
    return _key(address) in _read()


def keep_login(address: str, token: str) -> Path:
    """Keep the token for a service, in place of an earlier one, and return the file. Raises as :func:`has_login`,
    and ``StoreError`` (``store-not-writable``)."""
    return _keep(address, token)


def keep_signed_login(address: str, provider: Provider, tokens: Tokens) -> Path:
    """Keep what a sign-in provider gave for a service; else as :func:`keep_login`."""
    return _keep(address, _signed(provider, tokens))


def _signed(provider: Provider, tokens: Tokens) -> _Signed:
    return {
        "token": tokens.token,
        "expires_at": tokens.expires_at,
        "subject": tokens.subject,
        "refresh_token": tokens.refresh_token or "",
        "issuer": provider.issuer,
        "client_id": provider.client_id,
        "token_address": provider.token_address,
    }


def _keep(address: str, login: str | _Signed) -> Path:
    with _alone("writing"):
        return _write({**_read(), _key(address): login})


def _renewed(address: str, kept: _Signed) -> str | _Signed:
    """Return the login as it is kept then; only one process at a time renews, since a refresh token may be good once.

    While the token is good nobody waits for another process that asks a provider which may hang.
    """
    with _alone("renewing", waits=time.time() >= kept["expires_at"]) as is_alone:
        if not is_alone:
            return kept
        now_kept = _read().get(_key(address))  # another process may have renewed it meanwhile
        if isinstance(now_kept, dict) and not _is_good(now_kept) and now_kept["refresh_token"]:
            return _renew(address, now_kept)
    return _still(address, now_kept)


def _renew(address: str, kept: _Signed) -> str | _Signed:
    """Return the login with a new token, or as it is where the provider gives none and it is not over yet.

    What somebody kept or forgot while the provider was asked stands.
    """
    from aiflow_sdk.service.provider import Provider

    REDACTOR.add(kept["refresh_token"])
    provider = Provider(kept["issuer"], kept["client_id"], "", kept["token_address"])
    form = {"grant_type": "refresh_token", "refresh_token": kept["refresh_token"]}
    try:
        tokens = provider.ask_token(form, subject=kept["subject"])
    except (AccessError, ReceiverError) as error:
        if time.time() < kept["expires_at"]:
            return kept
        if isinstance(error, ReceiverError):
            error.at(Where(about=f"the login at {address}"))
            raise
        raise _over(address, kept, str(error.message)) from error
    renewed = _signed(provider, replace(tokens, refresh_token=tokens.refresh_token or kept["refresh_token"]))
    with _alone("writing"):
        known = _read()
        now_kept = known.get(_key(address))
        if now_kept == kept:
            _write({**known, _key(address): renewed})
            return renewed
    return _still(address, now_kept)


def _still(address: str, kept: str | _Signed | None) -> str | _Signed:
    if kept is None:
        said = f"the login at {address} was forgotten while it was to be renewed"
        raise AccessError("login-over", said, hint="log in again: aiflow login")
    return kept


def _is_good(kept: _Signed) -> bool:
    return time.time() < kept["expires_at"] - _AHEAD_SECONDS


def _over(address: str, kept: _Signed, why: str = "") -> AccessError:
    moment = datetime.fromtimestamp(kept["expires_at"]).astimezone()
    return AccessError(
        "login-over",
        f"the login at {address} was over at {moment:%Y-%m-%d %H:%M}" + (f", and {why}" if why else ""),
        hint="log in again: aiflow login",
    )


@contextmanager
def _alone(at: Literal["renewing", "writing"], *, waits: bool = True) -> Iterator[bool]:
    """Keep other processes of the user from doing the same meanwhile; tell whether that is so, which it is if it waits.

    Renewing takes as long as the provider, writing does not: who wants both begins with renewing. Raises ``StoreError``
    (``store-not-writable``).
    """
    path = logins_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path.with_name(f".{path.name}.{at}"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        yield _lock(handle, waits=waits)
    finally:
        os.close(handle)


def _lock(handle: int, *, waits: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def forget_login(address: str) -> bool:
    """Forget the token for a service; tell whether there was one."""
    if not has_login(address):
        return False
    with _alone("writing"):
        known = dict(_read())
        was_there = known.pop(_key(address), None) is not None
        _write(known)
    return was_there


def _key(address: str) -> str:
    return address.rstrip("/")


def _read() -> Mapping[str, str | _Signed]:
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
    if not isinstance(told, dict) or not all(map(_is_login, told.values())):
        raise _unsafe(path, "it holds something else", "remove it, and log in again")
    return told


def _is_login(kept: Any) -> bool:
    if not isinstance(kept, dict):
        return isinstance(kept, str)
    texts = ("token", "subject", "refresh_token", "issuer", "client_id", "token_address")
    return all(isinstance(kept.get(name), str) for name in texts) and isinstance(kept.get("expires_at"), int | float)


def _write(logins: Mapping[str, str | _Signed]) -> Path:
    path = logins_file()
    try:
        replace_private_file(path, json.dumps(logins, indent=1))
    except OSError as error:
        raise _not_writable(path, error) from error
    return path


def _not_writable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        "store-not-writable",
        f"{path} cannot be written: {error.strerror or error}",
        hint="let its folder be written to, or name another one with XDG_CONFIG_HOME",
    )


def _unsafe(path: Path, why: str, hint: str) -> ConfigurationError:
    return ConfigurationError(
        "unsafe-login", f"the logins of this machine are not used: {why}", where=Where(str(path)), hint=hint
    )
