"""Frames between tasks: Parquet files under run, execution, task and attempt, published in one step."""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from pydantic import PrivateAttr

from aiflow_sdk.config import Environment, resolve_secrets
from aiflow_sdk.errors import DataError
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plan import Plan, Run
from aiflow_sdk.plugins import DataFile, Destination, ParquetFiles, Scan, Sink, Source, Write, Written
from aiflow_sdk.stores import Store, driver_options, make_folder, open_folder, open_store

if TYPE_CHECKING:
    import pyarrow as pa


_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Staging(Protocol):
    """Where the frames between tasks lie."""

    def source(self, plan: Plan, node_id: str, run: Run) -> Source:
        """Return the staged frame of a node."""

    def sink(self, task_id: str, node_id: str, run: Run) -> Sink:
        """Return where a node's frame is to be staged."""


class StoreStaging:
    """Files in ``<run>/<execution>/<task>/<attempt>-<random>/<node>``, published by a manifest beside them.

    Manifests are ``<run>/<execution>/<task>/_manifests/<node>/<attempt>-<random>.json``, put there in one step; that of
    the greatest attempt counts.
    """

    def __init__(self, environment: Environment, earlier: Mapping[str, tuple[str, int]] | None = None) -> None:
        self.address = environment.staging_root
        self.options = driver_options(self.address, resolve_secrets(dict(environment.storage), environment))
        self.earlier = earlier or {}
        """Task id → (run id, execution) whose frames stand for it, where the task itself is not part of this run."""

    def source(self, plan: Plan, node_id: str, run: Run) -> StagedSource:
        """Return the staged frame of a node. Reading it raises ``DataError`` once it is gone."""
        task_id = plan.task_of(node_id).id
        run_id, execution = self.earlier.get(task_id, (run.run_id, run.execution))
        source = StagedSource(folder=self._folder(run_id, execution, task_id), node_id=node_id, task_id=task_id)
        source._options = self.options
        return source

    def earlier_executions(self, plan: Plan, task_id: str, run: Run) -> dict[str, tuple[str, int]]:
        """Return task → (run id, execution) of the frames that the task reads and that an earlier execution staged.

        Who clears a part of a run does that part alone again; what it reads is what the tasks before it left then.
        """
        found: dict[str, tuple[str, int]] = {}
        for node_id in plan.task(task_id).staged_inputs:
            maker = plan.task_of(node_id).id
            for execution in range(run.execution, 0, -1):
                store = open_folder(self._folder(run.run_id, execution, maker), self.options)
                if _newest_manifest(store, node_id):
                    found[maker] = (run.run_id, execution)
                    break
        return found

    def sink(self, task_id: str, node_id: str, run: Run) -> StagedSink:
        """Return where a node's frame is to be staged."""
        folder = self._folder(run.run_id, run.execution, task_id)
        sink = StagedSink(folder=folder, root=self.address.uri, node_id=node_id)
        sink._options = self.options
        return sink

    def _folder(self, run_id: str, execution: int, task_id: str) -> str:
        return self.address.joined(f"{run_id}/{execution}/{task_id}").uri


class StagedSource(Source, kind="staged"):
    """A frame that another task staged."""

    folder: str
    node_id: str
    task_id: str
    _options: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def dataset(self) -> DatasetName:
        """Return a name that lineage leaves out."""
        return DatasetName("staging", f"{self.task_id}/{self.node_id}")

    def parquet_files(self) -> ParquetFiles | None:
        """Return the files, or None for a frame without rows."""
        files = self._manifest()["files"]
        if not files:
            return None
        return ParquetFiles(tuple(f"{self.folder}/{name}" for name in files), self._options)

    def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the frame's rows; at least one batch, so that its columns are known."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        manifest = self._manifest()
        store = open_folder(self.folder, self._options)
        for name in manifest["files"]:
            with closing(store.open(name)) as file:
                yield from pq.ParquetFile(file).iter_batches()
        if not manifest["files"]:
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(manifest["schema"])))
            yield from schema.empty_table().to_batches() or [pa.RecordBatch.from_pylist([], schema=schema)]

    def _manifest(self) -> dict[str, Any]:
        store = open_folder(self.folder, self._options)
        if newest := _newest_manifest(store, self.node_id):
            manifest = json.loads(store.read(newest) or b"{}")
            there = set(store.list(manifest["place"])) if manifest.get("files") else set()
            if manifest and there.issuperset(manifest["files"]):
                return dict(manifest)
        raise DataError(
            "staged-frame-gone",
            f"the frame of '{self.node_id}' that task '{self.task_id}' staged is not there any more",
            hint=f"run the task '{self.task_id}' again too (aiflow run … --from {self.node_id})",
        )


