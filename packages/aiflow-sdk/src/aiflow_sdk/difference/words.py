"""What is said of a difference to people: one sentence, that stands by itself."""

from __future__ import annotations

import json
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any, Protocol

from aiflow_sdk.difference.model import ABSENT, Difference
from aiflow_sdk.errors import plural
from aiflow_sdk.graph import describe_node
from aiflow_sdk.ir import NodeIR, thaw

_LONGEST = 60
_NAMES = {
    "sla_minutes": "service level (minutes)",
    "start_date": "start date",
    "timezone": "time zone",
    "max_active_runs": "limit of runs at once",
    "concurrency": "limit of tasks at once",
    "retry_delay_minutes": "pause before a retry (minutes)",
    "retry_backoff": "growth of the pause before a retry",
    "timeout_minutes": "time limit (minutes)",
    "ranges": "permission to run for a range",
    "notify": "list of who is notified",
    "time": "column that holds the run's partition",
    "dataset": "name in lineage",
    "fuse": "permission to share a task",
    "external": "statement that it writes by itself",
    "implicit": "statement that it stands for its input's output",
    "bounded": "statement that it ends",
    "engine_plugin": "class of the engine",
    "plugin": "class",
}


class Named(Protocol):
    """A node, of the IR or of a plan."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def type(self) -> Any:
        """``source``, ``transform`` or ``sink``."""


def tell(difference: Difference, node: Named | None = None) -> Difference:
    """Return the difference with its sentence. ``node`` is the one that it is about, in its newer form."""
    about = f"{node.type} '{difference.node}'" if node else "the pipeline"
    return replace(difference, text=_visible(_sentence(difference, about, node)))


def _visible(text: str) -> str:
    """Return the text with what no screen shows, or what would steer one, written as an escape."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _sentence(one: Difference, about: str, node: Named | None) -> str:
    match one.kind:
        case "node-added" | "node-removed":
            content = describe_node(node) if isinstance(node, NodeIR) else ""
            state = "is new" if one.kind == "node-added" else "is gone"
            return f"{about} {state}" + (f": {_cut(content)}" if content else "")
        case "node-renamed":
            return f"{getattr(node, 'type', 'node')} '{one.before}' is now called '{one.after}'"
        case "node-rewired":
            return f"{about} {_rewired(one.before, one.after)}"
        case "code-changed":
            return f"code of {about}: changed"
        case "schema-changed" if len(one.path) > 1 and one.path[0] == "output_schema":
            return f"column {one.path[-1]} of {about}: {_became(one)}"
        case "packages-changed":
            return "installed packages: changed"
        case "tasks-changed":
            return f"nodes that share a task: {_tasks(one.before)} → {_tasks(one.after)}"
        case "environment-changed":
            return f"{_dotted(one.path[1:]).replace('_', ' ')} of the environment: {_became(one)}"
        case _ if one.path == ("sql",) and isinstance(one.before, str) and isinstance(one.after, str):
            return f"query of {about}: {_lines(one.before, one.after)}"
        case _:
            return f"{_field(one.path)}{f' of {about}' if node else ''}: {_became(one)}"


def _rewired(before: tuple[str, ...], after: tuple[str, ...]) -> str:
    if sorted(before) == sorted(after):
        return f"reads its inputs in another order: {', '.join(after)}"
    more = [one for one in after if one not in before]
    less = [one for one in before if one not in after]
    words = [f"reads {_quoted(more)}" if more else "", f"no longer reads {_quoted(less)}" if less else ""]
    return " and ".join(filter(None, words)) or f"reads {_quoted(after)} instead of {_quoted(before)}"


def _became(one: Difference) -> str:
    return f"{show(one.before)} → {show(one.after)}"


def show(value: Any) -> str:
    """Return a value as people write it, cut to a line."""
    if value is ABSENT or value is None:
        return "not set" if value is ABSENT else "none"
    value = thaw(value)
    if isinstance(value, str) and value and value.isprintable():
        return _cut(f"'{value}'")
    return _cut(json.dumps(value, ensure_ascii=False))


def _field(path: tuple[str, ...]) -> str:
    match path:
        case ("options", *rest) if rest:
            return f"option '{_dotted(rest)}'"
        case ("params", *rest) if rest:
            return f"param '{_dotted(rest)}'"
        case ("extra", *rest) if rest:
            return f"label '{_dotted(rest)}'"
        case ("resources", *rest) if rest:
            return "cluster" if rest == ["cluster"] else f"resource '{_dotted(rest)}'"
        case ("fill", *rest) if rest:
            return f"value of the partition column '{_dotted(rest)}'"
        case (name, *rest):
            said = _NAMES.get(name, name.replace("_", " "))
            return f"{said} ({_dotted(rest)})" if rest else said
        case _:
            return "content"


def _lines(before: str, after: str) -> str:
    old, new = before.strip().splitlines(), after.strip().splitlines()
    kept = sum(block.size for block in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks())
    return f"{_count(len(old) - kept)} out, {_count(len(new) - kept)} in"


def _tasks(groups: tuple[tuple[str, ...], ...]) -> str:
    return plural(len(groups), "task")


def _count(lines: int) -> str:
    return f"{lines} line{'' if lines == 1 else 's'}"


def _dotted(path: Any) -> str:
    return ".".join(path)


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names) or "nothing"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
