"""``aiflow env``: the environments of the project."""

from __future__ import annotations

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import format_table


@subcommand(
    "env",
    """aiflow env
aiflow env --json""",
)
def command(invocation: Invocation) -> None:
    """List the environments of aiflow.toml and where their lakes lie; the one that commands use has a star."""
    project = invocation.project
    meant = invocation.environment.name
    environments = [project.environment(name) for name in sorted({"dev", meant, *project.environments})]
    rows = [
        {
            "": "*" if environment.name == meant else "",
            "environment": environment.name,
            "lake": environment.lake_address,
            "reads from": environment.reads_from or "",
            "spark": environment.spark or "embedded",
            "clusters": ", ".join(environment.clusters),
        }
        for environment in environments
    ]
    console = invocation.console
    if invocation.as_json:
        console.print_json(
            [
                {
                    "name": environment.name,
                    "current": environment.name == meant,
                    "lake": environment.lake_address,
                    "reads_from": environment.reads_from,
                    "spark": environment.spark,
                    "clusters": list(environment.clusters),
                    "keep_days": environment.keep_days,
                }
                for environment in environments
            ]
        )
        return
    for line in format_table(console, rows, list(rows[0])):
        console.print(line)
