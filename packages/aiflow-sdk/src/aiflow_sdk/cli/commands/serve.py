"""``aiflow serve``: the metadata service, where its package is installed."""

from __future__ import annotations

from importlib.metadata import entry_points

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.errors import MissingExtraError


@subcommand(
    "serve",
    """aiflow serve
aiflow serve --port 9000
aiflow serve --database postgresql://aiflow@db.example:5432/aiflow""",
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="A loopback address.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), metavar="N", help="The port; 0 takes a free one (default: 8765)."
)
@click.option("--database", metavar="URL", help="SQLite or PostgreSQL (default: .aiflow/service.db of the project).")
def command(invocation: Invocation, host: str, port: int | None, database: str | None) -> None:
    """Run the metadata service until Ctrl-C.

    It takes OpenLineage events and answers for runs, jobs, datasets and lineage under /api/v1. Nobody signs in, so it
    listens on this machine's loopback alone. Its log is JSON, on standard error.
    """
    for point in entry_points(group="aiflow.services", name="metadata"):
        point.load()(
            invocation.root,
            host=host,
            port=port,
            database=database,
            on_ready=lambda address: _tell(invocation, address),
        )
        return
    raise MissingExtraError(
        "missing-extra", "the metadata service is a package of its own", hint="pip install aiflow-service"
    )


def _tell(invocation: Invocation, address: str) -> None:
    console = invocation.console
    if invocation.as_json:
        console.print_json({"address": address})
    else:
        console.print(f"metadata service at {address}, for this machine alone; its API: {address}/openapi.json")
        console.print(f"send OpenLineage events to {address}/api/v1/lineage; Ctrl-C ends it")
