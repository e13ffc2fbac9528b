"""``aiflow deploy``: publishes a project to an environment's bundle store, and goes back to what was published."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from aiflow_sdk.bundles import (
    BundleStore,
    Collected,
    Content,
    Entry,
    Note,
    Publication,
    Release,
    StoredFile,
    dag_id_of,
    digest,
)
from aiflow_sdk.bundles.model import PlainPlaces
from aiflow_sdk.bundles.store import duplicate_dag_id
from aiflow_sdk.config import Environment, Project, resolve_secrets
from aiflow_sdk.deployment.access import find_refused
from aiflow_sdk.deployment.commit import read_commit
from aiflow_sdk.deployment.compile import Compiled, compile_project
from aiflow_sdk.deployment.files import code_wheel
from aiflow_sdk.deployment.packaging import local_wheels
from aiflow_sdk.deployment.requirements import find_requirements
from aiflow_sdk.errors import AiflowError, DocumentError, ProblemsError, StoreError
from aiflow_sdk.plugins import Registry

Progress = Callable[[str, int, int], None]
"""Told of each step (``compile``, ``pack``, ``wait``, ``publish``, ``collect``) and how many of how many of its parts
are done; by several threads."""


@dataclass(frozen=True)
class DeployReport:
    """What deploying a project came to."""

    address: str
    """Of the environment's bundles."""
    problems: tuple[AiflowError, ...] = ()
    """Where there is any, nothing was published."""
    notes: tuple[str, ...] = ()
    publication: Publication | None = None
    """None where there are problems."""
    code: StoredFile | None = None
    wheels: tuple[StoredFile, ...] = ()
    """What no registry has, beside the project's own code."""
    collected: Collected = field(default_factory=Collected)


def open_bundles(environment: Environment) -> BundleStore:
    """Return the bundles of an environment. Raises ``ConfigurationError`` (``unknown-secret``, ``bad-storage``)."""
    root = environment.bundles_root
    storage = resolve_secrets(dict(root.storage), environment)
    return BundleStore.open(root.address.uri, environment.name, storage=storage)


def deploy_project(
    project: Project,
    environment: Environment,
    registry: Registry,
    *,
    by: str | None = None,
    message: str = "",
    dry: bool = False,
    repair: bool = False,
    collect: bool = True,
    progress: Progress | None = None,
) -> DeployReport:
    """Compile every pipeline and publish all of them, the project's code and what it needs installed as one version.

    A project with a problem is not published, and every problem is told; that a team may not touch a dataset is one.
    Nobody sees a part of it; equal content is the same version, and no new release. ``dry`` tells what would change and
    writes nothing into the store; ``repair`` writes objects that should be there already; ``collect`` removes what is
    older than the environment keeps. ``by`` is who is told to have done it, else the user of this process; ``message``
    is what is said of it. May raise ``StoreError``.
    """
    tell = progress or _say_nothing
    store = open_bundles(environment)
    tell("compile", 0, 0)
    # Tasks run in a copy of the code, so that the project's own folder is no place to start an address from. What
    # `aiflow compile` has made is left alone: its folders are said in another way.
    anchored = environment.anchored()
    out = None if anchored == environment else project.root / ".aiflow" / "deployed" / environment.name
    report = compile_project(project, anchored, registry, out)
    problems = list(report.problems)
    refused, unasked = find_refused(environment, report.pipelines)
    problems += refused
    tell("pack", 0, 0)
    objects = _Objects()
    code = lock = None
    wheels: tuple[StoredFile, ...] = ()
    python = ""
    try:
        requirements = find_requirements(project)
        python, lock = requirements.python, objects.add(requirements.text.encode())
        wheels = tuple(
            sorted(
                (StoredFile(name, objects.add(content)) for name, content in local_wheels(project, requirements)),
                key=lambda wheel: wheel.file,
            )
        )
    except AiflowError as error:
        problems.append(error)
    try:
        code, wheel = code_wheel(project)
        objects.add(wheel)
    except AiflowError as error:
        problems.append(error)
    entries: dict[str, Entry] = {}
    for compiled in report.pipelines:
        dag_id = dag_id_of(compiled.project, compiled.id)
        if other := entries.get(dag_id):
            names = (compiled.project, compiled.id), (other.project or project.name, other.pipeline)
            problems.append(duplicate_dag_id(dag_id, *names))
            continue
        other_project = compiled.project if compiled.project != project.name else ""
        entries[dag_id] = Entry(compiled.id, *objects.of_pipeline(compiled), other_project)
    if problems or code is None or lock is None:
        told = [one for error in problems for one in (error.problems if isinstance(error, ProblemsError) else (error,))]
        return DeployReport(store.address, tuple(told), report.notes)
    places = dict(zip(entries, _places(report.pipelines), strict=True))
    content = Content(project.name, code, lock, entries, objects.read, wheels, python, places)
    publication = store.publish(
        content,
        by=by or _user(),
        note=Note(message, *(read_commit(project.root) or ("", None))),
        dry=dry,
        repair=repair,
        progress=lambda done, all_of_them: tell("publish", done, all_of_them),
        waits=lambda: tell("wait", 0, 0),
    )
    notes, collected = [*report.notes, *([unasked] if unasked else [])], Collected()
    if collect and not dry:
        tell("collect", 0, 0)
        try:
            collected = store.collect(
                project.name, keep=environment.bundles_keep, keep_days=environment.bundles_keep_days
            )
        except (DocumentError, StoreError) as error:
            # What was to be done is done; what is old goes the next time.
            notes.append(f"old versions were not removed: {error}")
    return DeployReport(store.address, (), tuple(notes), publication, code, wheels, collected)


