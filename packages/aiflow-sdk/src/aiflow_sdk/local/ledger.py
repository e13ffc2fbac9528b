"""Remembers of what each partition was made: ``.aiflow/ledger/<environment>/<project>/<pipeline>/<partition>.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from aiflow_sdk.errors import DocumentError
from aiflow_sdk.ir import fingerprint, thaw
from aiflow_sdk.local.documents import read_json
from aiflow_sdk.local.executor import LiveRun
from aiflow_sdk.local.making import Making, why_run
from aiflow_sdk.local.store import HOME
from aiflow_sdk.plan import Plan, Run, make_run
from aiflow_sdk.runtime import Data
from aiflow_sdk.stores import folder_name, replace_file, writing

_MEANINGLESS = frozenset({"code", "dataset", "plugin", "wait_minutes", "restated"})
"""What a node has that its rows do not depend on, or that is compared by itself."""


class Ledger:
    """The makings of one pipeline's partitions in one environment."""

    def __init__(self, root: Path, plan: Plan) -> None:
        self.root, self.plan = root, plan
        self.data = Data(plan, root)
        names = map(folder_name, (plan.environment.name, plan.project, plan.pipeline_id))
        self.folder = (root / HOME / "ledger").joinpath(*names)

    def why_run(self, partition: str, params: Mapping[str, Any]) -> str | None:
        """Return why the partition has to be made again, or None when it is up to date."""
        previous = self.read(partition)
        if previous is None:
            return why_run(None, Making("", ""))
        run = make_run(self.plan, partition=partition, params=params)
        current = self._making(run)
        # Looking at data costs more than looking at fingerprints, so it comes second.
        if reason := why_run(previous, replace(current, sources=previous.sources, sinks=previous.sinks)):
            return reason
        sources = self.data.source_identities(run)
        return why_run(previous, replace(current, sources=sources, sinks=self._sinks(run)))

    def read(self, partition: str) -> Making | None:
        """Return of what the partition was made; None where nothing readable says so."""
        path = self._path(partition)
        try:
            return Making.from_dict(read_json(path)) if path.exists() else None
        except (DocumentError, TypeError):
            return None  # half a memory is none: the partition is made again

    def write(self, live: LiveRun) -> None:
        """Remember a run that has succeeded. One that did a part of the pipeline only is not remembered."""
        tasks = live.state.tasks.values()
        facts = {node["node_id"]: node for task in tasks for node in task.nodes}
        partial = any(task.state == "skipped" for task in tasks)
        here = any(node.is_here for node in live.plan.node_list)
        # A table that each run replaces whole may hold a newer run's rows by now: runs side by side end in any order.
        superseded = {node_id for node_id, node in facts.items() if node.get("superseded")}
        if partial or here or superseded - self._whole_sinks(live.run):
            return
        making = replace(
            self._making(live.run),
            code={node: code for task in tasks for node, code in task.code.items()},
            run_id=live.run.run_id,
            generation=live.run.generation,
        )
        if live.run.last_partition_key is None:
            kinds = {node.id: node.type for node in live.plan.node_list}
            read = {node: facts.get(node, {}).get("identity") for node, kind in kinds.items() if kind == "source"}
            written = {node: facts.get(node, {}).get("identity") for node, kind in kinds.items() if kind == "sink"}
            written |= dict.fromkeys(superseded, "there")
            sinks = self._of_partition(written, live.run)
            self._write(live.run.partition_key or "-", replace(making, sources=read, sinks=sinks))
            return
        for partition in live.run.partitions:
            run = make_run(live.plan, partition=partition.key, params=thaw(live.run.params))
            sources = dict(live.sources.get(partition.key) or self.data.source_identities(run))
            self._write(partition.key, replace(making, sources=sources, sinks=self._sinks(run)))

    def sources_before(self, run: Run) -> dict[str, dict[str, str | None]]:
        """Return partition → identities of its sources, of a range that is about to run."""
        params = thaw(run.params)
        return {
            partition.key: self.data.source_identities(make_run(self.plan, partition=partition.key, params=params))
            for partition in run.partitions
        }

    def _making(self, run: Run) -> Making:
        return Making(
            definition=self.plan.definition,
            meaning=self._meaning,
            lock=self.plan.lock,
            code={node.id: node.code for node in self.plan.node_list if node.code},
            params=thaw(run.params),
        )

    @cached_property
    def _meaning(self) -> str:
        """The fingerprint of what the data depends on: who owns the pipeline, or when it is late, changes no row."""
        nodes = [
            {
                **{name: value for name, value in node.to_full_dict().items() if name not in _MEANINGLESS},
                "options": {name: value for name, value in thaw(node.options).items() if name not in _MEANINGLESS},
            }
            for node in self.plan.node_list
        ]
        return fingerprint([nodes, self.plan.partition, self.plan.timezone])

    def _sinks(self, run: Run) -> dict[str, str | None]:
        return self._of_partition(self.data.sink_identities(run), run)

    def _of_partition(self, identities: Mapping[str, str | None], run: Run) -> dict[str, str | None]:
        # Of a table that each run replaces whole, the partition's own state is only that the table is there.
        whole = self._whole_sinks(run)
        return {node: "there" if identity and node in whole else identity for node, identity in identities.items()}

    def _whole_sinks(self, run: Run) -> set[str]:
        """Return the sinks without a time column, of a run for a partition: each run replaces the table whole."""
        return {node.id for node in self.plan.node_list if node.type == "sink" and not node.time and run.partition_key}

    def _path(self, partition: str) -> Path:
        return self.folder / f"{folder_name(partition)}.json"

    def _write(self, partition: str, making: Making) -> None:
        path = self._path(partition)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(making.to_dict(), ensure_ascii=False))
