"""Looks up ``secret://name`` where the environment says: variables, a folder, a file, an installed provider."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from aiflow_sdk.errors import AiflowError, ConfigurationError, DefinitionError, PluginError, Where, did_you_mean
from aiflow_sdk.redaction import AWS_KEY_ID, ISSUED_TOKEN, KINDS_OF_KEY, PRIVATE_KEY, REDACTOR, REFERENCE

if TYPE_CHECKING:
    from aiflow_sdk.config.environment import Environment

SCHEME = REFERENCE
DEFAULT_PREFIX = "AIFLOW_SECRET_"
"""Begins the environment variables that hold secrets, so that no pipeline can ask for others (``PATH``)."""

PROVIDERS: Mapping[str, frozenset[str]] = {
    "env": frozenset({"prefix"}),
    "file": frozenset({"path"}),
    "airflow": frozenset({"prefix"}),
}
"""What may be said of each provider of ours in ``[environments.NAME.secrets]``, beside ``provider`` itself."""

HANDED: dict[str, str] = {}
"""Name → value of the secrets that whoever started this process looked up for it: Airflow's, which it cannot ask."""

PROVIDER_GROUP = "aiflow.secrets"
"""The entry points of other providers: name → a class that is called with the settings beside ``provider``."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_BEGINS_WORD = r"(?:^|_|(?<=[a-z0-9])(?=(?-i:[A-Z])))"
_LITERAL_NAME = re.compile(
    rf"{_BEGINS_WORD}(passwords?|passwd|pwd|passphrase|secret|token|credentials?|sas|{KINDS_OF_KEY}_?key)$",
    re.IGNORECASE,
)
# An address is sought by its "://": by the scheme before it, a text of 70,000 letters took the square of that.
_LITERAL_TEXT = re.compile(
    r"""(?<=[a-z0-9+.-])://[^/\s:@]*:(?P<password>[^/\s@]+)@"""
    r"""|\b(?:password|pwd|accountkey|sharedaccesskey|sharedaccesssignature|client_secret|secretkey)\s*=\s*(?P<pair>[^;\s&]+)"""
    rf"""|\b(?P<aws>{AWS_KEY_ID})\b|(?P<pem>{PRIVATE_KEY})"""
    rf"""|\b(?P<issued>{ISSUED_TOKEN})|\b(?P<ours>aiflow_[a-z0-9_-]{{43}})"""
    r"""|(?<![a-z0-9_-])(?P<signed>eyJ[a-z0-9_-]{8,}\.[a-z0-9_-]{8,}\.[a-z0-9_-]*)|[?&]sig=(?P<sas>[^&\s]{8,})"""
    r"""|\b(?:bearer|basic)\s+(?P<bearer>(?=[a-z._~+/=-]*[0-9])[a-z0-9._~+/=-]{12,})""",
    re.IGNORECASE,
)
_SHORTEST_KEY = 15
"""How many characters what ``_LITERAL_TEXT`` finds has at least, but for pairs and addresses."""
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(.*)")