@dataclass(frozen=True)
class RollbackReport:
    """What going back to an earlier version came to."""

    address: str
    project_version: str
    release: Release
    """The newest release, whose version of the project is that one."""
    is_new: bool
    """Whether the release was made for it; else the version was the current one already."""


def roll_back_project(
    project: Project,
    environment: Environment,
    version: str,
    *,
    by: str | None = None,
    message: str = "",
    waits: Callable[[], None] | None = None,
) -> RollbackReport:
    """Make an earlier version of the project current again; see :meth:`BundleStore.roll_back` for what it raises."""
    store = open_bundles(environment)
    found = store.find_version(project.name, version)
    before = store.newest()
    release = store.roll_back(project.name, found, by=by or _user(), message=message, waits=waits)
    return RollbackReport(store.address, found, release, release != before)


class _Objects:
    """What is to be published, by digest: in memory what is made, in its file what is compiled."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}
        self._plans: dict[str, str] = {}
        self._definitions: dict[str, str] = {}

    def add(self, content: bytes) -> str:
        """Take a content and return its digest."""
        name = digest(content)
        self._contents[name] = content
        return name

    def of_pipeline(self, compiled: Compiled) -> tuple[str, str]:
        """Return the digests of a plan and of its definition."""
        definition = compiled.source.ir_json
        plan, ir = digest(_content(compiled.file)), digest(definition.encode())
        self._plans[plan] = compiled.file
        self._definitions[ir] = definition
        return plan, ir

    def read(self, name: str) -> bytes:
        """Return the content of a digest. Raises ``StoreError`` (``cache-changed``)."""
        if (content := self._contents.get(name)) is not None:
            return content
        if (definition := self._definitions.get(name)) is not None:
            return definition.encode()
        content = _content(self._plans[name])
        if digest(content) != name:
            raise _changed(self._plans[name])
        return content


def _content(path: str) -> bytes:
    try:
        with open(path, "rb", 0) as file:  # thousands of small files, each read whole
            return file.read()
    except OSError as error:
        raise _changed(path) from error


def _places(pipelines: Iterable[Compiled]) -> list[PlainPlaces]:
    """Return where each pipeline and its nodes are written."""
    found: list[PlainPlaces] = json.loads(f"[{','.join(one.source.locations_json for one in pipelines)}]")
    return found


def _changed(path: str) -> StoreError:
    return StoreError(
        "cache-changed",
        f"another process has changed {path} while it was in use",
        hint="start the command again",
        retryable=True,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _say_nothing(step: str, done: int, of: int) -> None:
    """Tell nobody."""
