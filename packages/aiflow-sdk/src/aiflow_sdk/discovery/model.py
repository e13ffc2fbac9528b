"""What discovery found: pipelines, what is wrong with the others, and the project's own plugins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiflow_sdk.code import CodeIndex
from aiflow_sdk.config.project import DEFAULT_PROJECT
from aiflow_sdk.discovery.record import Definitions, PipelineRecord
from aiflow_sdk.errors import AiflowError, UnknownNameError, Where, unknown_name
from aiflow_sdk.ir import PipelineIR, read_pipeline
from aiflow_sdk.plugins import PluginType


class Discovered:
    """One pipeline and where it is defined. Its IR is read when it is first asked for: mostly nobody asks."""

    __slots__ = (
        "_definitions",
        "_ir",
        "_locations",
        "_record",
        "entrypoints",
        "fingerprint",
        "functions",
        "id",
        "line",
        "module",
        "path",
        "project",
    )

    def __init__(
        self,
        record: PipelineRecord,
        *,
        module: str,
        ir: PipelineIR | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        definitions: Definitions | None = None,
    ) -> None:
        self.id: str = record["id"]
        self.project: str | None = record["project"]
        """The project that the author names; None: the one of ``aiflow.toml``."""
        self.module = module
        self.path: str = record["path"]
        """Relative to the project, with ``/``."""
        self.line: int = record["line"]
        self.fingerprint: str = record["fingerprint"]
        """The definition's, as :attr:`PipelineIR.fingerprint`."""
        self.entrypoints: str = record["entrypoints"]
        """Of all transforms, sorted, a line each."""
        self.functions: Mapping[str, Callable[..., Any]] = functions or {}
        """By node id the functions that exist only in this process; only of :func:`discover_here`."""
        self._record = record
        self._definitions = definitions
        """Where the definition is, if the record is a remembered one, which does not hold it."""
        self._ir = ir
        self._locations: Mapping[str, Where] | None = None

    @property
    def ir(self) -> PipelineIR:
        """What the pipeline means."""
        if self._ir is None:
            self._ir = read_pipeline(self.ir_json, fingerprint=self.fingerprint)
        return self._ir

    @property
    def ir_json(self) -> str:
        """The canonical JSON of the IR."""
        text: str = self._definitions.get(self._record)[0] if self._definitions else self._record["ir"]
        return text

    @property
    def locations(self) -> Mapping[str, Where]:
        """Where each node is declared, by id; under ``""`` the pipeline itself."""
        if self._locations is None:
            places = json.loads(self.locations_json)
            self._locations = {node_id: Where(*place) for node_id, place in places.items()}
        return self._locations

    @property
    def locations_json(self) -> str:
        """The same as JSON: of each node ``[path, line, column, about]``, as far as it is known."""
        text: str = self._definitions.get(self._record)[1] if self._definitions else self._record["locations"]
        return text

    @property
    def where(self) -> Where:
        """Where the pipeline is defined."""
        return Where(self.path, self.line, about=f"pipeline '{self.id}'")

    def __repr__(self) -> str:
        return f"<{self.id} of {self.path}:{self.line}>"


@dataclass(frozen=True)
class Discovery:
    """What was found, in the order of the modules' names."""

    pipelines: tuple[Discovered, ...] = ()
    problems: tuple[AiflowError, ...] = ()
    """What is wrong with modules and pipelines that are therefore not among ``pipelines``."""
    marked: tuple[tuple[PluginType, str, str], ...] = ()
    """The project's own plugins: (type, kind, ``module:object``)."""
    notes: tuple[str, ...] = ()
    """What is worth knowing and stops nobody: files that were skipped, what modules printed."""
    imported: tuple[str, ...] = ()
    """Modules that were imported this time; of the others the cache knew."""
    code: CodeIndex | None = field(default=None, compare=False, repr=False)
    """What is known of the project's files as they were looked at."""

    default_project: str = DEFAULT_PROJECT
    """The project of the pipelines that name none."""

    def problems_of(self, pipeline_id: str) -> tuple[AiflowError, ...]:
        """Return what is wrong with the pipeline ``id`` or ``project/id`` itself."""
        return tuple(problem for problem in self.problems if is_about(problem, pipeline_id))

    def pipeline(self, pipeline_id: str) -> Discovered:
        """Return the pipeline ``id`` or ``project/id``.

        Raises ``UnknownNameError`` with the nearest (``unknown-pipeline``), or where several projects have one of the
        id (``ambiguous-pipeline``).
        """
        project, _, name = pipeline_id.rpartition("/")
        named = {found.project or self.default_project: found for found in self.pipelines if found.id == name}
        if project in named:
            return named[project]
        if named and not project:
            if len(named) > 1:
                known = [f"{owner}/{name}" for owner in sorted(named)]
                raise UnknownNameError(
                    "ambiguous-pipeline",
                    f"{len(named)} projects have a pipeline '{name}'",
                    hint=f"write one of: {', '.join(known)}",
                )
            return next(iter(named.values()))
        known = [
            f"{found.project or self.default_project}/{found.id}" if project else found.id for found in self.pipelines
        ]
        error = unknown_name("unknown-pipeline", "pipeline", pipeline_id, known)
        error.notes = (*error.notes, *(f"not looked at, because of an error: {problem}" for problem in self.problems))
        raise error


def is_about(problem: AiflowError, pipeline_id: str) -> bool:
    """Tell whether a problem of discovery is one of the pipeline ``id`` (or ``project/id``)."""
    name = pipeline_id.rpartition("/")[2]
    return bool(problem.where and (problem.where.about or "").partition(", ")[0] == f"pipeline '{name}'")
