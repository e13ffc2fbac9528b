"""The view of a backfill: what runs and why, then one line a partition, and a bar on a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import TracebackType
from typing import Any, Self

from aiflow_sdk.cli.console import (
    Console,
    format_bytes,
    format_rows,
    format_seconds,
    pad,
    printable,
)
from aiflow_sdk.cli.screen import LiveBlock, spinner
from aiflow_sdk.errors import plural

_BAR_WIDTH = 30
_RUNNING_SHOWN = 8
_STYLES: Mapping[str, tuple[str, ...]] = {"succeeded": (), "failed": ("red",), "cancelled": ("yellow",)}


@dataclass
class _Run:
    """One run of the backfill: for a partition, or for a range of them."""

    partition: str
    began: float
    tasks: int
    tasks_done: int = 0
    rows: int | None = None
    bytes: int | None = None
    sinks: set[str] = field(default_factory=set)


class BackfillScreen:
    """Takes the records of a backfill and of its runs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._block = LiveBlock(console, self._draw)
        self._began = time.time()
        self._due: list[str] = []
        self._done = 0
        self._failed = 0
        self._at_work: dict[str, _Run] = {}
        self._is_started = False

    @property
    def done(self) -> int:
        """How many partitions were made."""
        return self._done

    def __enter__(self) -> Self:
        self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block.__exit__(kind, error, trace)

    def take(self, record: Mapping[str, Any]) -> None:
        """Show one record."""
        with self._block.lock:
            match record["record"]:
                case "backfill-started":
                    self._start(record)
                case "run-started":
                    sinks = {node["id"] for node in record["nodes"] if node["type"] == "sink"}
                    self._at_work[record["run_id"]] = _Run(
                        record["partition"], record["time"], len(record["tasks"]), sinks=sinks
                    )
                case "task-finished":
                    self._finish_task(record)
                case "run-finished":
                    self._finish_run(record)
                case "log":
                    self._log(record)
                case "worker-restarted":
                    self._block.print(f"  a new process goes on: {record['reason']}")

    def _start(self, record: Mapping[str, Any]) -> None:
        partitions = record["partitions"]
        due = self._due = [item["partition"] for item in partitions if item["reason"] is not None]
        self._is_started = True
        style = self.console.style
        others = record.get("others") or "up to date"
        size = f"{plural(len(partitions), 'partition')}: {len(due)} to run, {len(partitions) - len(due)} {others}"
        head = f"{record['first']} … {record['last']}"
        name = style(record.get("pipeline_id") or "backfill", "bold")
        lines = [f"{name}  {head}  {record['environment']}   {style(size, 'dim')}"]
        for text, number, reason, made_in in _grouped(partitions):
            many = f" ({number})" if number > 1 else ""
            there = f" (made in {made_in})" if made_in not in (None, record["environment"]) else ""
            said = style(f"{others}{there}, skipped", "dim") if reason is None else printable(reason)
            lines.append(f"  {pad(text + many, 32)}  {said}")
        self._block.print(*lines)

    def _finish_task(self, record: Mapping[str, Any]) -> None:
        run = self._at_work.get(record["run_id"])
        if run is None:
            return
        run.tasks_done += 1
        for facts in record["nodes"]:
            if facts["node_id"] in run.sinks or not run.tasks:  # elsewhere only what was written is told
                run.rows = _sum(run.rows, facts.get("rows"))
                run.bytes = _sum(run.bytes, facts.get("bytes"))

    def _finish_run(self, record: Mapping[str, Any]) -> None:
        run = self._at_work.pop(record["run_id"], None)
        if run is None:
            return
        state = record["state"]
        number = _count(run.partition, self._due)
        self._done += number if state == "succeeded" else 0
        self._failed += number if state == "failed" else 0
        measured = "  ".join(
            [
                pad(format_rows(run.rows), 14, right=True),
                pad(format_bytes(run.bytes), 7, right=True),
                pad(format_seconds(record["seconds"]), 9, right=True),
            ]
        )
        said = "" if state == "succeeded" else f"  {state}"
        if state == "succeeded" and record.get("superseded"):
            said = "  superseded by a newer execution"
        if record["errors"]:
            error = record["errors"][0]
            said += f": error[{error['code']}] {printable(error['message'])}"
        line = f"  {pad(run.partition, 24)}{measured}{said}"
        self._block.print(self.console.style(line, *_STYLES[state]))

    def _log(self, record: Mapping[str, Any]) -> None:
        if record["stream"] == "stderr" and record["level"] == "error":
            return
        source = f"{record.get('partition', '')} {record.get('node_id') or record.get('task_id') or ''}".strip()
        self._block.print(f"  {self.console.style(f'{source} │', 'dim')} {printable(record['message'])}")

    def _draw(self) -> list[str]:
        if not self._is_started:
            return [spinner(self.console, "looking at the project and at what is up to date")]
        now = time.time()
        running: Sequence[_Run] = list(self._at_work.values())
        lines = [
            f"  {pad(run.partition, 24)}"
            + (f"{run.tasks_done}/{plural(run.tasks, 'task')}  " if run.tasks else "")
            + format_seconds(now - run.began)
            for run in running[-_RUNNING_SHOWN:]
        ]
        total = len(self._due)
        share = (self._done + self._failed) / total if total else 1.0
        filled = round(share * _BAR_WIDTH)
        bar = "█" * filled + "░" * (_BAR_WIDTH - filled)
        elapsed = now - self._began
        left = f", about {format_seconds(elapsed / share - elapsed)} left" if 0 < share < 1 else ""
        failed = f", {self._failed} failed" if self._failed else ""
        return [*lines, f"{bar} {self._done}/{total}{failed}  {format_seconds(elapsed)}{left}"]


def _grouped(partitions: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, str | None, str | None]]:
    """Return neighbours of one reason as one: their text, how many they are, the reason, and where they were made."""
    groups = []
    for (reason, made_in), items in groupby(partitions, key=lambda item: (item["reason"], item.get("made_in"))):
        keys = [item["partition"] for item in items]
        groups.append(
            (keys[0] if len(keys) == 1 else f"{keys[0]} … {keys[-1]}", len(keys), reason, None if reason else made_in)
        )
    return groups


def _count(partition: str, partitions: Sequence[str]) -> int:
    """Return how many of the partitions a run for ``first..last`` takes."""
    first, _, last = partition.partition("..")
    return partitions.index(last) - partitions.index(first) + 1 if last else 1


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one + (other or 0)
