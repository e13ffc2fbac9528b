"""Frames between tasks: Parquet files under run, execution, task and attempt, published in one step."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from pydantic import PrivateAttr

from aiflow_sdk.errors import DataError
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plan import Plan, Run
from aiflow_sdk.plugins import DataFile, Destination, ParquetFiles, Scan, Sink, Source, Write, Written
from aiflow_sdk.stores import FolderStore, open_store, replace_file

if TYPE_CHECKING:
    import pyarrow as pa


_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Staging(Protocol):
    """Where the frames between tasks lie."""

    def source(self, plan: Plan, node_id: str, run: Run) -> Source:
        """Return the staged frame of a node."""

    def sink(self, task_id: str, node_id: str, run: Run) -> Sink:
        """Return where a node's frame is to be staged."""


class FolderStaging:
    """Files in ``<run>/<execution>/<task>/<attempt>-<random>/<node>``, published by ``<task>/<node>.json``.

    ``root`` is a folder; making one of any other address raises ``ConfigurationError`` (``unsupported-store``).
    """

    def __init__(self, root: str, earlier: Mapping[str, tuple[str, int]] | None = None) -> None:
        self.root = open_store(root).root
        self.earlier = earlier or {}
        """Task id → (run id, execution) whose frames stand for it, where the task itself is not part of this run."""

    def source(self, plan: Plan, node_id: str, run: Run) -> StagedSource:
        """Return the staged frame of a node. Reading it raises ``DataError`` once it is gone."""
        task_id = plan.task_of(node_id).id
        run_id, execution = self.earlier.get(task_id, (run.run_id, run.execution))
        return StagedSource(folder=str(self.root / run_id / str(execution) / task_id), node_id=node_id, task_id=task_id)

    def sink(self, task_id: str, node_id: str, run: Run) -> StagedSink:
        """Return where a node's frame is to be staged."""
        return StagedSink(folder=str(self.root / run.run_id / str(run.execution) / task_id), node_id=node_id)


class StagedSource(Source, kind="staged"):
    """A frame that another task staged."""

    folder: str
    node_id: str
    task_id: str

    def dataset(self) -> DatasetName:
        """Return a name that lineage leaves out."""
        return DatasetName("staging", f"{self.task_id}/{self.node_id}")

    def parquet_files(self) -> ParquetFiles | None:
        """Return the files, or None for a frame without rows."""
        files = self._manifest()["files"]
        return ParquetFiles(tuple(str(Path(self.folder) / name) for name in files)) if files else None

    def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the frame's rows; at least one batch, so that its columns are known."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        manifest = self._manifest()
        for name in manifest["files"]:
            yield from pq.ParquetFile(Path(self.folder) / name).iter_batches()
        if not manifest["files"]:
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(manifest["schema"])))
            yield from schema.empty_table().to_batches() or [pa.RecordBatch.from_pylist([], schema=schema)]

    def _manifest(self) -> dict[str, Any]:
        try:
            manifest = json.loads((Path(self.folder) / f"{self.node_id}.json").read_text(encoding="utf-8"))
            if all((Path(self.folder) / name).exists() for name in manifest["files"]):
                return dict(manifest)
        except FileNotFoundError:
            pass
        raise DataError(
            "staged-frame-gone",
            f"the frame of '{self.node_id}' that task '{self.task_id}' staged is not there any more",
            hint=f"run the task '{self.task_id}' again too (aiflow run … --from {self.node_id})",
        )


class StagedSink(Sink, kind="staged"):
    """Where a task leaves a frame for others."""

    folder: str
    node_id: str
    _writers: dict[int, str] = PrivateAttr(default_factory=dict)
    """Attempt → the folder that its files were put in."""

    def dataset(self) -> DatasetName:
        """Return a name that lineage leaves out."""
        return DatasetName("staging", self.node_id)

    def destination(self, request: Write) -> Destination:
        """Return a folder of this writer alone: a twin of the attempt may be alive on another machine."""
        writer = f"{request.run.attempt}-{uuid4().hex[:12]}"
        folder = Path(self.folder) / writer / self.node_id
        folder.mkdir(parents=True)
        self._writers[request.run.attempt] = writer
        return Destination(folder=str(folder), exact=True)

    def commit(self, files: Sequence[DataFile], schema: Any, request: Write) -> Written:
        """Publish the files: readers see all of them or none. Nothing is published over what a later attempt left."""
        attempt = request.run.attempt
        place = Path(self._writers.pop(attempt, str(attempt))) / self.node_id
        manifest: dict[str, Any] = {"attempt": attempt, "files": [(place / file.path).as_posix() for file in files]}
        if not files:
            import pyarrow as pa

            manifest["schema"] = base64.b64encode(pa.schema(schema).serialize().to_pybytes()).decode()
        target = Path(self.folder) / f"{self.node_id}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        with FolderStore(target.parent).lock(f".{self.node_id}.lock"):
            superseded = _attempt_of(target) > attempt
            if not superseded:
                replace_file(target, json.dumps(manifest))
        return Written(
            rows=sum(file.rows for file in files),
            bytes=sum(file.bytes for file in files),
            superseded=superseded,
            address=self.folder,
        )

    def write(self, batches: pa.RecordBatchReader, request: Write) -> Written:
        """Write batches of an engine that writes no Parquet by itself."""
        import pyarrow.parquet as pq

        path = Path(self.destination(request).folder) / "part-0.parquet"
        rows = 0
        with pq.ParquetWriter(path, batches.schema) as writer:
            for batch in batches:
                rows += batch.num_rows
                writer.write_batch(batch)
        return self.commit([DataFile("part-0.parquet", path.stat().st_size, rows)], batches.schema, request)


def _attempt_of(manifest: Path) -> int:
    """Return which attempt published the frame; 0 where none has."""
    try:
        return int(json.loads(manifest.read_text(encoding="utf-8")).get("attempt", 0))
    except FileNotFoundError:
        return 0


def sweep_staging(root: str, keep_days: float, now: float) -> None:
    """Remove the staged frames of runs that nothing was added to for ``keep_days``. ``now`` is a Unix time.

    Only folders that are called like a run are ours; whatever else lies there stays.
    """
    folder = Path(root)
    for run in folder.iterdir() if folder.is_dir() else ():
        if not _RUN_ID.fullmatch(run.name) or run.is_symlink() or not run.is_dir():
            continue
        newest = max((path.lstat().st_mtime for path in run.rglob("*")), default=run.lstat().st_mtime)
        if now - newest > keep_days * 86_400:
            shutil.rmtree(run, ignore_errors=True)
