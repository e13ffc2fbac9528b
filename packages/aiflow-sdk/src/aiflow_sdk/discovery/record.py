"""What is remembered of modules and of the pipelines that they gave."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aiflow_sdk.errors import StoreError
from aiflow_sdk.ir import HERE

CACHE_FOLDER = ".aiflow/cache"
PATIENCE_SECONDS = 2.0
"""How long one process waits for another that writes."""
PIPELINE_FIELDS = ("id", "project", "path", "line", "home", "fingerprint", "entrypoints")
DEFINITION_FIELDS = ("fingerprint", "ir", "locations")


class PipelineRecord(Protocol):
    """What is remembered of a pipeline, by the names of :data:`PIPELINE_FIELDS`: a dict or a row."""

    def __getitem__(self, name: str, /) -> Any: ...


class Definitions:
    """The definitions of unchanged pipelines. They are long, and read when the first is asked for: mostly nobody asks.

    Raises ``StoreError`` (``cache-changed``) where another process has put another one in its place meanwhile,
    or the file is damaged; then it is thrown away.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._texts: dict[tuple[str, int], tuple[str, str, str]] | None = None

    def get(self, record: PipelineRecord) -> tuple[str, str]:
        """Return the IR and the locations of a remembered pipeline, as JSON."""
        if self._texts is None:
            try:
                self._texts = self._read()
            except sqlite3.OperationalError:
                self._texts = {}
            except sqlite3.DatabaseError:
                # Damaged: the next command makes it anew.
                self._texts = {}
                if self._path:
                    self._path.unlink(missing_ok=True)
        found = self._texts.get((record["module"], record["position"]))
        if found is None or found[0] != record["fingerprint"]:
            raise StoreError(
                "cache-changed",
                f"another process has changed {CACHE_FOLDER} while it was in use",
                hint="start the command again",
                retryable=True,
            )
        return found[1:]

    def _read(self) -> dict[tuple[str, int], tuple[str, str, str]]:
        if self._path is None or not self._path.is_file():
            return {}
        connection = sqlite3.connect(self._path, timeout=PATIENCE_SECONDS)
        try:
            rows = connection.execute("select module, position, fingerprint, ir, locations from definition")
            return {(module, position): (*texts,) for module, position, *texts in rows}
        finally:
            connection.close()


@dataclass
class ModuleRecord:
    """What one module gave, whether just now or in an earlier process."""

    name: str
    path: str
    pipelines: list[PipelineRecord] = field(default_factory=list)
    notes: str = ""
    only_plugins: bool = False

    @property
    def is_only_here(self) -> bool:
        """Whether a function of its pipelines exists only in the process that built them."""
        return any(HERE in pipeline["entrypoints"] for pipeline in self.pipelines)
