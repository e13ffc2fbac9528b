"""Remembers of what each partition was made: ``_ledger/<project>/<pipeline>/<partition>.json`` in the lake.

So all who share a lake share its memory, and an environment that reads from another one asks that one's too: a
partition that was made there as it would be made here is up to date here, as long as it is what readers find.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from aiflow_sdk.config import LEDGER, LakeRoot, resolve_secrets
from aiflow_sdk.errors import StoreError
from aiflow_sdk.ir import thaw
from aiflow_sdk.local.executor import LiveRun
from aiflow_sdk.plan import Making, Plan, Run, Verdict, make_run, making_of, why_run
from aiflow_sdk.runtime import Data
from aiflow_sdk.stores import Store, folder_name, open_store


class Ledger:
    """The makings of one pipeline's partitions in one environment and in those that it reads from."""

    def __init__(self, root: Path, plan: Plan) -> None:
        self.root, self.plan = root, plan
        self.data = Data(plan, root)

    def verdict(self, partition: str, params: Mapping[str, Any]) -> Verdict:
        """Return whether the partition has to be made, and why; or where it was made. Raises ``StoreError``."""
        environment = self.plan.environment.name
        if (previous := self.read(partition)) is not None:
            return _verdict(self._why_run(previous, self._run(partition, params)), environment)
        for environment, store in self._read_stores:
            if (previous := self._read_there(store, partition)) is not None:
                return _verdict(self._why_run_here(previous, environment, self._run(partition, params)), environment)
        return Verdict(why_run(None, Making("", lock="")))

    def _why_run(self, previous: Making, run: Run) -> str | None:
        current = self._making(run)
        # Looking at data costs more than looking at fingerprints, so it comes second.
        if reason := why_run(previous, replace(current, sources=previous.sources, sinks=previous.sinks)):
            return reason
        sources = self.data.source_identities(run)
        return why_run(previous, replace(current, sources=sources, sinks=self._sinks(run)))

    def _why_run_here(self, previous: Making, environment: str, run: Run) -> str | None:
        """Return why a partition has to be made here that another environment made so, or None."""
        current = self._making(run)
        if reason := why_run(previous, replace(current, sources=previous.sources, sinks=previous.sinks)):
            return reason
        found = self.data.found_sinks(run)
        # Only what readers find there stands for what a run here would write; what a function writes by itself nobody
        # can look at.
        seen = {node: one[1] for node, one in found.items() if one is not None and one[0] == environment}
        external = any(node.external for node in self.plan.node_list)
        if external or not found or any(previous.sinks.get(node) is None or node not in seen for node in found):
            return why_run(None, current)
        sources = self.data.source_identities(run)
        return why_run(previous, replace(current, sources=sources, sinks=self._of_partition(seen, run)))

    def read(self, partition: str) -> Making | None:
        """Return of what the partition was made here; None where nothing readable says so."""
        return _making_of(self._store.read(self._key(partition)))

    def _read_there(self, store: Store, partition: str) -> Making | None:
        try:
            return _making_of(store.read(self._key(partition)))
        except StoreError as error:
            if error.code != "store-denied":
                raise
            return None  # a key that reads tables alone

    def write(self, live: LiveRun) -> None:
        """Remember a run that has succeeded. One that did a part of the pipeline only is not remembered.

        Raises ``StoreError``; what is not remembered is made again one day, and nothing else.
        """
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
            # What was not looked at before the range was read may have changed meanwhile: nothing tells.
            sources = live.sources.get(partition.key) or dict.fromkeys(self.data.source_ids)
            self._write(partition.key, replace(making, sources=sources, sinks=self._sinks(run)))

    def _making(self, run: Run) -> Making:
        return replace(self._made_by, params=thaw(run.params))

    @cached_property
    def _made_by(self) -> Making:
        return making_of(self.plan)

    def _sinks(self, run: Run) -> dict[str, str | None]:
        return self._of_partition(self.data.sink_identities(run), run)

    def _of_partition(self, identities: Mapping[str, str | None], run: Run) -> dict[str, str | None]:
        # Of a table that each run replaces whole, the partition's own state is only that the table is there.
        whole = self._whole_sinks(run)
        return {node: "there" if identity and node in whole else identity for node, identity in identities.items()}

    def _whole_sinks(self, run: Run) -> set[str]:
        """Return the sinks that replace, and have no time column, of a run for a partition: what they write is one."""
        whole = {node.id for node in self.plan.node_list if node.type == "sink" and not node.time and run.partition_key}
        return whole - self.data.adding_sinks(run) if whole else whole

    def _run(self, partition: str, params: Mapping[str, Any]) -> Run:
        return make_run(self.plan, partition=partition, params=params)

    @cached_property
    def _store(self) -> Store:
        return self._opened(self.data.environment.own_root)

    @cached_property
    def _read_stores(self) -> list[tuple[str, Store]]:
        """The lakes that are read where this one has nothing, nearest first, by environment."""
        return [(root.environment, self._opened(root)) for root in self.data.environment.read_roots]

    def _opened(self, root: LakeRoot) -> Store:
        return open_store(root.address, storage=resolve_secrets(dict(root.storage), self.data.environment))

    def _key(self, partition: str) -> str:
        names = map(folder_name, (self.plan.project, self.plan.pipeline_id, partition))
        return "/".join((LEDGER, *names)) + ".json"

    def _write(self, partition: str, making: Making) -> None:
        known = self.read(partition)
        if known is not None and known.generation > making.generation:
            return  # runs side by side end in any order
        data = json.dumps(making.to_dict(), ensure_ascii=False).encode(errors="backslashreplace")
        self._store.put(self._key(partition), data)


def _verdict(reason: str | None, environment: str) -> Verdict:
    return Verdict(reason, environment if reason is None else None)


def _making_of(data: bytes | None) -> Making | None:
    try:
        return None if data is None else Making.from_dict(json.loads(data))
    except (ValueError, TypeError, AttributeError):
        return None  # half a memory is none: the partition is made again
