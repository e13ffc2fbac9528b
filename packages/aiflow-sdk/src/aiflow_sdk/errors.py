"""What can go wrong, said so that a person can mend it.

Every error has a ``code`` with a paragraph of its own in ``docs/errors.md``, the place it is about (``where``), what to
do (``hint``) and whether trying again may help (``retryable``). Each class is also the builtin that a caller would
expect to catch. All of them pickle, so that they pass from one process to another.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from aiflow_sdk.redaction import REDACTOR


@dataclass(frozen=True, slots=True)
class Where:
    """A place: a file and line, an object in a pipeline, or both.

    ``path`` is relative to the project where it lies inside it. ``line`` and ``column`` count from 1. ``about`` names
    the object, as in ``pipeline 'orders', node 'enrich'``.
    """

    path: str | None = None
    line: int | None = None
    column: int | None = None
    about: str | None = None

    def __str__(self) -> str:
        place = self.path or ""
        if self.path and self.line:
            place += f":{self.line}"
        return ", ".join(part for part in (place, self.about) if part)


class AiflowError(Exception):
    """The root of all errors that aiflow raises on purpose."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        where: Where | None = None,
        hint: str | None = None,
        retryable: bool = False,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.where = where
        self.hint = hint
        self.retryable = retryable
        self.notes = tuple(notes)
        """Further facts, one a line: the columns a table has, where a file was looked for, a user's traceback."""

    def __str__(self) -> str:
        text = self.message
        if self.where and str(self.where):
            text += f" ({self.where})"
        if self.hint:
            text += f"; {self.hint}"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.__dict__))

    def at(self, where: Where) -> Self:
        """Return this error, placed at ``where`` in every part that it did not know yet."""
        mine = self.where or Where()
        self.where = Where(
            mine.path or where.path,
            mine.line or (where.line if not mine.path else None),
            mine.column or (where.column if not mine.path else None),
            mine.about or where.about,
        )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON-ready data, for ``--json``, events and other processes.

        The values of secrets that this process looked up are hidden; see :mod:`aiflow_sdk.redaction`.
        """
        where = {k: v for k, v in asdict(self.where).items() if v is not None} if self.where else None
        return {
            "type": type(self).__name__,
            "code": self.code,
            "message": REDACTOR.hide(self.message),
            "where": REDACTOR.hide_in(where),
            "hint": REDACTOR.hide_in(self.hint),
            "retryable": self.retryable,
            "notes": [REDACTOR.hide(str(note)) for note in self.notes],
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> AiflowError:
        """Return the error that :meth:`to_dict` described; an unknown class becomes the root."""
        if problems := data.get("problems"):
            return ProblemsError(map(AiflowError.from_dict, problems))
        kind = _CLASSES.get(data.get("type", ""), AiflowError)
        stated = data.get("where") or {}
        where = Where(**{name: stated.get(name) for name in ("path", "line", "column", "about")}) if stated else None
        return kind(
            data["code"],
            data["message"],
            where=where,
            hint=data.get("hint"),
            retryable=bool(data.get("retryable")),
            notes=data.get("notes") or (),
        )


def _rebuild(kind: type[AiflowError], state: dict[str, Any]) -> AiflowError:
    error = kind.__new__(kind)
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error


class DefinitionError(AiflowError, ValueError):
    """A pipeline says something that it cannot mean."""


class VariableUseError(AiflowError, TypeError):
    """A value that is known only at run time was used as if it were known while the pipeline is built."""


class UnknownNameError(AiflowError, LookupError):
    """A name (column, table, engine, cluster, plugin, pipeline, ...) that nothing answers to."""


class ConfigurationError(AiflowError, ValueError):
    """``aiflow.toml``, an environment or an option is wrong."""


class PluginError(AiflowError, RuntimeError):
    """A plugin cannot be loaded, or two claim one name."""


class DiscoveryError(AiflowError, ImportError):
    """A user's module could not be turned into pipelines."""


