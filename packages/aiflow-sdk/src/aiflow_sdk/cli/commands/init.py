"""``aiflow init``: a new project that runs at once."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.example import EXAMPLES, make_project


@subcommand(
    "init",
    """aiflow init my_project
aiflow init my_project --example empty""",
)
@click.argument("directory", metavar="DIR")
@click.option("--example", type=click.Choice(EXAMPLES), default="shop", show_default=True, help="What it begins with.")
def command(invocation: Invocation, directory: str, example: str) -> None:
    """Make a project in DIR, which is new or empty: a pipeline, its function, a test, and orders of a small shop."""
    folder = invocation.folder / directory
    last = (datetime.now(UTC) - timedelta(days=1)).date()
    written = make_project(folder, example, last)
    following = [f"cd {shlex.quote(str(folder))}"] if folder.resolve() != folder.cwd() else []
    if example == "shop":
        following += [f"aiflow run daily_revenue --date {last}", f"aiflow show daily_revenue --date {last}"]
        if find_spec("pytest"):
            following.append("python -m pytest")
    else:
        following.append("aiflow check")
    console = invocation.console
    if invocation.as_json:
        files = [path.relative_to(folder).as_posix() for path in written]
        console.print_json({"folder": str(folder.resolve()), "example": example, "files": files, "next": following})
        return
    days = sum(path.suffix == ".csv" for path in written)
    for path in written:
        if path.suffix != ".csv":
            console.print(f"  {path.relative_to(folder)}")
    if days:
        console.print(f"  data/orders/…  {console.style(f'{days} days of orders', 'dim')}")
    console.print(f"{console.style(f'made {folder}', 'green')}   next:")
    for line in following:
        console.print(f"  {line}")
