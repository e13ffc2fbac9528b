"""``aiflow serve``: the metadata service, where its package is installed."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.errors import AiflowError, MissingExtraError

if TYPE_CHECKING:
    from aiflow_sdk.local.following import Follower

_FOLLOWER = "aiflow-serve"
"""What the listener is called that hears of a folder's runs; its places in the spools bear the name."""


@subcommand(
    "serve",
    """aiflow serve
aiflow serve --port 9000
aiflow serve --database postgresql://aiflow@db.example:5432/aiflow
aiflow serve --settings service.toml --host 0.0.0.0""",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="HOST", help="A loopback address, unless people sign in."
)
@click.option(
    "--port", type=click.IntRange(0, 65_535), metavar="N", help="The port; 0 takes a free one (default: 8765)."
)
@click.option("--database", metavar="URL", help="SQLite or PostgreSQL (default: .aiflow/service.db of the project).")
@click.option(
    "--settings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A TOML file with [sign_in], how people sign in, and [retention], how long things are kept.",
)
def command(invocation: Invocation, host: str, port: int | None, database: str | None, settings: Path | None) -> None:
    """Run the metadata service until Ctrl-C.

    It takes OpenLineage events and answers for runs, jobs, datasets and lineage under /api/v1. Without --settings
    nobody signs in: it listens on this machine's loopback alone, whoever is there sees all, and it hears of this
    folder's runs by itself, past ones and those to come. Its log is JSON, on standard error.
    """
    following: list[Follower] = []

    def begin(address: str, is_local: bool) -> None:
        _tell(invocation, address, is_local=is_local)
        if is_local:
            following.append(_follow(invocation.root, address))

    for point in entry_points(group="aiflow.services", name="metadata"):
        try:
            point.load()(invocation.root, host=host, port=port, database=database, settings=settings, on_ready=begin)
        finally:
            for one in following:
                one.stop()
        return
    raise MissingExtraError(
        "missing-extra", "the metadata service is a package of its own", hint="pip install aiflow-service"
    )


def _follow(root: Path, address: str) -> Follower:
    from aiflow_sdk.local.following import Follower
    from aiflow_sdk.plugins import installed_registry

    listener = installed_registry().listeners.get("openlineage").load({"url": address})
    follower = Follower(root, listener, _FOLLOWER)
    follower.start()
    return follower


def _tell(invocation: Invocation, address: str, *, is_local: bool) -> None:
    console = invocation.console
    if invocation.as_json:
        console.print_json({"address": address})
    else:
        whom = "for this machine alone, where nobody signs in" if is_local else "for whoever signs in"
        console.print(f"metadata service at {address}, {whom}; its API: {address}/openapi.json")
        if unnamed := _unnamed_in(invocation):
            console.print(
                f'to ask it: service = "{address}" under [environments.{unnamed}] of aiflow.toml, then '
                "aiflow lineage TABLE · aiflow status TABLE · aiflow cost --by team"
            )
        console.print(f"send OpenLineage events to {address}/api/v1/lineage; Ctrl-C ends it")


def _unnamed_in(invocation: Invocation) -> str | None:
    """Return the environment that is meant where the project is one and its environment names no service."""
    try:
        environment = invocation.environment
    except AiflowError:
        return None  # the service serves all the same
    return None if environment.service or invocation.project.config_path is None else environment.name
