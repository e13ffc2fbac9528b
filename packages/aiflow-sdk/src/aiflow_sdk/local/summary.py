"""What came of a run or a backfill, as a caller wants to know it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from aiflow_sdk.errors import AiflowError, RunError, unknown_name
from aiflow_sdk.local.records import errors_of
from aiflow_sdk.local.store import RunFolder, partition_text

if TYPE_CHECKING:
    from aiflow_sdk.plan import NodeFacts

EXIT_CODES = {"succeeded": 0, "failed": 1, "cancelled": 130}
"""What a process that ran something in the foreground exits with."""


@dataclass(frozen=True)
class TaskSummary:
    """What came of one task."""

    task_id: str
    state: str
    """``succeeded``, ``failed``, ``skipped`` (not selected), ``blocked`` (a task before it failed), ``waiting``."""
    attempt: int
    seconds: float | None
    error: Mapping[str, Any] | None = None
    """As ``AiflowError.to_dict`` gives it."""
    nodes: tuple[Mapping[str, Any], ...] = ()
    """The facts of its nodes, as ``NodeFacts.to_full_dict`` gives them."""


@dataclass(frozen=True, repr=False)
class RunSummary:
    """What came of one run."""

    run_id: str
    pipeline_id: str
    environment: str
    partition: str
    """The partition's key, ``first..last`` of a range, ``-`` where there is none."""
    execution: int
    generation: int
    trace_id: str
    state: str
    """``succeeded``, ``failed`` or ``cancelled``."""
    seconds: float
    folder: str
    """Where the run's plan, states and logs lie."""
    tasks: Mapping[str, TaskSummary] = field(default_factory=dict)
    errors: tuple[Mapping[str, Any], ...] = ()
    """Of the run itself and of each task that failed, as ``AiflowError.to_dict`` gives them."""
    superseded: tuple[str, ...] = ()
    """Sinks that changed nothing, or not all of a range, because a newer execution had written there."""

    @property
    def succeeded(self) -> bool:
        """Whether all of it was done."""
        return self.state == "succeeded"

    @property
    def exit_code(self) -> int:
        """0 done, 1 failed, 130 cancelled."""
        return EXIT_CODES.get(self.state, 1)

    def node(self, node_id: str) -> NodeFacts:
        """Return what is known of a node.

        Raises ``UnknownNameError`` for a node that the run does not have, and of a run that did not succeed
        ``RunError``, with the reason, for a node that was not done.
        """
        from aiflow_sdk.plan import NodeFacts

        known = {facts["node_id"]: facts for task in self.tasks.values() for facts in task.nodes}
        if node_id not in known and not self.succeeded:
            raise RunError(
                "run-not-succeeded",
                f"'{node_id}' was not done: run {self.run_id} of '{self.pipeline_id}' was {self.state}",
                hint="mend what is wrong and run it again",
                notes=self._told(),
            )
        if node_id not in known:
            raise unknown_name("unknown-node", "node", node_id, known)
        return NodeFacts.model_validate(dict(known[node_id]))

    def table(self, sink_id: str) -> str | None:
        """Return the address that the sink wrote to, None where it named none. Raises as :meth:`node`."""
        return self.node(sink_id).address

    def raise_if_failed(self) -> None:
        """Raise the first error of a run that did not succeed."""
        if not self.succeeded:
            raise (
                AiflowError.from_dict(dict(self.errors[0]))
                if self.errors
                else RunError("run-not-succeeded", f"run {self.run_id} of '{self.pipeline_id}' was {self.state}")
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON-ready data."""
        tasks = {task_id: {**vars(task), "nodes": list(task.nodes)} for task_id, task in self.tasks.items()}
        return {**vars(self), "tasks": tasks, "errors": list(self.errors), "superseded": list(self.superseded)}

    def _told(self) -> list[str]:
        return [f"error[{error['code']}]: {error['message']}" for error in self.errors]

    def __repr__(self) -> str:
        head = f"run {self.run_id} of '{self.pipeline_id}' for {self.partition}: {self.state} in {self.seconds:g} s"
        return "\n  ".join([head, *self._told()])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a line a node that was done, and the errors."""
        cells = [
            (facts["node_id"], facts.get("rows"), facts.get("seconds"), facts.get("address"))
            for task in self.tasks.values()
            for facts in task.nodes
        ]
        head = "".join(f"<th>{name}</th>" for name in ("node", "rows", "seconds", "lies at"))
        rows = "".join(f"<tr>{''.join(f'<td>{_shown(cell)}</td>' for cell in row)}</tr>" for row in cells)
        title, *errors = repr(self).splitlines()
        table = f"<table><tr>{head}</tr>{rows}</table>" if cells else ""
        return f"<div>{escape(title)}</div>{table}" + "".join(f"<pre>{escape(line.strip())}</pre>" for line in errors)


def _shown(cell: object) -> str:
    return "" if cell is None else escape(f"{cell:,}" if isinstance(cell, int | float) else str(cell))


@dataclass(frozen=True)
class BackfillSummary:
    """What came of a backfill."""

    pipeline_id: str
    environment: str
    first: str
    last: str
    state: str
    """``succeeded``, ``failed`` or ``cancelled``."""
    seconds: float
    runs: tuple[RunSummary, ...] = ()
    """In the order of their partitions."""
    skipped: tuple[str, ...] = ()
    """Partitions that were up to date."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Partition → why it had to run."""
    made_in: Mapping[str, str] = field(default_factory=dict)
    """Partition that was up to date → the environment that it was made in."""

    @property
    def succeeded(self) -> bool:
        """Whether all partitions are up to date now."""
        return self.state == "succeeded"

    @property
    def exit_code(self) -> int:
        """0 done, 1 failed, 130 cancelled."""
        return EXIT_CODES.get(self.state, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON-ready data."""
        return {
            **vars(self),
            "runs": [run.to_dict() for run in self.runs],
            "skipped": list(self.skipped),
            "reasons": dict(self.reasons),
            "made_in": dict(self.made_in),
        }


def summarize_run(folder: RunFolder) -> RunSummary:
    """Return what came of a run, as its folder tells it."""
    state = folder.load()
    run = state.run
    return RunSummary(
        run_id=state.run_id,
        pipeline_id=run["pipeline_id"],
        environment=run["environment"],
        partition=partition_text(run),
        execution=run["execution"],
        generation=run["generation"],
        trace_id=run["trace_id"],
        state=state.state,
        seconds=round(state.seconds, 3),
        folder=str(folder.path),
        tasks={
            task.task_id: TaskSummary(task.task_id, task.state, task.attempt, task.seconds, task.error, task.nodes)
            for task in state.tasks.values()
        },
        errors=tuple(errors_of(state)),
        superseded=state.superseded,
    )


def summarize_backfill(
    begun: Mapping[str, Any], folders: Iterable[RunFolder], seconds: float, *, cancelled: bool
) -> BackfillSummary:
    """Return what came of a backfill, as its ``backfill-started`` record and the folders of its runs tell it."""
    runs = sorted(map(summarize_run, folders), key=lambda run: run.partition)
    failed = any(run.state == "failed" for run in runs)
    return BackfillSummary(
        pipeline_id=begun["pipeline_id"],
        environment=begun["environment"],
        first=begun["first"],
        last=begun["last"],
        state="cancelled" if cancelled else "failed" if failed else "succeeded",
        seconds=seconds,
        runs=tuple(runs),
        skipped=tuple(item["partition"] for item in begun["partitions"] if not item["reason"]),
        reasons={item["partition"]: item["reason"] for item in begun["partitions"] if item["reason"]},
        made_in={item["partition"]: item["made_in"] for item in begun["partitions"] if not item["reason"]},
    )
