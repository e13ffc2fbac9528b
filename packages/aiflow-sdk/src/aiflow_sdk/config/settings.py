"""Reads and checks the text of ``aiflow.toml``: every problem at once, each with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiflow_sdk.config.secret import PROVIDERS, provider_names, secret_problems
from aiflow_sdk.errors import AiflowError, ConfigurationError, ProblemsError, Where, did_you_mean

KeyPath = tuple[str, ...]
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PROJECT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""As ``project=`` of a pipeline: it is a part of paths and keys."""


class Setting(NamedTuple):
    """What a setting may hold."""

    holds: str
    """As a person would say it: ``text``, ``a list of texts``."""
    accepts: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _is_web_address(value: Any) -> bool:
    if not (_is_text(value) and re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", value)):
        return False
    try:
        return urlsplit(str(value)).port != 0
    except ValueError:  # a port that is no number, or is none from 0 to 65535
        return False


TEXT = Setting("text", _is_text)
TEXTS = Setting("a list of texts", _is_texts)
POSITIVE = Setting("a number above 0", _is_positive)
COUNT = Setting(
    "a whole number above 0", lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0
)
WEB_ADDRESS = Setting("an address http://… or https://…, with a port from 1 to 65535 if any", _is_web_address)
TRUTH = Setting("true or false", lambda value: isinstance(value, bool))
TABLE = Setting("a table", _is_table)

PROJECT_SETTINGS: Mapping[str, Setting] = {
    "project": Setting(
        "a name of letters, digits, '_', '-' and '.'",
        lambda value: isinstance(value, str) and _PROJECT_NAME.fullmatch(value) is not None,
    ),
    "pipelines": TEXTS,
    "python": TEXT,
    "lock": TEXT,
    "discovery_timeout_seconds": POSITIVE,
    "default_environment": TEXT,
    "environments": TABLE,
    "masked": TABLE,
}

ENVIRONMENT_SETTINGS: Mapping[str, Setting] = {
    "lake": TEXT,
    "staging": TEXT,
    "staging_keep_days": POSITIVE,
    "storage": TABLE,
    "reads_from": TEXT,
    "reads_storage": TABLE,
    "keep_days": POSITIVE,
    "spark": Setting("an address sc://…", lambda value: _is_text(value) and value.startswith("sc://")),
    "clusters": TABLE,
    "listeners": TABLE,
    "service": WEB_ADDRESS,
    "service_token": TEXT,
    "service_over_http": TRUTH,
    "grants_keep_hours": POSITIVE,
    "configuration_from_service": TRUTH,
    "configuration_keep_hours": POSITIVE,
    "secrets": TABLE,
    "bundles": TEXT,
    "bundles_storage": TABLE,
    "bundles_keep": COUNT,
    "bundles_keep_days": POSITIVE,
    "airflow": WEB_ADDRESS,
    "airflow_token": TEXT,
    "airflow_user": TEXT,
    "airflow_password": TEXT,
}


@dataclass(frozen=True)
class SettingsFile:
    """The text of one ``aiflow.toml``, for telling where in it something stands."""

    path: Path
    text: str

    def where(self, *keys: str) -> Where:
        """Return the place of a setting, of the table around it, or of the file."""
        return Where(self.path.name, self._line(keys), about=".".join(keys) or None)

    def _line(self, keys: KeyPath) -> int | None:
        best: tuple[int, int | None] = (0, None)
        table: KeyPath = ()
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := re.match(r"\s*\[\[?([^\]]+)\]", line):
                found = table = _split_key(header[1])
            elif assigned := re.match(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*'|\s*\.\s*)+?)\s*=", line):
                found = table + _split_key(assigned[1])
            else:
                continue
            # The whole path or the longest part of it: an inline table has one line for all its keys.
            length = min(len(found), len(keys))
            if found[:length] == keys[:length] and length > best[0]:
                best = (length, number)
        return best[1]

    def unknown(self, keys: KeyPath, known: Mapping[str, Any] | frozenset[str], what: str = "setting") -> AiflowError:
        """Return the problem of a key that nobody reads."""
        return ConfigurationError(
            "unknown-setting",
            f"aiflow.toml has no {what} '{'.'.join(keys)}'",
            where=self.where(*keys),
            hint=did_you_mean(keys[-1], known) or f"it may hold: {', '.join(sorted(known))}",
            notes=[f"looked in {self.path}"],
        )

    def bad(self, keys: KeyPath, message: str, hint: str | None = None) -> AiflowError:
        """Return the problem of a value that is not what its key holds."""
        return ConfigurationError(
            "bad-setting", message, where=self.where(*keys), hint=hint, notes=[f"looked in {self.path}"]
        )


def read_settings(path: Path) -> tuple[dict[str, Any], SettingsFile]:
    """Return the checked data of an ``aiflow.toml`` and its text. Raises ``ConfigurationError``, ``ProblemsError``."""
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            "bad-toml",
            f"aiflow.toml is not UTF-8 (byte {error.start})",
            where=Where(path.name),
            hint="save it as UTF-8",
        ) from error
    except OSError as error:
        raise ConfigurationError(
            "bad-toml", f"aiflow.toml cannot be read: {error.strerror}", where=Where(str(path))
        ) from error
    file = SettingsFile(path, text)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+), column (\d+)", str(error))
        place = Where(path.name, int(line[1]), int(line[2])) if line else Where(path.name, len(text.splitlines()))
        said = str(error).split(" (at ")[0]
        is_twice = "twice" in said or "overwrite" in said
        raise ConfigurationError(
            "bad-toml",
            f"aiflow.toml is not TOML: {said}",
            where=place,
            hint="a table or setting stands once: write what is new under the [name] that is there already"
            if is_twice
            else "text stands in quotes, a list in [], a table under [name]",
            notes=[f"looked in {path}"],
        ) from error
    problems = list(_find_problems(data, file))
    if problems:
        raise problems[0] if len(problems) == 1 else ProblemsError(problems)
    return data, file


