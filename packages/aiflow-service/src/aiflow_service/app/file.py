"""The file that a service's settings stand in: how people sign in, and for how long things are kept."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from aiflow_sdk.errors import ConfigurationError, did_you_mean
from aiflow_service.access.signin import SignIn
from aiflow_service.keeping import FOR_EVER, Retention

_HINTS: Mapping[str, str] = {
    "sign_in": '[sign_in]\nissuer = "https://login.company.com"\nclient_id = "aiflow"',
    "retention": "[retention]\nevents_days = 400\n\n[retention.teams.growth]\nevents_days = 90",
}


class SettingsFile(BaseModel):
    """What the file says, a field a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sign_in: SignIn | None = None
    """None: nobody signs in."""
    retention: Retention = FOR_EVER


def read_settings_file(path: Path | None) -> SettingsFile:
    """Read a settings file; where none is named, nothing is said.

    Raises ``ConfigurationError`` (``service-settings``), also for a file that is empty: whoever names one means to say
    something.
    """
    if path is None:
        return SettingsFile()
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(path, f"it cannot be read: {error}", _HINTS["sign_in"]) from error
    if not told:
        raise _wrong(path, "it is empty, and is to hold the tables [sign_in], [retention] or both", _HINTS["sign_in"])
    try:
        return SettingsFile.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        table, *names = first["loc"]
        place = ".".join(map(str, (table, *names)))
        hint = _near(first) or _HINTS.get(str(table), _HINTS["sign_in"])
        raise _wrong(path, f"{place}: {_said(first)}", hint) from error


def _said(problem: ErrorDetails) -> str:
    if problem["type"] == "extra_forbidden":
        return "there is no such setting"
    return problem["msg"].removeprefix("Value error, ")


def _near(problem: ErrorDetails) -> str | None:
    """Return the setting that one which does not exist may be meant for."""
    if problem["type"] != "extra_forbidden":
        return None
    *tables, name = map(str, problem["loc"])
    return did_you_mean(name, _known(SettingsFile, tables))


def _known(model: type[BaseModel], tables: list[str]) -> list[str]:
    """Return the settings that a table of the file may have."""
    for table in tables:
        annotation = model.model_fields[table].annotation if table in model.model_fields else None
        kinds = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type)]
        model = next((one for one in kinds if issubclass(one, BaseModel)), model)
    return list(model.model_fields)


def _wrong(path: Path, what: str, hint: str) -> ConfigurationError:
    return ConfigurationError("service-settings", f"{path}: {what}", hint=hint)
