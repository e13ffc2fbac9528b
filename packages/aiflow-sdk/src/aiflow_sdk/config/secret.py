"""Looks up ``secret://name`` where the environment says: in environment variables, a folder or a file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiflow_sdk.config.environment import Environment
from aiflow_sdk.errors import ConfigurationError, Where, did_you_mean

SCHEME = "secret://"
DEFAULT_PREFIX = "AIFLOW_SECRET_"
"""Begins the environment variables that hold secrets, so that no pipeline can ask for others (``PATH``)."""

PROVIDERS: Mapping[str, frozenset[str]] = {"env": frozenset({"prefix"}), "file": frozenset({"path"})}
"""What may be said of each provider in ``[environments.NAME.secrets]``, beside ``provider`` itself."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(.*)")


class Secret(str):
    """The value of a secret: text that does not show itself where it is only represented (logs of data, tracebacks)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Secret, (str.__str__(self),))


def resolve_secret(reference: str, environment: Environment) -> Secret:
    """Return the value that ``secret://name`` stands for.

    Provider ``env`` (the default) reads the variable ``AIFLOW_SECRET_NAME`` (``prefix`` and the name in capitals,
    other characters as ``_``); ``file`` reads ``path``: a folder with one file a secret, a ``.toml`` file, or lines
    ``NAME=value``. Raises ``ConfigurationError`` (``unknown-secret``), which tells where it looked and never a value.
    """
    name = reference.removeprefix(SCHEME)
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            "unknown-secret",
            f"{name!r} is not the name of a secret",
            hint="letters, digits, '_', '.', '-', and '/' between them",
        )
    provider = environment.secrets.get("provider", "env")
    if provider == "env":
        return _from_variable(name, environment)
    if provider == "file":
        return _from_file(name, environment)
    raise ConfigurationError(
        "bad-setting",
        f"environment '{environment.name}' looks up secrets with '{provider}', which this aiflow does not know",
        hint=did_you_mean(str(provider), PROVIDERS) or f"providers: {', '.join(PROVIDERS)}",
    )


def resolve_secrets(value: Any, environment: Environment) -> Any:
    """Return plain data with each text ``secret://name`` replaced by its value; see :func:`resolve_secret`."""
    match value:
        case str():
            return resolve_secret(value, environment) if value.startswith(SCHEME) else value
        case Mapping():
            return {key: resolve_secrets(item, environment) for key, item in value.items()}
        case list():
            return [resolve_secrets(item, environment) for item in value]
        case tuple():
            return tuple(resolve_secrets(item, environment) for item in value)
        case _:
            return value


def _from_variable(name: str, environment: Environment) -> Secret:
    prefix = str(environment.secrets.get("prefix", DEFAULT_PREFIX))
    variable = prefix + re.sub(r"[^A-Z0-9]", "_", name.upper())
    if variable in os.environ:
        return Secret(os.environ[variable])
    known = [key for key in os.environ if key.startswith(prefix)] if prefix else []
    raise _unknown(name, environment, f"the environment variable {variable}", f"set {variable}", variable, known)


def _from_file(name: str, environment: Environment) -> Secret:
    path = Path(environment.resolve(str(environment.secrets["path"])))
    try:
        if path.is_dir():
            return Secret((path / name).read_text("utf-8-sig").removesuffix("\n").removesuffix("\r"))
        text = path.read_text("utf-8-sig")
        values = _flatten(tomllib.loads(text)) if path.suffix == ".toml" else _read_lines(text)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        place = path / name if path.is_dir() else path
        known = sorted(entry.name for entry in path.iterdir() if entry.is_file()) if path.is_dir() else []
        raise _unknown(name, environment, f"the file {place}", f"write it into {place}", name, known) from None
    except (OSError, ValueError) as error:
        # The text of a TOML or decoding error may show a piece of the file, so only its kind is told.
        raise ConfigurationError(
            "unreadable-secrets",
            f"the secrets of environment '{environment.name}' cannot be read: {type(error).__name__}",
            where=Where(str(path)),
            hint="it is a folder with one file a secret, a .toml file, or lines NAME=value, and you may read it",
        ) from None
    for spelling in (name, name.replace("/", "."), re.sub(r"[^A-Z0-9]", "_", name.upper())):
        if spelling in values:
            return Secret(values[spelling])
    raise _unknown(name, environment, f"the file {path}", f"add {name} to it", name, values)


def _unknown(
    name: str, environment: Environment, place: str, hint: str, wanted: str, known: Mapping[str, Any] | list[str]
) -> ConfigurationError:
    return ConfigurationError(
        "unknown-secret",
        f"the secret '{name}' is not there",
        where=Where(about=f"environment '{environment.name}'"),
        hint=did_you_mean(wanted, known) or hint,
        notes=[f"looked for {place}", f"[environments.{environment.name}.secrets] of aiflow.toml says where to look"],
    )


def _flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in data.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: str(value)}
    return flat


def _read_lines(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for line in text.splitlines():
        if found := _LINE.fullmatch(line.strip()):
            value = found[2]
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            values[found[1]] = value[1:-1] if quoted else value
    return values