class Secret(str):
    """The value of a secret: text that does not show itself where it is only represented (logs of data, tracebacks)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Secret, (str.__str__(self),))


class SecretProvider(Protocol):
    """A store of secrets: a class, called with the settings of ``[environments.NAME.secrets]`` as keywords."""

    def get(self, name: str) -> str | None:
        """Return the value, None where there is no such secret. What it raises is told by its type alone."""
        ...


def provider_names() -> tuple[str, ...]:
    """Return the providers that may be named: ours, and those that installed packages offer."""
    from importlib.metadata import entry_points

    return tuple(sorted({*PROVIDERS, *(point.name for point in entry_points(group=PROVIDER_GROUP))}))


def resolve_secret(reference: str, environment: Environment) -> Secret:
    """Return the value that ``secret://name`` stands for.

    Provider ``env`` (the default) reads the variable ``AIFLOW_SECRET_NAME`` (``prefix`` and the name in capitals,
    other characters as ``_``); ``file`` reads ``path``: a folder with one file a secret, a ``.toml`` file, or lines
    ``NAME=value``; ``airflow`` takes what the task's operator looked up in Airflow's connections; others are asked
    (:class:`SecretProvider`). The value is hidden from then on in what this process
    writes down (:mod:`aiflow_sdk.redaction`). Raises ``ConfigurationError`` (``unknown-secret``), which tells where it
    looked and never a value.
    """
    secret = _looked_up(reference, environment)
    REDACTOR.add(secret)
    return secret


def _looked_up(reference: str, environment: Environment) -> Secret:
    name = reference.removeprefix(SCHEME)
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            "unknown-secret",
            f"{name!r} is not the name of a secret",
            hint="letters, digits, '_', '.', '-', and '/' between them",
        )
    match str(environment.secrets.get("provider", "env")):
        case "env":
            return _from_variable(name, environment)
        case "file":
            return _from_file(name, environment)
        case "airflow":
            return _handed(name, environment)
        case provider:
            return _from_provider(provider, name, environment)


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
    import tomllib

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


def _handed(name: str, environment: Environment) -> Secret:
    if name not in HANDED:
        place = "Airflow's connections, which only a task that Airflow started is given"
        hint = f"add the connection {name.partition('/')[0]} to Airflow"
        raise _unknown(name, environment, place, hint, name, HANDED)
    return Secret(HANDED[name])


def _from_provider(provider: str, name: str, environment: Environment) -> Secret:
    try:
        options = {key: value for key, value in environment.secrets.items() if key != "provider"}
        found = _open_provider(provider, tuple(sorted(options.items()))).get(name)
    except AiflowError:
        raise
    except Exception as error:  # noqa: BLE001 a stranger's code, whose message may show a value
        raise ConfigurationError(
            "unreadable-secrets",
            f"the provider of secrets '{provider}' failed for '{name}': {type(error).__name__}",
            where=Where(about=f"environment '{environment.name}'"),
            hint="see that its settings in aiflow.toml are right and that it can be reached",
            retryable=isinstance(error, OSError),
        ) from None
    if found is None:
        raise _unknown(name, environment, f"it with the provider '{provider}'", f"add {name} there", name, [])
    return Secret(found)


@cache
def _open_provider(provider: str, options: tuple[tuple[str, Any], ...]) -> SecretProvider:
    from importlib.metadata import entry_points

    points = list(entry_points(group=PROVIDER_GROUP, name=provider))
    if not points:
        raise ConfigurationError(
            "bad-setting",
            f"no provider of secrets is called '{provider}'",
            hint=did_you_mean(provider, provider_names()),
            notes=[f"providers: {', '.join(provider_names())}"],
        )
    if len({point.value for point in points}) > 1:
        claims = " and ".join(f"{point.dist.name if point.dist else '?'} ({point.value})" for point in points)
        raise PluginError(
            "duplicate-plugin",
            f"the provider of secrets '{provider}' is claimed by {claims}",
            hint="uninstall one of them or rename its entry point",
        )
    try:
        make: Callable[..., SecretProvider] = points[0].load()
    except Exception as error:  # whatever a stranger's module raises
        raise PluginError(
            "broken-plugin",
            f"the provider of secrets '{provider}' ({points[0].value}) cannot be loaded: {error!r}",
            hint="reinstall the package that provides it",
        ) from error
    return make(**dict(options))


def secret_problems(value: Any, name: str = "", *, where_it_stands: str = "the pipeline") -> Iterator[DefinitionError]:
    """Yield an error for each text in plain data that looks like a secret. The text itself is not shown."""
    match value:
        case str():
            if value and not (value.startswith(SCHEME) and _NAME.fullmatch(value.removeprefix(SCHEME))):
                found = None if _is_surely_none(value) else _LITERAL_TEXT.search(value)
                if found and "{{" not in next(text for text in found.groups() if text):
                    yield _literal_secret(name, "a password or key stands in the text of", where_it_stands)
                elif _is_secrets_name(name.rpartition(".")[2]) and "{{" not in value:
                    yield _literal_secret(name, "plain text is given for", where_it_stands)
        case None | int() | float():  # as mappings, whose abstract class is slow to ask, after what is common
            pass
        case dict() | Mapping():
            if isinstance(called := value.get("name"), str) and _is_secrets_name(called):  # as variables are listed
                yield from secret_problems(value.get("value"), f"{name}.{called}", where_it_stands=where_it_stands)
            for key, item in value.items():
                yield from secret_problems(item, f"{name}.{key}".lstrip("."), where_it_stands=where_it_stands)
        case list() | tuple():
            for item in value:
                yield from secret_problems(item, name, where_it_stands=where_it_stands)


def _is_surely_none(text: str) -> bool:
    """Whether the text is too short for any key, and no pair or address: most are, and the pattern takes its time."""
    return len(text) < _SHORTEST_KEY and "=" not in text and "://" not in text


@lru_cache(maxsize=1024)
def _is_secrets_name(name: str) -> bool:
    return _LITERAL_NAME.search(name) is not None


def _literal_secret(name: str, what: str, where_it_stands: str) -> DefinitionError:
    reference = re.sub(r"[^A-Za-z0-9_]+", "_", name.rpartition(".")[2])
    return DefinitionError(
        "literal-secret",
        f"{what} '{name}', and whoever reads {where_it_stands} would read it",
        hint=f'write "secret://{reference}" as the whole value; the environment says where that name is looked up',
    )


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
