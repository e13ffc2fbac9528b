"""``aiflow compile``: a plan for each pipeline, in a folder that an orchestrator reads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aiflow_sdk.code import CodeIndex, lock_fingerprint
from aiflow_sdk.config import Environment, Project
from aiflow_sdk.deployment.memory import PLAN_FILE, PlanMemory
from aiflow_sdk.discovery import Discovered, Discovery, discover
from aiflow_sdk.discovery.cache import own_version
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.ir import fingerprint
from aiflow_sdk.plugins import Registry
from aiflow_sdk.stores import folder_name

if TYPE_CHECKING:
    from aiflow_sdk.workspace import Workspace

IR_FILE = "ir.json"


class Compiled(NamedTuple):
    """One compiled pipeline."""

    project: str
    id: str
    file: str
    """Its ``plan.json``; ``ir.json`` lies beside it."""
    is_changed: bool
    """Whether the plan is another one than before."""
    source: Discovered
    """What it was compiled of."""

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
    memory = PlanMemory(project.root, folder)
    names = _Names(project)
    compiler = _Compiler(project, environment, registry)
    plugins = registry.state()

    def compile_early(pipeline: Discovered, code: CodeIndex) -> None:
        if not memory.remembers(names.home(pipeline), pipeline.fingerprint):
            compiler.compile_early(pipeline, code)

    def get_ready() -> None:
        memory.load()
        if not memory.homes:  # later ones mostly find that no plan changes
            compiler.prepare()

    discovery = discover(project, twice=True, ready=compile_early, meanwhile=get_ready)
    compiler.enter(discovery)
    index = discovery.code or CodeIndex(project.root)
    codes = _Codes(index)
    problems = list(discovery.problems)
    compiled: list[Compiled] = []
    kept: set[str] = set()
    root = str(folder)
    with memory.all_made_of(_common_key(project, environment, plugins, discovery, index)):
        for pipeline in discovery.pipelines:
            home = names.home(pipeline)
            path = f"{root}/{home}/{PLAN_FILE}"
            code = codes[pipeline.entrypoints]
            key = code and f"{pipeline.fingerprint} {code}"
            is_changed = False
            if not memory.knows(home, key):
                text = compiler.compile(pipeline, index)
                if not isinstance(text, str):
                    problems.extend(text)
                    continue
                is_new = _make_folder(f"{root}/{home}")
                is_changed = _replace(path, text, is_new)
                _replace(f"{root}/{home}/{IR_FILE}", pipeline.ir_json, is_new)
                memory.remember(home, key)
            kept.add(home)
            compiled.append(Compiled(pipeline.project or project.name, pipeline.id, path, is_changed, pipeline))
        owners = {folder_name(project.name), *(home.partition("/")[0] for home in kept)}
        removed = () if problems else tuple(_remove_others(folder, kept, memory.homes, owners))
        memory.forget(removed)
    return CompileReport(folder, tuple(compiled), tuple(problems), removed, discovery.notes)


class _Names:
    """Where the plan of a pipeline lies."""

    def __init__(self, project: Project) -> None:
        self._project = project.name
        self._owner = cache(folder_name)

    def home(self, pipeline: Discovered) -> str:
        """Return ``project/id``, as folders."""
        return f"{self._owner(pipeline.project or self._project)}/{pipeline.id}"


class _Compiler:
    """Makes plans. What that needs is loaded for the first one: mostly there is none to make."""

    def __init__(self, project: Project, environment: Environment, registry: Registry) -> None:
        self._project = project
        self._environment = environment
        self._registry = registry
        self._workspace: Workspace | None = None
        self._discovery = Discovery()
        # Compiled while others are still being imported, which takes two processes as long.
        self._early: dict[tuple[str, str, str], str] = {}

    def prepare(self) -> Workspace:
        """Return what plans are made in. The first call loads the compiler, which takes as long as a child's start."""
        if self._workspace is None:
            from aiflow_sdk.deployment import check  # noqa: F401 for what it imports
            from aiflow_sdk.workspace import Workspace

            self._workspace = Workspace(self._project, self._registry, self._discovery.marked)
        return self._workspace

    def enter(self, discovery: Discovery) -> None:
        """Go on with what was discovered, the project's own plugins included."""
        self._discovery = discovery
        if discovery.marked:
            # A plugin of the project's own may change what a pipeline's words mean.
            self._early.clear()
        if self._workspace:
            self._workspace.add(discovery.marked)

    def compile_early(self, pipeline: Discovered, code: CodeIndex) -> None:
        """Make the plan of a pipeline that may not come through, and keep it."""
        found = self._compile(pipeline, code)
        if isinstance(found, str):
            self._early[pipeline.module, pipeline.id, pipeline.fingerprint] = found

    def compile(self, pipeline: Discovered, code: CodeIndex) -> str | list[AiflowError]:
        """Return the JSON of the plan, or everything that is wrong with the pipeline."""
        early = self._early.pop((pipeline.module, pipeline.id, pipeline.fingerprint), None)
        return self._compile(pipeline, code) if early is None else early

    def _compile(self, pipeline: Discovered, code: CodeIndex) -> str | list[AiflowError]:
        workspace = self.prepare()
        from aiflow_sdk.deployment.check import compile_or_tell

        found = compile_or_tell(pipeline, code, self._environment, workspace)
        return found if isinstance(found, list) else found.to_json()


class _Codes(dict[str, str | None]):
    """By entrypoints the fingerprint of the code that they reach; None where the compiler is to say what is wrong."""

    def __init__(self, index: CodeIndex) -> None:
        super().__init__()
        self._index = index

    def __missing__(self, entrypoints: str) -> str | None:
        try:
            named = " ".join(map(self._index.fingerprint, entrypoints.splitlines()))
            self[entrypoints] = hashlib.sha256(named.encode()).hexdigest()
        except (AiflowError, OSError):
            self[entrypoints] = None
        return self[entrypoints]


def _common_key(
    project: Project, environment: Environment, plugins: str, discovery: Discovery, index: CodeIndex
) -> str:
    """Return what all plans of one compilation depend on."""
    apart = ("root", "bundles", "airflow", "service_over_http", "configuration_")  # what no plan holds
    settings = {name: value for name, value in asdict(environment).items() if not name.startswith(apart)}
    own = {reference: index.fingerprint(reference) for _, _, reference in discovery.marked}
    parts = [own_version(), project.name, lock_fingerprint(project), repr(settings), plugins, own]
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
    # Without Python's own buffering, which is a third of the price of a small file.
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    finally:
        os.close(descriptor)
    os.replace(beside, path)
    return True


def _remove_others(folder: Path, kept: set[str], earlier: Iterable[str], owners: Iterable[str]) -> Iterator[str]:
    """Remove the plans of pipelines that are gone: those compiled earlier, and others in the projects' folders."""
    found = set(earlier)
    for owner in owners:
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
