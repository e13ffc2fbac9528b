"""One task of a plan as a function that Airflow runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from aiflow_sdk.code import CodeIndex
from aiflow_sdk.eject.files import read_files, write_files
from aiflow_sdk.eject.functions import EAGER, LAZY, SPARK, Frame, call_function
from aiflow_sdk.eject.layout import (
    Code,
    Group,
    call,
    duration,
    in_docstring,
    indented,
    keyword,
    laid_out,
    led,
    lines,
    one_line,
    quoted,
)
from aiflow_sdk.eject.names import Names
from aiflow_sdk.eject.notes import Notes
from aiflow_sdk.eject.onelake import read_table, wait_for_table, write_table
from aiflow_sdk.eject.parts import names_in
from aiflow_sdk.eject.queries import run_query
from aiflow_sdk.eject.schedule import asset
from aiflow_sdk.eject.values import Values
from aiflow_sdk.errors import Where
from aiflow_sdk.place import node_place
from aiflow_sdk.plan import Plan, PlanNode, PlanTask

_READERS = {"onelake": read_table, "files": read_files}
_WRITERS = {"onelake": write_table, "files": write_files}


@dataclass(frozen=True)
class Writer:
    """Writes the tasks of one plan."""

    plan: Plan
    code: CodeIndex
    values: Values
    notes: Notes
    names: Names
    places: Mapping[str, Where]
    storage: str
    """The expression of how the lake's store is opened."""

    def where(self, node_id: str) -> Where:
        """Return where a node was written."""
        return node_place(self.places, self.plan.pipeline_id, node_id)

    def task(self, task: PlanTask) -> list[str]:
        """Return the decorated function of a task, indented as it stands in the DAG."""
        if task.waits:
            return self._sensor(task)
        body = self._body(task)
        used = names_in("\n".join(laid_out(body)))
        modules = [self._import(module) for module in sorted(self._modules(task))]
        above = [*(["", *modules, ""] if modules else []), *self._facts(used)]
        name = self.names.of_task(task.id)
        text = [f"def {name}() -> None:", f'    """{in_docstring(self._said(task))}"""', *indented(above, 4)]
        if task.engine == "spark":
            conf = task.resources.get("conf") or {}
            given = (keyword("", self.values.code(dict(conf)), "**"),) if conf else ()
            text += lines(Group("with spark_session(", given, ") as spark:"), 4)
        inner = 12 if task.engine == "spark" else 8
        return [*self._decorator("@task", task, self._outlets(task)), *indented(text, 4), *laid_out(body, inner)]

    def _sensor(self, task: PlanTask) -> list[str]:
        node = self.plan.nodes[task.node_ids[0]]
        minutes = node.options.get("wait_minutes", 0)
        if isinstance(minutes, str):
            self.notes.refuse(
                f"how long '{node.id}' waits is known where the run is", self.where(node.id), "write wait_minutes=60"
            )
            minutes = 0
        asked: Code = wait_for_table(node, self.values) if node.kind == "onelake" else "True"
        named: dict[str, Code] = {
            "mode": quoted("reschedule"),
            "poke_interval": "60",
            "timeout": f"{minutes * 60:g}",
        }
        text = [
            f"def {self.names.of_task(task.id)}() -> bool:",
            f'    """Wait for what {node.id} reads."""',
            *indented(self._facts(names_in(one_line(asked))), 4),
        ]
        return [
            *self._decorator("@task.sensor", task, named),
            *indented(text, 4),
            *lines(led("return ", asked), 8),
        ]

    def _decorator(self, name: str, task: PlanTask, given: Mapping[str, Code]) -> list[str]:
        named: dict[str, Code] = dict(given)
        if task.id != self.names.of_task(task.id):
            named["task_id"] = quoted(task.id)
        if branch := task.id.partition(".")[2]:
            named["task_group"] = self.names.of_group(branch)
        first = self.plan.tasks[0]
        if task.retries != first.retries:
            named["retries"] = str(task.retries)
        if task.retry_delay_seconds != first.retry_delay_seconds:
            named["retry_delay"] = duration(task.retry_delay_seconds)
        if task.retry_backoff != first.retry_backoff:
            named["retry_exponential_backoff"] = str(task.retry_backoff)
        if task.timeout_seconds:
            named["execution_timeout"] = duration(task.timeout_seconds)
        return lines(call(name, **named) if named else name, 4)

    def _outlets(self, task: PlanTask) -> dict[str, Code]:
        datasets = [node.dataset[1] for node in self._nodes(task) if node.type == "sink" and node.dataset]
        return {"outlets": Group("[", tuple(map(asset, dict.fromkeys(datasets))), "]")} if datasets else {}

    def _said(self, task: PlanTask) -> str:
        made = [node.id for node in self._nodes(task) if node.type == "transform"]
        written = [node.dataset[1] if node.dataset else node.id for node in self._nodes(task) if node.type == "sink"]
        if not made:
            return f"Copy {task.node_ids[0]} to {' and '.join(written)}."
        return f"Make {' and '.join(made)}{' for ' if written else ''}{' and '.join(written)}."

    def _facts(self, used: frozenset[str]) -> list[str]:
        """Return the lines that look up what the body names of the run."""
        found = []
        if self.values.grain in used:
            found.append(f"{self.values.grain} = run_{self.values.grain}()")
        if "params" in used:
            found.append('params = get_current_context()["params"]')
        if "run_id" in used:
            found.append('run_id = get_current_context()["run_id"]')
        return found

    def _nodes(self, task: PlanTask) -> list[PlanNode]:
        return [self.plan.nodes[node_id] for node_id in task.node_ids]

    def _modules(self, task: PlanTask) -> set[str]:
        return {node.entrypoint.partition(":")[0] for node in self._nodes(task) if node.entrypoint}

    def _import(self, module: str) -> str:
        name = self.names.of_module(module)
        return f"import {module}" if name == module else f"import {module} as {name}"

    def _body(self, task: PlanTask) -> list[Code]:
        is_spark = task.engine == "spark"
        frames: dict[str, Frame] = {}
        found: list[Code] = []
        uses = Counter(input_id for node in self._nodes(task) for input_id in node.input_ids)
        uses.update(task.stages)
        for node_id in task.staged_inputs:
            staged = call("staged", quoted(node_id))
            name = self.names.of_frame(node_id)
            rows: Code = Group("pl.scan_parquet(", (staged, f"storage_options={self.storage}"), ")")
            if is_spark:
                rows = Group("to_spark(", ("spark", rows), ")")
            frames[node_id] = Frame(name, SPARK if is_spark else LAZY)
            found.append(keyword(name, rows, " = "))
        for node in self._nodes(task):
            match node.type:
                case "source":
                    frames[node.id] = Frame(self.names.of_frame(node.id), SPARK if is_spark else LAZY)
                    reader = _READERS[node.kind or ""]
                    found += reader(node, frames[node.id], self.values, self.notes, self.where(node.id))
                case "transform":
                    found += self._transform(node, frames, many=uses[node.id] > 1)
                case "sink":
                    pass
        return [*found, *self._writes(task, frames)]

    def _transform(self, node: PlanNode, frames: dict[str, Frame], *, many: bool) -> list[Code]:
        is_spark = node.engine == "spark"
        name = self.names.of_frame(node.id)
        inputs = {input_id: frames[input_id] for input_id in node.input_ids}
        if node.sql is not None:
            text, asked = run_query(node, inputs, self.values)
            frames[node.id] = Frame(name, SPARK if is_spark else LAZY)
            return [f"sql = {one_line(text)}", keyword(name, asked, " = ")]
        module = self.names.of_module((node.entrypoint or "").partition(":")[0])
        called = call_function(node, inputs, self.code, self.values, self.notes, self.where(node.id), module)
        if node.external and not self._is_read(node):
            return [*called.above, called.code]
        code, kind = called.code, called.kind
        if is_spark:
            if kind is not SPARK:
                code = Group("as_spark(", ("spark", code), ")")
            frames[node.id] = Frame(name, SPARK)
        elif kind is EAGER:
            frames[node.id] = Frame(name, EAGER)
        else:
            if kind is not LAZY:
                code = Group("to_polars(", (code,), ")")
            if many:
                # What two read is computed once, so that both see the same rows.
                code = _followed(code, ".collect()")
            frames[node.id] = Frame(name, EAGER if many else LAZY)
        return [*called.above, keyword(name, code, " = ")]

    def _is_read(self, node: PlanNode) -> bool:
        return any(node.id in other.input_ids for other in self.plan.node_list)

    def _writes(self, task: PlanTask, frames: dict[str, Frame]) -> list[Code]:
        found: list[Code] = []
        rows: dict[str, Frame] = {}
        wanted = [node.input_ids[0] for node in self._nodes(task) if node.type == "sink"] + list(task.stages)
        for node_id in dict.fromkeys(wanted):
            frame = frames[node_id]
            if frame.kind is SPARK:
                rows[node_id] = Frame(self.names.of_rows(node_id), LAZY)
                found.append(f"{rows[node_id].name} = from_spark({frame.name})")
            else:
                rows[node_id] = frame
        for node_id in task.stages:
            code = Group(
                f"{rows[node_id].as_kind(EAGER)}.write_parquet(",
                (call("staged", quoted(node_id)), "mkdir=True", f"storage_options={self.storage}"),
                ")",
            )
            found.append(code)
        sinks = [node for node in self._nodes(task) if node.type == "sink"]
        # Last those that cannot be done again, so that nothing after them can fail and have it tried.
        for node in sorted(sinks, key=lambda sink: sink.options.get("mode") in ("append", "error_if_exists")):
            writer = _WRITERS[node.kind or ""]
            found += writer(node, rows[node.input_ids[0]], self.values, self.notes, self.where(node.id))
        return found


def _followed(code: Code, after: str) -> Code:
    return f"{code}{after}" if isinstance(code, str) else Group(code.before, code.items, code.after + after)
