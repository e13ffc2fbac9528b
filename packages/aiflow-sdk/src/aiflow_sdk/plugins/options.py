"""What every plugin is: its options, checked, with the environment that it works in."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from pydantic_core import to_jsonable_python

from aiflow_sdk.config import Environment
from aiflow_sdk.errors import AiflowError, ConfigurationError, Where, did_you_mean
from aiflow_sdk.ir import thaw
from aiflow_sdk.variables import has_secret, has_template


class Plugin(BaseModel):
    """A plugin is its options: a frozen class whose fields are what a user may set.

    ``class Rss(Source, kind="rss")`` names it. Validation, JSON Schema and the type stubs come from the fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    kind: ClassVar[str] = ""
    _environment: Environment = PrivateAttr(default_factory=Environment)

    def __init_subclass__(cls, kind: str = "", **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if kind:
            cls.kind = kind

    @property
    def environment(self) -> Environment:
        """Where the plugin works: the lake's root, the project's folder, secrets; the default one in a bare test."""
        return self._environment

    @classmethod
    def load(
        cls, options: Mapping[str, Any], environment: Environment | None = None, *, where: Where | None = None
    ) -> Self:
        """Return the plugin with these rendered options. Raises one ``ConfigurationError`` or ``ProblemsError``."""
        try:
            plugin = cls(**thaw(options))
        except ValidationError as error:
            problems = option_problems(cls, error, options, where=where)
            raise problems[0] from error
        if environment is not None:
            object.__setattr__(plugin, "_environment", environment)
        return plugin

    @classmethod
    def problems(cls, options: Mapping[str, Any], *, where: Where | None = None) -> list[AiflowError]:
        """Return what is wrong with raw options; templates and secret references are checked once rendered."""
        try:
            cls(**thaw(options))
        except ValidationError as error:
            return option_problems(cls, error, options, where=where)
        return []

    @classmethod
    def spelled_out(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the raw options with every default beside them, JSON-ready."""
        return {**_defaults(cls), **thaw(options)}


@cache
def _defaults(plugin: type[Plugin]) -> dict[str, Any]:
    return {
        name: to_jsonable_python(thaw(field.get_default(call_default_factory=True)))
        for name, field in plugin.model_fields.items()
        if not field.is_required()
    }


def option_problems(
    plugin: type[Plugin], error: ValidationError, options: Mapping[str, Any], *, where: Where | None = None
) -> list[AiflowError]:
    """Return the problems that pydantic found, those about templates and secret references left out."""
    problems: list[AiflowError] = []
    for item in error.errors(include_url=False):
        cause = item.get("ctx", {}).get("error")
        name = ".".join(str(part) for part in item["loc"])
        if isinstance(cause, AiflowError):
            problems.append(cause.at(where or Where()))
        elif item["type"] == "extra_forbidden":
            problems.append(
                ConfigurationError(
                    "unknown-option",
                    f"'{plugin.kind}' has no option '{name}'",
                    where=where,
                    hint=did_you_mean(name, plugin.model_fields)
                    or f"options: {', '.join(sorted(plugin.model_fields))}",
                )
            )
        elif item["type"] == "missing":
            problems.append(
                ConfigurationError(
                    "missing-option", f"'{plugin.kind}' needs the option '{name}'", where=where, hint=f"add {name}=…"
                )
            )
        elif not _is_deferred(item.get("input")):
            problems.append(
                ConfigurationError(
                    "bad-option",
                    f"option '{name}' of '{plugin.kind}': {item['msg']} (got {item.get('input')!r})",
                    where=where,
                )
            )
    return problems


def _is_deferred(value: Any) -> bool:
    if isinstance(value, str):
        return has_template(value) or has_secret(value)
    if isinstance(value, Mapping):
        return "$window" in value or any(map(_is_deferred, value.values()))
    return isinstance(value, list | tuple) and any(map(_is_deferred, value))
