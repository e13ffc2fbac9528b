"""What every plugin is: its options, checked, with the environment that it works in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_jsonable_python

from aiflow_sdk.config import Environment
from aiflow_sdk.errors import AiflowError, ConfigurationError, ProblemsError, Where, did_you_mean
from aiflow_sdk.ir import FrozenMap, freeze, thaw
from aiflow_sdk.variables import has_secret, has_template


class Plugin(BaseModel):
    """A plugin is its options: a frozen class whose fields are what a user may set.

    ``class Rss(Source, kind="rss")`` names it. Validation, JSON Schema and the type stubs come from the fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), defer_build=True)

    kind: ClassVar[str] = ""
    drivers: ClassVar[tuple[str, ...]] = ()
    """Modules that its methods import: a process that waits for a task's order loads them meanwhile."""
    # Set on each that is made for an environment. A private attribute of pydantic's would cost as much as a few fields.
    _environment: ClassVar[Environment | None] = None

    def __init_subclass__(cls, kind: str = "", **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if kind:
            cls.kind = kind

    @property
    def environment(self) -> Environment:
        """Where the plugin works: the lake's root, the project's folder, secrets; the default one in a bare test."""
        environment = self._environment
        if environment is None:
            object.__setattr__(self, "_environment", environment := Environment())
        return environment

    @classmethod
    def load(
        cls, options: Mapping[str, Any], environment: Environment | None = None, *, where: Where | None = None
    ) -> Self:
        """Return the plugin with these rendered options.

        Raises what is wrong with any of them: the one ``AiflowError``, or all as ``ProblemsError``. A template or
        window that is still there is wrong too; see :meth:`try_load`.
        """
        try:
            plugin = cls(**thaw(options))
        except ValidationError as error:
            raise one_or_all(option_problems(cls, error, where=where, deferred=True)) from error
        if environment is not None:
            object.__setattr__(plugin, "_environment", environment)
        return plugin

    @classmethod
    def try_load(
        cls, raw_options: Mapping[str, Any], environment: Environment | None = None, *, where: Where | None = None
    ) -> Self | None:
        """Return the plugin with options as a pipeline holds them, None where only a run can tell them.

        That is so where a template, a secret reference or a window stands in any of them. Raises like :meth:`load` for
        what is wrong whatever the run may be. For whoever asks a plugin before there is a run: the compiler, a page.
        """
        if not _is_deferred(raw_options):
            return cls.load(raw_options, environment, where=where)
        if problems := cls.problems(raw_options, where=where):
            raise one_or_all(problems)
        return None

    @classmethod
    def problems(cls, options: Mapping[str, Any], *, where: Where | None = None) -> list[AiflowError]:
        """Return what is wrong with raw options; templates and secret references are checked once rendered."""
        try:
            cls(**thaw(options))
        except ValidationError as error:
            return option_problems(cls, error, where=where)
        return []

    @classmethod
    def spelled_out(cls, options: Mapping[str, Any]) -> FrozenMap:
        """Return the raw options with every default beside them."""
        return FrozenMap({**_defaults(cls), **options})

    def __repr__(self) -> str:
        """Name the plugin and its options, without their values: one of them may be a secret's."""
        return f"<{type(self).__name__} {self.kind or '-'}: {', '.join(sorted(self.model_fields_set)) or 'defaults'}>"

    __str__ = __repr__

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:  # what rich and pydantic's own printers ask
        return [(None, name) for name in sorted(self.model_fields_set)]


@cache
def _defaults(plugin: type[Plugin]) -> Mapping[str, Any]:
    return {
        name: freeze(to_jsonable_python(thaw(field.get_default(call_default_factory=True))))
        for name, field in plugin.model_fields.items()
        if not field.is_required()
    }


def one_or_all(problems: list[AiflowError]) -> AiflowError:
    """Return the only problem itself, several as one ``ProblemsError``."""
    return problems[0] if len(problems) == 1 else ProblemsError(problems)


def option_problems(
    plugin: type[Plugin], error: ValidationError, *, where: Where | None = None, deferred: bool = False
) -> list[AiflowError]:
    """Return the problems that pydantic found; those of templates, secret references and windows if ``deferred``."""
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
        elif deferred or not _is_deferred(item.get("input")):
            problems.append(
                ConfigurationError(
                    "bad-option",
                    f"option '{name}' of '{plugin.kind}': {item['msg']} (got {item.get('input')!r})",
                    where=where,
                    hint=f"write {name}=[{item['input']!r}]" if _wants_several(item) else None,
                )
            )
    return problems


def _wants_several(item: Mapping[str, Any]) -> bool:
    return item["type"] in ("tuple_type", "list_type") and isinstance(item.get("input"), str)


def _is_deferred(value: Any) -> bool:
    if isinstance(value, str):
        return has_template(value) or has_secret(value)
    if value is None or isinstance(value, (bool, int, float)):
        return False
    if isinstance(value, Mapping):
        return "$window" in value or any(map(_is_deferred, value.values()))
    return isinstance(value, list | tuple) and any(map(_is_deferred, value))
