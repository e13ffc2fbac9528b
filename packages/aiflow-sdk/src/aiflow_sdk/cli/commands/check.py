"""``aiflow check``: every mistake at once."""

from __future__ import annotations

import sys

import click

from aiflow_sdk.cli.command_line import Exit, Invocation, subcommand
from aiflow_sdk.cli.console import Console
from aiflow_sdk.cli.diagnostics import exit_code, flatten_errors, print_errors, summarise_check
from aiflow_sdk.errors import plural


@subcommand(
    "check",
    """aiflow check
aiflow check daily_revenue --env prod
aiflow check --json""",
)
@click.argument("pipeline", required=False)
def command(invocation: Invocation, pipeline: str | None) -> None:
    """Build and compile all pipelines, or PIPELINE, and show every mistake at once; nothing is run or written."""
    from aiflow_sdk.deployment import check_project
    from aiflow_sdk.plugins import installed_registry

    invocation.configure("leniently")
    project = invocation.project
    report = check_project(project, invocation.environment, installed_registry(), pipeline)
    errors = list(flatten_errors(problem.to_dict() for problem in report.problems))
    console = invocation.console
    if invocation.as_json:
        console.print_json(
            {"pipelines": report.pipelines, "failed": report.failed, "problems": errors, "notes": list(report.notes)}
        )
    else:
        print_errors(Console(sys.stderr), errors, project.root)
        for note in report.notes:
            console.print(console.style(f"note: {note}", "dim"))
        if errors:
            console.print(console.style(summarise_check(len(errors), report.failed, report.pipelines), "red"))
        else:
            said = f"no error in {plural(report.pipelines, 'pipeline')} for {invocation.environment.name}"
            console.print(f"{console.style(said, 'green')}   next: {invocation.next_command('show')}")
    if errors:
        raise Exit(exit_code(errors) if pipeline else 1)
