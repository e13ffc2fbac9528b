"""What a user's function may know of the run that it is part of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plan import Run
from aiflow_sdk.service import Touch, touch_of


class _Facts(logging.LoggerAdapter[logging.Logger]):
    def process(self, message: Any, arguments: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        arguments["extra"] = {**(self.extra or {}), **(arguments.get("extra") or {})}
        return message, arguments


@dataclass
class Context:
    """The run's facts, a logger that carries them, and counters. One is made for each call of a function."""

    run: Run
    node_id: str
    task_id: str
    counts: dict[str, int] = field(default_factory=dict)
    touched: list[tuple[str, DatasetName]] = field(default_factory=list)
    permit: Callable[[Touch], None] = lambda touch: None
    """Raises where the pipeline's team may not touch a dataset."""

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What templates may name, by name: what is read here is what ``{{ … }}`` gives."""
        return self.run.facts()

    @property
    def pipeline_id(self) -> str:
        """The pipeline's id."""
        return self.run.pipeline_id

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.run.run_id

    @property
    def execution(self) -> int:
        """Which doing of the run this is, from 1."""
        return self.run.execution

    @property
    def attempt(self) -> int:
        """Which try of the task this is, from 1."""
        return self.run.attempt

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits that all records of the run carry."""
        return self.run.trace_id

    @property
    def ds(self) -> str | None:
        """The date (ISO 8601) on which the run's partition begins; None where it has none."""
        return self.facts.get("ds")

    @property
    def partition(self) -> str | None:
        """The key of the run's partition; None where it has none."""
        return self.run.partition_key

    @property
    def data_interval_start(self) -> datetime | None:
        """The moment at which the run's partition begins."""
        return self.facts.get("data_interval_start")

    @property
    def data_interval_end(self) -> datetime | None:
        """The moment at which it ends, not included; of a range of partitions the last one's."""
        return self.facts.get("data_interval_end")

    @property
    def idempotency_key(self) -> str:
        """The write's identity, for calls to the outside: the same for every attempt of one execution."""
        return self.run.idempotency_key(self.node_id)

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry pipeline_id, run_id, execution, task_id, attempt, trace_id and node_id."""
        return _Facts(logging.getLogger(f"aiflow.user.{self.node_id}"), self.identifiers)

    @property
    def identifiers(self) -> dict[str, Any]:
        """What every record of this call carries."""
        return {
            "pipeline_id": self.run.pipeline_id,
            "run_id": self.run.run_id,
            "execution": self.run.execution,
            "task_id": self.task_id,
            "attempt": self.run.attempt,
            "trace_id": self.run.trace_id,
            "node_id": self.node_id,
        }

    def count(self, name: str, number: int = 1) -> None:
        """Add ``number`` to the counter ``name``, such as ``bad_rows``; it is reported with the node."""
        self.counts[name] = self.counts.get(name, 0) + int(number)

    def touches(self, name: str, *, namespace: str = "onelake", writes: bool = True) -> None:
        """Tell lineage of a dataset that the function reads or writes by itself (``external=True``).

        Told before it is touched, what the team may not touch is not: raises ``AccessError``.
        """
        if touch := touch_of("sink" if writes else "source", (namespace, name)):
            self.permit(touch)
        self.touched.append(("write" if writes else "read", DatasetName(namespace, name)))
