"""The JSON files of a run, read: what comes out has its shape, whatever became of the file on the disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, get_args

from aiflow_sdk.errors import DocumentError
from aiflow_sdk.local.state import RunPhase, TaskPhase

Check: TypeAlias = Callable[[Any], bool]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what is wrong with a file of ours into a ``DocumentError`` (``bad-document``)."""
    try:
        yield
    except DocumentError:
        raise  # of a file that was read to read this one
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise DocumentError(
            "bad-document",
            f"{path} cannot be read: {said}",
            hint="start the run anew, or remove the folder of the run",
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises ``DocumentError``."""
    with reading(path):
        data = json.loads(path.read_text("utf-8"))
        if not isinstance(data, dict):
            raise ValueError("it holds no object")
    return data


def read_run_document(path: Path) -> dict[str, Any]:
    """Return ``run.json``. Raises ``DocumentError``."""
    return _checked(path, _RUN_FILE, optional={"run_version", "timeout_seconds", "selection", "errors", "places"})


def read_task_document(path: Path) -> dict[str, Any]:
    """Return a task's file. Raises ``DocumentError``."""
    return _checked(path, _TASK_FILE, optional=_TASK_FILE)


def read_plan_document(path: Path) -> dict[str, Any]:
    """Return ``plan.json``, of which the order of the tasks alone is looked at. Raises ``DocumentError``."""
    plan = _checked(path, {"tasks": _each(_is_task)})
    with reading(path):
        known = {task["id"] for task in plan["tasks"]}
        if strangers := {upstream for task in plan["tasks"] for upstream in task["upstream"]} - known:
            raise ValueError(f"there is no task '{min(strangers)}'")
    return plan


def _checked(path: Path, shape: Mapping[str, Check], optional: Any = ()) -> dict[str, Any]:
    data = read_json(path)
    with reading(path):
        for name, is_right in shape.items():
            if not (name in data or name in optional):
                raise KeyError(name)
            if name in data and not is_right(data[name]):
                raise ValueError(f"'{name}' is not what it should be")
    return data


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def is_moment(value: Any) -> bool:
    """Tell whether it is a number of seconds since 1970 that a clock can show."""
    return _is_number(value) and 0 <= value < 1e11


def _is_count(value: Any) -> bool:
    return isinstance(value, int)


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _each(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _values(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _one_of(phases: Any) -> Check:
    known = get_args(phases)
    return lambda value: _is_text(value) and value in known


def _is_run(value: Any) -> bool:
    texts = ("run_id", "pipeline_id", "project", "environment", "cause", "trace_id")
    return (
        isinstance(value, dict)
        and all(_is_text(value.get(name)) for name in texts)
        and all(_is_count(value.get(name)) for name in ("execution", "generation"))
        and all(_or_none(_is_text)(value.get(name)) for name in ("partition_key", "last_partition_key"))
    )


def _is_error(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(_is_text(value.get(name)) for name in ("code", "message"))
        and _or_none(_is_place)(value.get("where"))
        and _or_none(_is_text)(value.get("hint"))
        and _or_none(_each(_is_text))(value.get("notes"))
        and _or_none(_each(_is_error))(value.get("problems"))
    )


def _is_place(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(_or_none(_is_text)(value.get(name)) for name in ("path", "about"))
        and all(_or_none(_is_count)(value.get(name)) for name in ("line", "column"))
    )


def _is_task(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("id")) and _each(_is_text)(value.get("upstream"))


def _is_node(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("node_id")) and _or_none(_is_text)(value.get("address"))


def _is_selection(value: Any) -> bool:
    earlier = value.get("earlier") if isinstance(value, dict) else 0
    return _or_none(_values(lambda run: isinstance(run, list) and [*map(type, run)] == [str, int]))(earlier)


_RUN_FILE: Mapping[str, Check] = {
    "run_version": _is_count,
    "run": _is_run,
    "state": _one_of(RunPhase),
    "started": is_moment,
    "seconds": _is_number,
    "timeout_seconds": _or_none(_is_number),
    "version": _is_text,
    "definition": _is_text,
    "selection": _or_none(_is_selection),
    "errors": _or_none(_each(_is_error)),
    "places": _or_none(
        _values(
            lambda place: (
                isinstance(place, list)
                and len(place) == 2
                and _or_none(_is_text)(place[0])
                and _or_none(_is_count)(place[1])
            )
        )
    ),
}
_TASK_FILE: Mapping[str, Check] = {
    "state": _one_of(TaskPhase),
    "attempt": _is_count,
    "first_attempt": _is_count,
    "not_before": _is_number,
    "started": _or_none(_is_number),
    "seconds": _or_none(_is_number),
    "error": _or_none(_is_error),
    "nodes": _each(_is_node),
    "code": _values(_is_text),
}