def _find_problems(data: dict[str, Any], file: SettingsFile) -> Iterator[AiflowError]:
    yield from _check(data, (), PROJECT_SETTINGS, file)
    environments = data.get("environments")
    for name, settings in (environments if isinstance(environments, dict) else {}).items():
        keys = ("environments", name)
        if not _ENVIRONMENT_NAME.fullmatch(name):
            yield file.bad(keys, f"{name!r} is not the name of an environment", "letters, digits, '_' and '-'")
        if not isinstance(settings, dict):
            hint = did_you_mean(name, ENVIRONMENT_SETTINGS)
            yield file.bad(
                keys, f"environments.{name} is a table, not {settings!r}", hint and f"[environments.dev]: {hint}"
            )
            continue
        yield from _check(settings, keys, ENVIRONMENT_SETTINGS, file)
        for what in ("cluster", "listener"):
            for plugin, options in _table(settings.get(f"{what}s")).items():
                if not (isinstance(options, dict) and _is_text(options.get("kind"))):
                    yield file.bad(
                        (*keys, f"{what}s", plugin),
                        f"the {what} '{plugin}' needs a kind",
                        f'{plugin} = {{ kind = "…" }}',
                    )
        yield from _check_secrets(_table(settings.get("secrets")), (*keys, "secrets"), file)
        yield from _check_login(settings, keys, file)
        yield from _check_service(settings, keys, file)
        yield from _literal_secrets({k: v for k, v in settings.items() if k != "secrets"}, keys, file)
    for table, columns in flatten_masked(_table(data.get("masked"))).items():
        if "." not in table or not _is_texts(columns):
            yield file.bad(
                ("masked", *table.split(".")),
                f"masked.{table} names no columns of a table",
                '"schema.table" = ["column", …]',
            )


def _check(
    settings: dict[str, Any], keys: KeyPath, known: Mapping[str, Setting], file: SettingsFile
) -> Iterator[AiflowError]:
    for name, value in settings.items():
        if name not in known:
            yield file.unknown((*keys, name), known)
        elif not known[name].accepts(value):
            yield file.bad((*keys, name), f"{'.'.join((*keys, name))} holds {known[name].holds}, not {value!r}")


