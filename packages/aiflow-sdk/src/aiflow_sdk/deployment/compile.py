"""``aiflow compile``: a plan for each pipeline, in a folder that an orchestrator reads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from aiflow_sdk.code import CodeIndex, lock_fingerprint
from aiflow_sdk.config import Environment, Project
from aiflow_sdk.deployment.check import compile_or_tell
from aiflow_sdk.deployment.memory import PlanMemory
from aiflow_sdk.discovery import Discovered, Discovery, discover
from aiflow_sdk.discovery.cache import own_version
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.ir import fingerprint
from aiflow_sdk.plan import Plan
from aiflow_sdk.plugins import Registry
from aiflow_sdk.stores import folder_name
from aiflow_sdk.workspace import Workspace

PLAN_FILE = "plan.json"
IR_FILE = "ir.json"


@dataclass(frozen=True, slots=True)
class Compiled:
    """One compiled pipeline."""

    project: str
    id: str
    file: str
    """Its ``plan.json``; ``ir.json`` lies beside it."""
    is_changed: bool
    """Whether the plan is another one than before."""

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.file)


@dataclass(frozen=True)
class CompileReport:
    """What compiling a project came to."""

    folder: Path
    pipelines: tuple[Compiled, ...] = ()
    problems: tuple[AiflowError, ...] = ()
    """What is wrong with the other pipelines; their older plans are left as they are."""
    removed: tuple[str, ...] = ()
    """``project/id`` of the plans that were removed because the pipeline is gone."""
    notes: tuple[str, ...] = ()


def compile_project(
    project: Project, environment: Environment, registry: Registry, out: str | Path | None = None
) -> CompileReport:
    """Compile every pipeline and write ``<out>/<project>/<id>/plan.json`` and ``ir.json``.

    ``out`` is ``.aiflow/compiled/<environment>`` where it is not given. Files are replaced atomically, and only where
    they change; what neither definition, code, environment nor aiflow changed is not even compiled again. A pipeline
    with a problem is reported and the others are compiled. Plans of pipelines that are gone are removed, unless there
    is a problem that may hide them.
    """
    folder = Path(out).resolve() if out else project.root / ".aiflow" / "compiled" / environment.name
    workspace = Workspace(project, registry)
    # Compiled while others are still being imported, which takes two processes as long.
    early: dict[tuple[str, str, str], str] = {}

    def compile_early(pipeline: Discovered, code: CodeIndex) -> None:
        found = compile_or_tell(pipeline, code, environment, workspace)
        if isinstance(found, Plan):
            early[pipeline.module, pipeline.id, pipeline.fingerprint] = found.to_json()

    discovery = discover(project, twice=True, ready=compile_early)
    if discovery.marked:
        # A plugin of the project's own may change what a pipeline's words mean.
        early.clear()
    workspace.add(discovery.marked)
    index = discovery.code or CodeIndex(project.root)
    keys = _Keys(index, _common_key(project, environment, registry, discovery, index))
    problems = list(discovery.problems)
    compiled: list[Compiled] = []
    with PlanMemory(project.root, folder) as memory:
        for pipeline in discovery.pipelines:
            owner = pipeline.project or project.name
            home = f"{folder_name(owner)}/{pipeline.id}"
            path = f"{folder}/{home}/{PLAN_FILE}"
            key = keys.key(pipeline)
            if key is None or not memory.knows(home, key, path):
                text = early.pop((pipeline.module, pipeline.id, pipeline.fingerprint), None)
                if text is None:
                    found = compile_or_tell(pipeline, index, environment, workspace)
                    if not isinstance(found, Plan):
                        problems.extend(found)
                        continue
                    text = found.to_json()
                is_new = _make_folder(f"{folder}/{home}")
                is_changed = _replace(path, text, is_new)
                _replace(f"{folder}/{home}/{IR_FILE}", pipeline.ir_json, is_new)
                memory.remember(home, key, path)
            else:
                is_changed = False
            compiled.append(Compiled(owner, pipeline.id, path, is_changed))
        removed = () if problems else tuple(_remove_others(folder, compiled, memory.homes, project.name))
        memory.forget(removed)
    return CompileReport(folder, tuple(compiled), tuple(problems), removed, discovery.notes)


class _Keys:
    """Names what a plan is made of, so that one made of the same need not be made again."""

    def __init__(self, index: CodeIndex, common: str) -> None:
        self._index = index
        self._common = common
        self._code: dict[str, str | None] = {}

    def key(self, pipeline: Discovered) -> str | None:
        """Return the key, or None where the code cannot be named and the compiler is to say why."""
        code = self._code_of(pipeline.entrypoints)
        if code is None:
            return None
        return hashlib.sha256(f"{self._common}\0{pipeline.fingerprint}\0{code}".encode()).hexdigest()

    def _code_of(self, entrypoints: str) -> str | None:
        if entrypoints not in self._code:
            try:
                self._code[entrypoints] = " ".join(map(self._index.fingerprint, entrypoints.splitlines()))
            except (AiflowError, OSError):
                self._code[entrypoints] = None
        return self._code[entrypoints]


def _common_key(
    project: Project, environment: Environment, registry: Registry, discovery: Discovery, index: CodeIndex
) -> str:
    """Return what all plans of one compilation depend on."""
    settings = {name: value for name, value in asdict(environment).items() if name != "root"}
    plugins = {kind: sorted(family.references.items()) for kind, family in registry.families.items()}
    own = {reference: index.fingerprint(reference) for _, _, reference in discovery.marked}
    parts = [own_version(), project.name, lock_fingerprint(project), repr(settings), repr(plugins), own]
    return fingerprint(parts)


def _make_folder(path: str) -> bool:
    """Make the folder where it is not there yet; tell whether it was made."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        os.makedirs(path)
    return True


def _replace(path: str, text: str, is_new: bool) -> bool:
    """Write a file atomically unless it holds just that; tell whether it was written."""
    content = text.encode()
    if not is_new:
        with suppress(FileNotFoundError), open(path, "rb") as file:
            if file.read() == content:
                return False
    beside = f"{path}.{os.getpid()}.part"
    with open(beside, "wb") as file:
        file.write(content)
    os.replace(beside, path)
    return True


def _remove_others(folder: Path, compiled: list[Compiled], earlier: Iterable[str], mine: str) -> Iterator[str]:
    """Remove the plans of pipelines that are gone: those compiled earlier, and others in the projects' folders."""
    kept = {f"{folder_name(item.project)}/{item.id}" for item in compiled}
    found = set(earlier)
    for project in {mine, *(item.project for item in compiled)}:
        owner = folder_name(project)
        with suppress(FileNotFoundError, NotADirectoryError):
            found.update(f"{owner}/{name}" for name in os.listdir(folder / owner))
    for home in sorted(found - kept):
        if not (folder / home / PLAN_FILE).is_file():
            continue
        for file in (PLAN_FILE, IR_FILE):
            (folder / home / file).unlink(missing_ok=True)
        for empty in (folder / home, (folder / home).parent):
            if not os.listdir(empty):
                empty.rmdir()
        yield home
