"""``aiflow compile``: the plans of a project, as files."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import click

from aiflow_sdk.cli.command_line import Exit, Invocation, subcommand
from aiflow_sdk.cli.console import Console
from aiflow_sdk.cli.diagnostics import flatten_errors, print_errors, summarise_check
from aiflow_sdk.errors import StoreError, plural

_ALLOCATIONS = 100_000


@subcommand(
    "compile",
    """aiflow compile
aiflow compile --env prod --out build/plans""",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Where (default: .aiflow/compiled/ENV).")
def command(invocation: Invocation, out: Path | None) -> None:
    """Compile every pipeline into DIR/PROJECT/ID/plan.json, with its definition in ir.json beside it.

    A pipeline with a mistake is reported and the others are compiled; what did not change is not written again.
    """
    from aiflow_sdk.deployment import compile_project
    from aiflow_sdk.plugins import installed_registry

    # Thousands of small records are made and all of them kept: to look for rubbish among them finds hardly any.
    gc.set_threshold(_ALLOCATIONS)
    invocation.configure()
    project = invocation.project
    try:
        report = compile_project(project, invocation.environment, installed_registry(), out)
    except OSError as error:
        raise StoreError(
            "store-not-writable",
            f"{error.filename or out} cannot be written: {error.strerror}",
            hint="name a folder that you may write to with --out",
        ) from error
    errors = list(flatten_errors(problem.to_dict() for problem in report.problems))
    console = invocation.console
    if invocation.as_json:
        console.print_json(
            {
                "folder": str(report.folder),
                "pipelines": [
                    {"project": one.project, "id": one.id, "path": one.file, "changed": one.is_changed}
                    for one in report.pipelines
                ],
                "removed": list(report.removed),
                "problems": errors,
                "notes": list(report.notes),
            }
        )
    else:
        print_errors(Console(sys.stderr), errors, project.root)
        changed = [one for one in report.pipelines if one.is_changed]
        for one in changed:
            console.print(f"  {one.project}/{one.id}")
        for name in report.removed:
            console.print(f"  {name}  {console.style('removed', 'yellow')}")
        same = len(report.pipelines) - len(changed)
        console.print(f"{plural(len(changed), 'plan')} written to {report.folder}, {same} unchanged")
        if errors:
            wheres = [error.get("where") or {} for error in errors]
            wrong = len({str(where.get("about") or where).partition(", node ")[0] for where in wheres})
            said = summarise_check(len(errors), wrong, len(report.pipelines) + wrong, done="the others are compiled")
            console.print(console.style(said, "red"))
    if errors:
        raise Exit(1)