def _check_secrets(settings: dict[str, Any], keys: KeyPath, file: SettingsFile) -> Iterator[AiflowError]:
    provider = settings.get("provider", "env")
    if provider not in (names := provider_names()):
        hint = did_you_mean(str(provider), names) or f"providers: {', '.join(names)}"
        yield file.bad((*keys, "provider"), f"no provider of secrets is called {provider!r}", hint)
        return
    for name, value in settings.items():
        if provider in PROVIDERS and name not in (known := PROVIDERS[provider] | {"provider"}):
            yield file.unknown((*keys, name), known, f"setting of the provider '{provider}',")
        elif not isinstance(value, str):
            # The value is not shown: somebody may have written the secret itself here.
            yield file.bad((*keys, name), f"{'.'.join((*keys, name))} holds text")
    if provider == "file" and not settings.get("path"):
        yield file.bad(keys, "the provider 'file' needs a path", 'path = "/run/secrets", or a file')


def _check_login(settings: dict[str, Any], keys: KeyPath, file: SettingsFile) -> Iterator[AiflowError]:
    """Yield what is wrong with who calls Airflow: a token, or a user and a password."""
    if "airflow_token" in settings and {"airflow_user", "airflow_password"} & settings.keys():
        yield file.bad(
            (*keys, "airflow_token"),
            "Airflow is called with a token or with a user and a password",
            "remove one of the two",
        )
    elif ("airflow_user" in settings) != ("airflow_password" in settings):
        one = "airflow_user" if "airflow_user" in settings else "airflow_password"
        other = "airflow_password" if one == "airflow_user" else "airflow_user"
        yield file.bad((*keys, one), f"{one} stands without {other}", f"add {other}")


def _check_service(settings: dict[str, Any], keys: KeyPath, file: SettingsFile) -> Iterator[AiflowError]:
    """Yield what is wrong with the metadata service's address and what stands beside it."""
    address = settings.get("service")
    if address is None and "service_token" in settings:
        yield file.bad((*keys, "service_token"), "service_token stands without service", 'add service = "http://…"')
    if address is None and settings.get("configuration_from_service") is True:
        yield file.bad(
            (*keys, "configuration_from_service"),
            "configuration_from_service stands without service, which is to hand it out",
            'add service = "https://…", and service_token or a login (aiflow login)',
        )
    told = "service_token" in settings or settings.get("configuration_from_service") is True
    if told and isinstance(address, str) and settings.get("service_over_http") is not True:
        from aiflow_sdk.web import is_open_road  # and with it an HTTP client, which most commands have no use for

        if is_open_road(address):
            yield file.bad(
                (*keys, "service"),
                f"the service_token would go to {address} in plain text, which whoever is on the way can read"
                if "service_token" in settings
                else f"what {address} hands out would come in plain text, which whoever is on the way can replace",
                "write https://…, or service_over_http = true where the network itself is trusted",
            )
    if isinstance(address, str) and address.rstrip("/").endswith("/lineage"):
        yield file.bad(
            (*keys, "service"),
            f"{'.'.join((*keys, 'service'))} is the address of the service, without its path /api/v1/lineage",
            f'service = "{re.sub("(/api/v1)?/lineage/?$", "", address)}"',
        )
    if address is not None and "service" in _table(settings.get("listeners")):
        yield file.bad(
            (*keys, "listeners", "service"),
            "the listener 'service' is the one that the setting service stands for",
            "call it otherwise, or remove one of the two",
        )


def _literal_secrets(value: Any, keys: KeyPath, file: SettingsFile) -> Iterator[AiflowError]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _literal_secrets(item, (*keys, name), file)
        return
    for problem in secret_problems(value, ".".join(keys), where_it_stands="aiflow.toml"):
        yield problem.at(file.where(*keys))


def flatten_masked(masked: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return ``[masked]`` as table → columns, however the dot in a table's name was written."""
    flat: dict[str, Any] = {}
    for key, value in masked.items():
        flat |= flatten_masked(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _split_key(text: str) -> KeyPath:
    return tuple(part[0] or part[1] or part[2] for part in re.findall(r"\"([^\"]*)\"|'([^']*)'|([\w-]+)", text))
