"""Who writes to a table: a sink of a pipeline, under the name that the table's log has for it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import astuple, dataclass

from aiflow_sdk.connectors.onelake.location import is_deferred
from aiflow_sdk.errors import ConfigurationError
from aiflow_sdk.plan import Run

_PREFIX = "aiflow:"
_NAME = re.compile(r"[\w.-]+(/[\w.-]+){0,3}")


@dataclass(frozen=True, order=True)
class Writer:
    """One sink."""

    environment: str
    project: str
    pipeline: str
    node: str

    @classmethod
    def of_run(cls, run: Run, node_id: str) -> Writer:
        """Return who a run writes as by a sink."""
        return cls(run.environment, run.project, run.pipeline_id, node_id)

    @classmethod
    def of_app(cls, app: str) -> tuple[Writer, str] | None:
        """Return whose write the log notes under a name, and for which partition; None of other names."""
        parts = app.removeprefix(_PREFIX).split("/", 4)
        return (cls(*parts[:4]), parts[4]) if app.startswith(_PREFIX) and len(parts) == 5 else None

    @classmethod
    def named(cls, name: str, run: Run) -> Writer:
        """Return the writer of a name as seen from a run: ``sink``, ``pipeline/sink``, and so on up to all four."""
        parts = name.split("/")
        here = (run.environment, run.project, run.pipeline_id)
        return cls(*here[: 4 - len(parts)], *parts)

    def seen_from(self, run: Run) -> str:
        """Return the shortest name that means this writer, as seen from a run."""
        here = (run.environment, run.project, run.pipeline_id)
        parts = astuple(self)
        same = next((count for count in (3, 2, 1) if parts[:count] == here[:count]), 0)
        return "/".join(parts[same:])

    @property
    def digest(self) -> str:
        """What the folders of its files are named by."""
        return hashlib.sha256("/".join(astuple(self)).encode()).hexdigest()[:16]

    def app(self, key: str | None) -> str:
        """Return the name of its write for a partition, or for none: the whole table."""
        return f"{_PREFIX}{'/'.join(astuple(self))}/{key or '-'}"  # as Run.write_key


def writers_of(names: Iterable[str], run: Run) -> tuple[Writer, ...]:
    """Return who is meant by the names, as seen from a run."""
    return tuple(Writer.named(name, run) for name in names)


def check_writer_names(mode: str, renamed_from: Collection[str], beside: Collection[str]) -> None:
    """Raise ``ConfigurationError`` for what is no name of a sink, is said to be replaced and to stay, or has no sense
    in the mode."""
    for option, names in (("renamed_from", renamed_from), ("beside", beside)):
        if names and mode not in ("append", "upsert") and not is_deferred(mode):
            raise ConfigurationError(
                "bad-option",
                f"'{option}' is of the modes 'append' and 'upsert'",
                hint=f"leave {option} out: mode '{mode}' replaces rows whoever wrote them",
            )
        for name in names:
            if not is_deferred(name) and not _NAME.fullmatch(name):
                raise ConfigurationError(
                    "bad-option",
                    f"{option} has {name!r}, which is no name of a sink",
                    hint='write "sink" or "pipeline/sink", or add project and environment before them',
                )
    if both := sorted(set(renamed_from) & set(beside)):
        raise ConfigurationError(
            "bad-option",
            f"'{both[0]}' is in renamed_from, whose rows are replaced, and in beside, whose rows stay",
            hint="leave it out of one of them",
        )
