"""``aiflow deploy``: publishes the project to the environment, lists what was published, goes back to it."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from aiflow_sdk.cli.command_line import Exit, Invocation, subcommand
from aiflow_sdk.cli.console import Console, format_next, format_table
from aiflow_sdk.cli.diagnostics import flatten_errors, print_errors
from aiflow_sdk.cli.releases import moment_of, release_data, short_version
from aiflow_sdk.cli.screen import LiveBlock, spinner
from aiflow_sdk.cli.service import tell_service
from aiflow_sdk.errors import StoreError, plural

if TYPE_CHECKING:
    from aiflow_sdk.bundles import Publication
    from aiflow_sdk.deployment import DeployReport

_ALLOCATIONS = 100_000
_SHOWN_CHANGES = 40
_MOST_CHARACTERS = 2_000
_STEPS = {
    "compile": "compiling",
    "pack": "packing the code and what no registry has",
    "publish": "publishing",
    "wait": "waiting for somebody who removes old versions just now, ten minutes at most",
    "collect": "looking for old versions",
}
_CHANGES = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}


@subcommand(
    "deploy",
    """aiflow deploy --env prod
aiflow deploy --env prod --dry-run
aiflow deploy --env prod --list
aiflow deploy --env prod --rollback 3f2a""",
)
@click.option("--dry-run", "dry", is_flag=True, help="Say what would change, and publish nothing.")
@click.option("--list", "is_list", is_flag=True, help="List the releases that are kept, the newest first.")
@click.option("--rollback", metavar="VERSION", help="Make an earlier version current; its beginning is enough.")
@click.option("--message", "-m", metavar="TEXT", help="What is said of it in the history.")
@click.option("--repair", is_flag=True, help="Write every object again, also those that should be there.")
def command(
    invocation: Invocation, dry: bool, is_list: bool, rollback: str | None, message: str | None, repair: bool
) -> None:
    """Publish every pipeline, the code and what it needs installed, as one version that Airflow takes from then on.

    A project with a mistake is not published. The same content is the same version. Runs go on with the version that
    they began with; old versions are removed in time (bundles_keep and bundles_keep_days in aiflow.toml). The
    environment's metadata service is told; where it is away it is told by the next deployment, or by aiflow sync.
    """
    if sum([is_list, rollback is not None, dry or repair]) > 1:
        raise click.UsageError("--list, --rollback and the others do not go together")
    if message is not None and (is_list or dry):
        raise click.UsageError("--message goes with a deployment or a rollback")
    if message is not None and len(message) > _MOST_CHARACTERS:
        raise click.UsageError(f"--message has {len(message):,} characters; {_MOST_CHARACTERS:,} are kept")
    if is_list or rollback is not None:
        invocation.configure("leniently")  # which says how the store is opened
    if is_list:
        _list(invocation)
        return
    with _ended_as_by_ctrl_c():
        if rollback is not None:
            _roll_back(invocation, rollback, message or "")
        else:
            _deploy(invocation, dry, repair, message or "")


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """While the block runs, SIGTERM too lets what is under way say that it has ended: others would wait for it."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _deploy(invocation: Invocation, dry: bool, repair: bool, message: str) -> None:
    from aiflow_sdk.deployment import deploy_project
    from aiflow_sdk.plugins import installed_registry

    # Thousands of small records are made and all of them kept: to look for rubbish among them finds hardly any.
    gc.set_threshold(_ALLOCATIONS)
    invocation.configure()
    environment = invocation.environment
    console = invocation.console
    try:
        with _Screen(Console(sys.stderr) if invocation.as_json else console) as screen:
            report = deploy_project(
                invocation.project,
                environment,
                installed_registry(),
                message=message,
                dry=dry,
                repair=repair,
                progress=screen.take,
            )
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            "store-not-writable", f"{error.filename} cannot be written: {error.strerror}", hint="let it be written to"
        ) from error
    errors = list(flatten_errors(problem.to_dict() for problem in report.problems))
    if report.publication and not dry and (untold := tell_service(invocation)):
        report = replace(report, notes=(*report.notes, untold))
    if invocation.as_json:
        console.print_json(_data(invocation, report, errors, dry))
    else:
        print_errors(Console(sys.stderr), errors, invocation.root)
        if report.publication:
            _tell(invocation, report, report.publication, dry)
        else:
            console.print(console.style(f"{plural(len(errors), 'error')}; nothing was published", "red"))
        for note in report.notes:
            console.print(f"note: {note}")
    if errors:
        raise Exit(1)


