"""``aiflow eject``: a pipeline as plain Airflow code, so that a team can leave."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from aiflow_sdk.cli.arguments import compile_found, find_pipeline
from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import Console
from aiflow_sdk.errors import StoreError, plural


@subcommand(
    "eject",
    """aiflow eject daily_revenue
aiflow eject daily_revenue --env prod --output daily_revenue_dag.py""",
)
@click.argument("pipeline", required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write this file instead of printing."
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def command(invocation: Invocation, pipeline: str | None, output: Path | None, force: bool) -> None:
    """Write PIPELINE as plain Airflow code that gives the same tables and needs no aiflow.

    What has no plain equivalent stands in the code as a comment, and is told as a warning.
    """
    from aiflow_sdk.code import CodeIndex
    from aiflow_sdk.eject import eject_pipeline

    if output is not None and output.suffix != ".py":
        raise click.UsageError(f"--output {output} is no .py")
    if output is not None and output.exists() and not force:
        raise click.UsageError(f"{output} is there already; add --force to replace it")
    found, discovery = find_pipeline(invocation, pipeline)
    plan = compile_found(invocation, found, discovery)
    project = invocation.project.root
    # Without a file the text is meant to lie in the project's folder.
    way = os.path.relpath(project, output.absolute().parent) if output is not None else "."
    root = "" if way == "." else Path(way).as_posix()
    ejected = eject_pipeline(plan, invocation.environment, discovery.code or CodeIndex(project), found.locations, root)
    if output is not None:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(ejected.text, encoding="utf-8")
        except OSError as error:
            raise StoreError(
                "store-not-writable",
                f"{output} cannot be written: {error.strerror}",
                hint="name a file that you may write to",
            ) from error
    console = invocation.console
    if invocation.as_json:
        facts = {"pipeline": plan.pipeline_id, "warnings": list(ejected.warnings)}
        console.print_json({**facts, "file": str(output)} if output is not None else {**facts, "text": ejected.text})
        return
    if output is None:
        console.print(ejected.text.rstrip("\n"))
    else:
        console.print(f"wrote {output}")
    aside = Console(sys.stderr)
    for warning in ejected.warnings:
        aside.print(f"{aside.style('warning', 'yellow', 'bold')}: {warning}")
    if ejected.warnings:
        count = len(ejected.warnings)
        differs = "differs" if count == 1 else "differ"
        aside.print(f"{plural(count, 'thing')} {differs} from the pipeline; each is told in the code too")