class StagedSink(Sink, kind="staged"):
    """Where a task leaves a frame for others."""

    folder: str
    root: str = ""
    """Above it: where all frames are staged."""
    node_id: str
    _options: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _writers: dict[int, str] = PrivateAttr(default_factory=dict)
    """Attempt → the name of the writer whose folder its files were put in."""

    def dataset(self) -> DatasetName:
        """Return a name that lineage leaves out."""
        return DatasetName("staging", self.node_id)

    def destination(self, request: Write) -> Destination:
        """Return a folder of this writer alone: a twin of the attempt may be alive on another machine."""
        attempt = request.run.attempt
        self._writers[attempt] = _writer(attempt)
        folder = f"{self.folder}/{self._writers[attempt]}/{self.node_id}"
        if "://" not in folder:
            make_folder(Path(folder))
        return Destination(folder=folder, exact=True, storage_options=self._options, root=self.root)

    def commit(self, files: Sequence[DataFile], schema: Any, request: Write) -> Written:
        """Publish the files: readers see all of them or none. Nothing is published over what a later attempt left."""
        attempt = request.run.attempt
        writer = self._writers.pop(attempt, None) or _writer(attempt)
        place = f"{writer}/{self.node_id}"
        manifest: dict[str, Any] = {"place": place, "files": [f"{place}/{file.path}" for file in files]}
        if not files:
            import pyarrow as pa

            manifest["schema"] = base64.b64encode(pa.schema(schema).serialize().to_pybytes()).decode()
        store = open_folder(self.folder, self._options)
        key = f"{_MANIFESTS}/{self.node_id}/{writer}.json"
        store.put_if_absent(key, json.dumps(manifest).encode())
        return Written(
            rows=sum(file.rows for file in files),
            bytes=sum(file.bytes for file in files),
            superseded=_attempt_of(_newest_manifest(store, self.node_id) or key) > attempt,
            address=self.folder,
        )

    def write(self, batches: pa.RecordBatchReader, request: Write) -> Written:
        """Write batches of an engine that writes no Parquet by itself."""
        import pyarrow.parquet as pq

        destination = self.destination(request)
        rows = 0
        with tempfile.TemporaryDirectory(prefix="aiflow-staged-") as scratch:
            path = Path(scratch, "part-0.parquet")
            with pq.ParquetWriter(path, batches.schema) as writer:
                for batch in batches:
                    rows += batch.num_rows
                    writer.write_batch(batch)
            with path.open("rb") as file:
                open_folder(destination.folder, self._options).upload(path.name, file)
            size = path.stat().st_size
        return self.commit([DataFile("part-0.parquet", size, rows)], batches.schema, request)


_MANIFESTS = "_manifests"


def _writer(attempt: int) -> str:
    return f"{attempt:06}-{uuid4().hex[:12]}"


def _newest_manifest(store: Store, node_id: str) -> str | None:
    """Return the key of the manifest that counts, or None where there is none."""
    return max(store.list(f"{_MANIFESTS}/{node_id}"), default=None)


def _attempt_of(key: str) -> int:
    """Return which attempt published the manifest."""
    return int(key.rpartition("/")[2].partition("-")[0])


def sweep_staging(environment: Environment, now: float, *, keep_days: float | None = None) -> None:
    """Remove the staged frames of runs that nothing was added to for ``staging_keep_days``. ``now`` is a Unix time.

    ``keep_days`` stands instead of what the environment says; of 0, all are removed.

    Only what is called like a run is ours; whatever else lies there stays.
    """
    storage = resolve_secrets(dict(environment.storage), environment)
    keep_seconds = 86_400 * (environment.staging_keep_days if keep_days is None else keep_days)
    places = {environment.staging_root, replace(environment, staging="").staging_root}
    for address in sorted(places, key=lambda place: place.uri):
        store = open_store(address, storage=storage)
        for run_id in store.folders():
            if _RUN_ID.fullmatch(run_id) and (not keep_seconds or now - store.changed(run_id) > keep_seconds):
                with suppress(OSError):  # the next sweep will
                    store.delete_prefix(run_id)