def _tell(invocation: Invocation, report: DeployReport, publication: Publication, dry: bool) -> None:
    console = invocation.console
    for change in publication.changes[:_SHOWN_CHANGES]:
        sign, colour = _CHANGES[change.action]
        console.print(console.style(f"  {sign} {change.dag_id}", colour))
    if (more := len(publication.changes) - _SHOWN_CHANGES) > 0:
        console.print(f"    and {more:,} more")
    numbers = [(len([one for one in publication.changes if one.action == action]), action) for action in _CHANGES]
    counted = ", ".join([*(f"{number:,} {action}" for number, action in numbers if number), ""])
    counted += f"{publication.unchanged:,} unchanged"
    version = short_version(publication.project_version)
    name, place = invocation.project.name, f"{invocation.environment.name}, {report.address}"
    if not publication.is_new:
        console.print(f"nothing changed: '{name}' is at {version} in {place}")
        if publication.objects:
            written = "would be" if dry else "was" if publication.objects == 1 else "were"
            console.print(f"{plural(publication.objects, 'object')} {written} written again")
        return
    if not publication.changes:
        console.print("  no pipeline changed; the code or what it needs installed did")
    if dry:
        console.print(f"'{name}' would be at {version} in {place}: {counted}; nothing was published")
        return
    assert publication.release
    console.print(
        f"'{name}' is at {version} in {place}: {counted}; "
        f"release {publication.release.number}, {plural(publication.objects, 'object')} written"
    )
    if report.collected.releases:
        releases, objects = len(report.collected.releases), report.collected.objects
        console.print(f"removed {plural(releases, 'old release')} and {plural(objects, 'object')}")


def _data(invocation: Invocation, report: DeployReport, errors: list[Any], dry: bool) -> dict[str, Any]:
    found = report.publication
    data: dict[str, Any] = {
        "environment": invocation.environment.name,
        "address": report.address,
        "project": invocation.project.name,
        "dry_run": dry,
        "published": found is not None and found.is_new and not dry,
        "problems": errors,
        "notes": list(report.notes),
    }
    if found is None:
        return data
    return {
        **data,
        "version": found.version,
        "project_version": found.project_version,
        "release": found.release and release_data(found.release),
        "pipelines": {
            **{
                action: [
                    {"id": one.entry.pipeline, "dag_id": one.dag_id} for one in found.changes if one.action == action
                ]
                for action in _CHANGES
            },
            "unchanged": found.unchanged,
        },
        "objects": found.objects,
        "code": report.code and report.code.file,
        "wheels": [wheel.file for wheel in report.wheels],
        "collected": {
            "releases": [release.number for release in report.collected.releases],
            "objects": report.collected.objects,
        },
    }


def _list(invocation: Invocation) -> None:
    from aiflow_sdk.deployment import open_bundles

    store = open_bundles(invocation.environment)
    releases = store.releases()
    console = invocation.console
    current: dict[str, int] = {}
    for release in releases:
        current.setdefault(release.project, release.number)
    if invocation.as_json:
        console.print_json([{**release_data(one), "current": current[one.project] == one.number} for one in releases])
        return
    if not releases:
        said = f"nothing was deployed to {invocation.environment.name} yet, in {store.address}"
        for line in format_next(console, said, [invocation.next_command("deploy")]):
            console.print(line)
        return
    rows = [
        {
            "": "*" if current[one.project] == one.number else "",
            "release": one.number,
            "project": one.project,
            "version": short_version(one.project_version),
            "action": one.action,
            "by": one.by,
            "at": moment_of(one),
            "commit": short_version(one.note.commit) + (" with changes" if one.note.is_dirty else ""),
            "message": one.note.message,
        }
        for one in releases
    ]
    for line in format_table(console, rows, list(rows[0])):
        console.print(line)


def _roll_back(invocation: Invocation, version: str, message: str) -> None:
    from aiflow_sdk.deployment import roll_back_project

    done = roll_back_project(
        invocation.project,
        invocation.environment,
        version,
        message=message,
        waits=lambda: Console(sys.stderr).print(_STEPS["wait"]),
    )
    untold = tell_service(invocation)
    console = invocation.console
    if invocation.as_json:
        data = {"rolled_back": done.is_new, "project_version": done.project_version}
        console.print_json({**data, "release": release_data(done.release), "notes": [untold] if untold else []})
        return
    version = short_version(done.project_version)
    said = f"is at {version}" if done.is_new else f"was at {version} already"
    place = f"{invocation.environment.name}, {done.address}"
    console.print(f"'{invocation.project.name}' {said} in {place}; release {done.release.number}")
    if untold:
        console.print(f"note: {untold}")


class _Screen:
    """One line that moves while the project is published; without a terminal each step is one line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._block = LiveBlock(console, self._draw)
        self._step = ""
        self._done = 0
        self._of = 0

    def __enter__(self) -> Self:
        self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block.__exit__(kind, error, trace)

    def take(self, step: str, done: int, of: int) -> None:
        """Take how far it is; called by several threads."""
        with self._block.lock:
            is_new = step != self._step
            self._step, self._done, self._of = step, done if is_new else max(done, self._done), of
        if is_new and not self._console.is_terminal and step != "collect":
            counted = f" {plural(of, 'object')}" if of else ""
            self._console.print(f"{_STEPS[step]}{counted}")

    def _draw(self) -> list[str]:
        if not self._step:
            return []
        counted = f" {self._done:,} of {plural(self._of, 'object')}" if self._of else ""
        return [spinner(self._console, f"{_STEPS[self._step]}{counted}")]
