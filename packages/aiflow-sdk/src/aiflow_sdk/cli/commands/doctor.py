"""``aiflow doctor``: what works here, and what to do where it does not."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from aiflow_sdk.cli.command_line import Exit, Invocation, subcommand
from aiflow_sdk.errors import AiflowError, install_hint

if TYPE_CHECKING:
    from aiflow_sdk.config import Environment
    from aiflow_sdk.discovery import Discovery

State = Literal["ok", "warn", "fail"]
_COLOURS: dict[State, str] = {"ok": "green", "warn": "yellow", "fail": "red"}

EXTRAS = {
    "python": ("deltalake", "obstore", "polars", "pyarrow"),
    "spark": ("deltalake", "pandas", "pyarrow", "pysail", "pyspark"),
    "sql": ("duckdb", "sqlglot"),
}
"""The extras of aiflow-sdk, each with the modules that it brings."""


_SERVICE_SECONDS = 10.0
_MOST_UNGRANTED = 20


class Finding(NamedTuple):
    """One thing that was looked at."""

    state: State
    what: str
    said: str
    todo: str = ""


@subcommand(
    "doctor",
    """aiflow doctor
aiflow doctor --no-spark --json
aiflow doctor --airflow --env prod""",
)
@click.option(
    "--spark/--no-spark", "with_spark", default=True, help="Whether to start the embedded Spark, which takes seconds."
)
@click.option(
    "--airflow", "of_airflow", is_flag=True, help="Look at the environment's Airflow instead, through its REST API."
)
@click.option(
    "--airflow-python",
    metavar="PATH",
    help="With --airflow, on Airflow's own machine: its interpreter, which is asked for the settings that it has.",
)
def command(invocation: Invocation, with_spark: bool, of_airflow: bool, airflow_python: str | None) -> None:
    """Look at Python, packages, the project, its lake and the engines: a line each, ok, warn or fail.

    With --airflow: is the environment's Airflow there and new enough, are its processes well, has it aiflow's plugin,
    the settings that aiflow needs and the newest release.
    """
    if airflow_python and not of_airflow:
        raise click.UsageError("--airflow-python goes with --airflow")
    console = invocation.console
    findings: list[Finding] = []
    for finding in _examine_airflow(invocation, airflow_python) if of_airflow else _examine(invocation, with_spark):
        findings.append(finding)
        if not invocation.as_json:
            state = console.style(f"{finding.state:<4}", _COLOURS[finding.state])
            console.print(f"{state}  {finding.what:<13}  {finding.said}")
            if finding.todo:
                console.print(f"{'':<21}{console.style('→', 'dim')} {finding.todo}")
    failed = sum(finding.state == "fail" for finding in findings)
    if invocation.as_json:
        console.print_json([finding._asdict() for finding in findings])
    else:
        console.print(f"\n{failed} of {len(findings)} failed" if failed else "\nall is well")
    if failed:
        raise Exit(1)


def _examine(invocation: Invocation, with_spark: bool) -> Iterator[Finding]:
    yield _python()
    yield from _packages()
    yield Finding("ok", "java", "not needed")
    yield from _guarded("aiflow.toml", lambda: _config(invocation))
    if invocation._project is None:
        return  # nothing else can be looked at while the file is wrong
    yield from _guarded("configuration", lambda: _configuration(invocation))
    yield from _guarded("environment", lambda: _lake(invocation))
    yield from _service(invocation)
    if invocation.project.python:
        yield _interpreter(invocation.project.root, invocation.project.python)
    yield from _guarded("pipelines", lambda: _pipelines(invocation))
    yield from _guarded("stubs", _stubs)
    if with_spark and all(find_spec(name) for name in EXTRAS["spark"]):
        yield from _guarded("spark", lambda: _engine(invocation, "spark"))


def _examine_airflow(invocation: Invocation, python: str | None) -> Iterator[Finding]:
    from aiflow_sdk.cli.airflow_doctor import examine_airflow

    yield from _guarded("airflow", lambda: examine_airflow(invocation, python))


def _guarded(what: str, examine: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from examine()
    except AiflowError as error:
        yield Finding("fail", what, str(error.message), error.hint or "")


def _python() -> Finding:
    said = f"Python {platform.python_version()} at {sys.executable}"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("ok", "python", said)
    return Finding("fail", "python", said, "use Python 3.11, 3.12 or 3.13")


def _packages() -> Iterator[Finding]:
    yield Finding("ok", "aiflow-sdk", version("aiflow-sdk"))
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if not find_spec(name)]
        if missing:
            todo = f"{install_hint(extra)} where you need it"
            yield Finding("warn", f"[{extra}]", f"not installed: {', '.join(missing)}", todo)
        else:
            yield Finding("ok", f"[{extra}]", ", ".join(f"{name} {_version(name)}" for name in modules))
    if find_spec("pyspark") and find_spec("pandas") and _version("pandas").startswith("3"):
        yield Finding("warn", "pandas", f"pandas {_version('pandas')}: Spark warns on it", 'pip install "pandas<3"')


def _version(module: str) -> str:
    for name in (module, f"{module}-client"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "?"


def _config(invocation: Invocation) -> Iterator[Finding]:
    project = invocation.project
    if project.config_path:
        yield Finding("ok", "project", f"'{project.name}' of {project.config_path}")
    else:
        yield Finding("ok", "project", f"'{project.name}' in {project.root}, no aiflow.toml: the defaults hold")


def _configuration(invocation: Invocation) -> Iterator[Finding]:
    """Tell where each setting comes from that may be handed out, in an environment whose service does."""
    project = invocation.project
    if not project.asking(invocation.environment_name):
        return
    from aiflow_sdk.config.configuration import setting_names

    notes: list[str] = []
    invocation.configure(tell=notes.append)
    project = invocation.project
    for note in notes:
        yield Finding("warn", "configuration", note)
    environment = invocation.environment
    handed_out = {item.name: item for item in environment.handed_out if item.environment == environment.name}
    for name in setting_names(environment):
        place = project.place_of("environments", environment.name, *name.split(".", 1))
        item = handed_out.get(name)
        said = f"{item.kind} of the team '{item.team}', version {item.version}" if item else str(place)
        yield Finding("ok", "configuration", f"{name}: {said}")


def _lake(invocation: Invocation) -> Iterator[Finding]:
    environment = invocation.environment
    folder = environment.lake_folder
    yield Finding("ok", "environment", environment.name)
    if folder is None:
        yield _store(environment)
        return
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("ok", "lake", f"{folder}{'' if folder.exists() else ', which the first write makes'}")
    else:
        yield Finding(
            "fail", "lake", f"{nearest} cannot be written", "let it be written to, or name another lake in aiflow.toml"
        )


def _store(environment: Environment) -> Finding:
    """Try what commits stand on: of two puts of one key only the first may land."""
    from uuid import uuid4

    from aiflow_sdk.config import resolve_secrets
    from aiflow_sdk.stores import open_store

    address = environment.lake_root.address
    try:
        store = open_store(address, storage=resolve_secrets(dict(environment.storage), environment))
        key = f"_locks/doctor-{uuid4().hex}"
        first = store.put_if_absent(key, b"first")
        second = store.put_if_absent(key, b"second")
        kept = store.read(key)
        store.delete([key])
    except AiflowError as error:
        return Finding("fail", "lake", str(error), error.hint or "")
    if (first, second, kept) != (True, False, b"first"):
        return Finding(
            "fail",
            "lake",
            f"{address.uri}: the store takes conditional puts and ignores the condition",
            "use another store: commits of several writers would be lost in this one",
        )
    return Finding("ok", "lake", f"{address.uri}: reads, writes, and keeps the first of two conditional puts")


def _service(invocation: Invocation) -> Iterator[Finding]:
    """Tell whether the metadata service answers, and which tables the user's teams write that are another's."""
    from aiflow_sdk.service import Service

    try:
        environment = invocation.environment
        if environment.service is None:
            return
        service = Service(environment, timeout_seconds=_SERVICE_SECONDS, is_personal=True)
        found = (service.get("lineage/ungranted", limit=_MOST_UNGRANTED) or {}).get("items", [])
    except AiflowError as error:
        yield Finding("warn", "service", str(error.message), error.hint or "")
        return
    yield Finding("ok", "service", environment.service)
    for one in found:
        job, dataset = one["job"]["name"], one["dataset"]
        what = f"{dataset['name']} ({dataset['namespace']})" if dataset else "a table of several names"
        yield Finding(
            "warn",
            "grants",
            f"{job} writes {what}, which is another team's: it wrote it first, or claims it",
            f"ask who else writes it for: aiflow grant add {dataset['name'] if dataset else 'TABLE'} "
            f"--to {one['team']} --access write",
        )


def _interpreter(root: Path, python: str) -> Finding:
    path = root / Path(python).expanduser()
    if path.exists() and os.access(path, os.X_OK):
        return Finding("ok", "interpreter", str(path))
    return Finding("fail", "interpreter", f"{path} cannot be started", "correct `python` in aiflow.toml")


def _pipelines(invocation: Invocation) -> Iterator[Finding]:
    from aiflow_sdk.discovery import discover

    found: Discovery = discover(invocation.project)
    for problem in found.problems:
        yield Finding("fail", "pipelines", str(problem), "aiflow check shows it whole")
    if found.pipelines:
        yield Finding("ok", "pipelines", f"{len(found.pipelines)} found")
    elif not found.problems:
        yield Finding(
            "warn", "pipelines", f"none found in {', '.join(invocation.project.pipelines)}", "aiflow init my_project"
        )


def _stubs() -> Iterator[Finding]:
    import sysconfig

    from aiflow_sdk.factories.stubs import stub_text
    from aiflow_sdk.plugins import installed_registry

    registry = installed_registry()
    for family in registry.families.values():
        for kind in family.kinds:
            family.get(kind)
    number = sum(len(family.kinds) for family in registry.families.values())
    yield Finding("ok", "plugins", f"{number} can be loaded")
    path = Path(sysconfig.get_path("purelib")) / "aiflow_sdk-stubs" / "factories" / "connectors.pyi"
    todo = "aiflow plugins --stubs, so that editors complete what plugins offer"
    if not path.exists():
        yield Finding("warn", "stubs", "not written", todo)
    elif path.read_text("utf-8") != stub_text(registry):
        yield Finding("warn", "stubs", "older than what is installed", todo)
    else:
        yield Finding("ok", "stubs", str(path))


def _engine(invocation: Invocation, name: str) -> Iterator[Finding]:
    import time

    from aiflow_sdk.plan import PlanTask, Run, new_run_id
    from aiflow_sdk.plugins import installed_registry

    engines = installed_registry().engines
    began = time.perf_counter()
    task = PlanTask(
        id="doctor",
        engine=name,
        engine_plugin=engines.reference(name),
        cluster="local",
        node_ids=(),
        retries=0,
        retry_delay_seconds=0,
        timeout_seconds=None,
        bounded=True,
    )
    run = Run(run_id=new_run_id(), environment=invocation.environment.name, project="default", pipeline_id="doctor")
    with engines.get(name).load({}, invocation.environment).open(task, run) as session:
        session.columns(session.sql("select 1 as one", {}))
    where = invocation.environment.spark or "embedded"
    yield Finding("ok", name, f"{where}: started and answered in {time.perf_counter() - began:.1f} s")
