"""Discovers all pipelines of a project: what is unchanged comes from the cache, the rest is imported by children."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias, cast

from aiflow_sdk.code import CodeIndex, Stamp, module_name, scan_sources
from aiflow_sdk.config import Project
from aiflow_sdk.discovery.cache import Cache, open_cache
from aiflow_sdk.discovery.children import Answers, Chores, Setup, import_modules, other_timezone
from aiflow_sdk.discovery.finding import Found, Module, find_modules, find_plugin_modules
from aiflow_sdk.discovery.importing import Imported
from aiflow_sdk.discovery.judgement import Judgement, find_duplicates, judge
from aiflow_sdk.discovery.model import Discovered, Discovery, is_about
from aiflow_sdk.discovery.record import ModuleRecord
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plugins import PluginType

ImportModules: TypeAlias = Callable[[Sequence[Module], Chores], list[Answers]]
Ready: TypeAlias = Callable[[Discovered, CodeIndex], None]


def discover(
    project: Project,
    *,
    twice: bool = False,
    only: str | None = None,
    ready: Ready | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Discovery:
    """Return the project's pipelines, imported in child processes where the cache does not know them.

    ``twice`` builds each in two children that differ in hash seed and time zone; both must mean the same. With ``only``
    (an id, or ``project/id``) what else is found may be left out. What is wrong with a module or a pipeline is among
    ``problems``, and the others come through. ``ready`` is called with each pipeline that was built, while others are
    still being imported; whether it comes through is decided later. ``meanwhile`` is called while the children start,
    if there is anything to import: it is other work that has to be done anyway. Raises ``ConfigurationError`` where
    nothing can be imported at all.
    """
    setups = [Setup(), Setup(hash_seed=2, clock=False, timezone=other_timezone())] if twice else [Setup()]
    with Exploration(project, ready, meanwhile) as exploration:
        return exploration.explore(
            lambda modules, chores: import_modules(project, modules, setups, chores), builds=len(setups), only=only
        )


class Exploration:
    """One look at a project: its files as they are now, what the cache knows of them, and what is imported."""

    def __init__(
        self, project: Project, ready: Ready | None = None, meanwhile: Callable[[], None] | None = None
    ) -> None:
        self.project = project
        self._ready = ready
        self._meanwhile = meanwhile
        unimportable: list[str] = []
        self._snapshot: Mapping[str, Stamp] = scan_sources(project.root, unimportable)
        self._found: Found = find_modules(project, self._snapshot, unimportable)
        self.cache: Cache = open_cache(project, self._snapshot)
        self._judgement = Judgement()
        self.imported: dict[str, Imported] = {}
        """By module what the first build of this time gave."""

    def __enter__(self) -> Exploration:
        return self

    def __exit__(self, *error: object) -> None:
        self.cache.close()

    def explore(
        self,
        import_modules: ImportModules,
        *,
        builds: int,
        only: str | None,
        functions: bool = False,
        import_others: ImportModules | None = None,
    ) -> Discovery:
        """Import what is not known to be unchanged and was not built so often, remember it, and return all.

        ``functions``: those that exist only in a process are wanted, so their modules are imported in any case.
        ``import_others`` is for modules in which the one that is wanted is only looked for.
        """
        modules = list(self._found.modules)
        known = {module.path for module in modules}
        # A folder that is no project at all is not searched for code to import.
        is_project = bool(modules) or self.project.config_path is not None
        plugins = find_plugin_modules(self.project.root, self.cache.fresh) if is_project else []
        plugins += [Module(module_name(path), path, True) for path in self.cache.plugin_modules()]
        modules += sorted(module for module in plugins if module.path not in known)
        unchanged = {module.name for module in modules if self._is_unchanged(module, builds, functions)}
        waiting = [module for module in modules if module.name not in unchanged]
        for batch, is_likely in self._batches(waiting, {plugin.path for plugin in plugins}, only):
            self._import(batch, import_modules if is_likely else import_others or import_modules)
        self._save(builds, gone=self.cache.valid.keys() - {module.name for module in modules})
        return self._assemble(modules, {name: self._records[name] for name in unchanged})

    @cached_property
    def _records(self) -> dict[str, ModuleRecord]:
        return self.cache.records()

    def _is_unchanged(self, module: Module, builds: int, functions: bool) -> bool:
        path, built, is_only_here = self.cache.valid.get(module.name, ("", 0, False))
        return path == module.path and built >= builds and not (functions and is_only_here)

    def _batches(
        self, waiting: list[Module], plugins: set[str], only: str | None
    ) -> Iterator[tuple[list[Module], bool]]:
        """Yield modules to import, and whether they are likely to define the pipeline that is wanted."""
        if only is None:
            yield waiting, True
            return
        owner, _, name = only.rpartition("/")
        remembered = {
            module for module, project in self.cache.modules_of(name) if owner in ("", project or self.project.name)
        }
        likely = [module for module in waiting if module.name in remembered]
        if not likely and not remembered.isdisjoint(self.cache.valid):
            return
        likely = likely or [module for module in waiting if _mentions(self.project, module, name)]
        first = {module.name for module in likely} | {module.name for module in waiting if module.path in plugins}
        yield [module for module in waiting if module.name in first], True
        if not self._homes(owner, name) and not any(is_about(problem, name) for problem in self._told()):
            yield [module for module in waiting if module.name not in first], False
            yield [module for module in waiting if module.name in self._homes(owner, name) - first], True

    def _homes(self, owner: str, name: str) -> set[str]:
        """Return the modules, of those imported, that define the pipeline; without ``owner`` that of any project."""
        return {
            record.name
            for record in self._judgement.records.values()
            for pipeline in record.pipelines
            if pipeline["id"] == name and owner in ("", pipeline["project"] or self.project.name)
        }

    def _told(self) -> Iterator[AiflowError]:
        for problems in self._judgement.problems.values():
            yield from problems

    def _import(self, modules: Sequence[Module], import_modules: ImportModules) -> None:
        if not modules:
            return
        answers = import_modules(modules, lambda answers: self._chores(modules, answers))
        imported = [answer.imported for answer in answers]
        judgement = judge(modules, imported, answers[0].printed, self.cache.index)
        self._judgement.records.update(judgement.records)
        self._judgement.problems.update(judgement.problems)
        for module in modules:
            one = imported[0][module.name]
            for other in imported[1:]:
                one.reads = sorted({*one.reads, *other[module.name].reads})
            self.imported[module.name] = one

    def _chores(self, modules: Sequence[Module], answers: Sequence[Answers]) -> Iterator[bool]:
        """Read the files while the children import them, and show what they built."""
        if self._meanwhile:
            self._meanwhile()
        _ = self._records
        for module in modules:
            self.cache.index.closure(module.path)
            yield True
        for module in modules if self._ready else ():
            while any(module.name not in answer.imported for answer in answers):
                yield False
            first, *others = (answer.imported[module.name] for answer in answers)
            if first.pipelines and all(other.pipelines == first.pipelines for other in others):
                for pipeline in first.pipelines:
                    self._show(Discovered(pipeline, module=module.name))
                yield True

    def _show(self, pipeline: Discovered) -> None:
        if self._ready:
            self._ready(pipeline, self.cache.index)

    def _save(self, builds: int, gone: Iterable[str]) -> None:
        data: dict[str, set[str]] = {}
        for imported in self.imported.values():
            for source, path in imported.reads:
                data.setdefault(source, set()).add(path)
        executed = {path for imported in self.imported.values() for path in imported.executed}
        sound = [record for name, record in self._judgement.records.items() if name not in self._judgement.problems]
        failed = self._judgement.problems.keys()
        if not (sound or failed or gone or self.cache.has_lost):
            return
        remembered: dict[str, list[str]] = {}

        def reach(path: str) -> set[str]:
            files = self.cache.index.closure(path)
            for file in files:
                if file not in executed and file not in remembered:
                    remembered[file] = self.cache.data_read_by(file)
            return {*files, *(read for file in files for read in data.get(file, remembered.get(file, ())))}

        self.cache.save(
            [(record, builds, reach(record.path)) for record in sound],
            gone={*gone, *failed},
            data=data,
            marks=[mark for imported in self.imported.values() for mark in imported.marked],
            executed=executed,
        )

    def _assemble(self, modules: Iterable[Module], kept: Mapping[str, ModuleRecord]) -> Discovery:
        records = {**kept, **self._judgement.records}
        pipelines: list[Discovered] = []
        problems: list[AiflowError] = list(self._found.problems)
        ordered = [records[module.name] for module in modules if module.name in records]
        for record in ordered:
            problems.extend(self._judgement.problems.get(record.name, ()))
        for record, pipeline, problem in find_duplicates(ordered, self.project.name, self.cache.index):
            if problem:
                problems.append(problem)
                continue
            built = self.imported[record.name].built if record.name in self.imported else {}
            ir, functions = built.get(pipeline["id"], (None, None))
            remembered = self.cache.definitions if record.name in kept else None
            pipelines.append(
                Discovered(pipeline, module=record.name, ir=ir, functions=functions, definitions=remembered)
            )
        fresh = {mark for imported in self.imported.values() for mark in imported.marked}
        executed = {path for imported in self.imported.values() for path in imported.executed}
        marks = fresh | {mark for mark in self.cache.marks() if mark[0] not in executed}
        return Discovery(
            pipelines=tuple(pipelines),
            problems=tuple(problems),
            marked=tuple((cast(PluginType, kind), name, reference) for _, kind, name, reference in sorted(marks)),
            notes=(*self._found.notes, *(record.notes for record in ordered if record.notes)),
            imported=tuple(self.imported),
            code=self.cache.index,
            default_project=self.project.name,
        )


def _mentions(project: Project, module: Module, name: str) -> bool:
    """Tell whether the id stands in the module's text, as text or as the name of a function."""
    stated = rf"""(["']){re.escape(name)}\1|\bdef\s+{re.escape(name)}\b""".encode()
    try:
        return re.search(stated, (project.root / module.path).read_bytes()) is not None
    except OSError:
        return False