class DocumentError(AiflowError, ValueError):
    """A stored document (IR, plan, run) cannot be read."""


class DataError(AiflowError, ValueError):
    """The data is not what the pipeline says that it is."""


class DataNotReadyError(DataError):
    """Data that the run needs is not there yet; a later attempt may find it."""


class UserCodeError(AiflowError, RuntimeError):
    """The user's function raised, or did not keep to its contract. ``notes`` holds the user's traceback first."""


class TaskTimeoutError(AiflowError, TimeoutError):
    """A task took longer than it may."""


class StoreError(AiflowError, OSError):
    """A store (folder, object store, table log) refused or failed."""


class MissingExtraError(AiflowError, ImportError):
    """A feature needs a package that is not installed."""


class RunError(AiflowError, RuntimeError):
    """A run could not be started, resumed, or did not succeed."""


class OrchestratorError(AiflowError, ConnectionError):
    """Airflow cannot be reached, refuses what it is asked, or answers what cannot be understood."""


class ReceiverError(AiflowError, ConnectionError):
    """Who is sent events cannot be reached, or does not take them."""


class AccessError(AiflowError, PermissionError):
    """A team may not do this with a dataset, or nobody can say whether it may."""


class ProblemsError(AiflowError, ValueError):
    """Several problems at once, each with its own code and place."""

    def __init__(self, problems: Iterable[AiflowError]) -> None:
        self.problems: tuple[AiflowError, ...] = tuple(problems)
        many = len(self.problems)
        super().__init__(
            self.problems[0].code if many == 1 else "problems",
            str(self.problems[0]) if many == 1 else f"{many} problems: " + " | ".join(map(str, self.problems)),
        )

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "problems": [problem.to_dict() for problem in self.problems]}

    def at(self, where: Where) -> Self:
        """Return this error, each problem of it placed at ``where`` in every part that it did not know yet."""
        for problem in self.problems:
            problem.at(where)
        return self


_CLASSES: dict[str, type[AiflowError]] = {
    kind.__name__: kind
    for kind in AiflowError.__subclasses__() + DataError.__subclasses__()
    if kind is not ProblemsError
}


def said(error: BaseException) -> str:
    """Return an exception's text; of one that cannot even say it, that."""
    try:
        return str(error)
    except BaseException as failure:  # noqa: BLE001 a user's class may raise anything, SystemExit included
        return f"(its text cannot be had: {type(failure).__name__})"


def plural(number: float, noun: str) -> str:
    """Return ``1 task`` or ``2 tasks``."""
    return f"{number:{',' if isinstance(number, int) else 'g'}} {noun}{'' if number == 1 else 's'}"


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return ``did you mean 'x'?`` for the nearest of ``known``, or None when none is near."""
    near = difflib.get_close_matches(name, sorted(set(known)), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else None


def install_hint(extra: str) -> str:
    """Return the command that installs an extra of aiflow from where aiflow itself came: a checkout or a registry."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import unquote, urlsplit

    try:
        origin = json.loads(distribution("aiflow-sdk").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        origin = {}
    address = urlsplit(origin.get("url", ""))
    if address.scheme != "file":
        return f"pip install 'aiflow-sdk[{extra}]'"
    how = "-e " if origin.get("dir_info", {}).get("editable") else ""
    return f"pip install {how}'{unquote(address.path)}[{extra}]'"


def unknown_name(
    code: str, what: str, name: str, known: Iterable[str], *, where: Where | None = None
) -> UnknownNameError:
    """Return the error for a name that is not among ``known``: the nearest one is suggested, all are listed."""
    names = sorted(set(known))
    hint = did_you_mean(name, names) or (f"known: {', '.join(names)}" if names else None)
    notes = [f"known: {', '.join(names)}"] if names and hint and hint.startswith("did") else []
    return UnknownNameError(code, f"unknown {what} '{name}'", where=where, hint=hint, notes=notes)
