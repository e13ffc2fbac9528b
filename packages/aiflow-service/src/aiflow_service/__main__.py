"""``python -m aiflow_service``: the service without the SDK's command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aiflow_sdk.errors import AiflowError
from aiflow_service.app import Settings, serve
from aiflow_service.app.settings import DEFAULT_PORT, default_database


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end; 0 when it was, 1 when it could not begin."""
    parser = argparse.ArgumentParser(prog="python -m aiflow_service", description="The metadata service of aiflow.")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one (default %(default)s)")
    parser.add_argument(
        "--database", help="sqlite:///FILE or postgresql://… (default .aiflow/service.db in this folder)"
    )
    parser.add_argument(
        "--audit-checkpoints",
        metavar="ADDRESS",
        help="where they are kept (default audit-checkpoints beside the database)",
    )
    parser.add_argument(
        "--audit-key", metavar="FILE", type=Path, help="what signs them (default audit.key beside the database)"
    )
    parser.add_argument("--prices", metavar="FILE", type=Path, help="what processors and memory cost, as TOML")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    given = parser.parse_args(arguments)
    settings = Settings(
        given.database or default_database(Path()),
        given.host,
        given.port,
        given.log_level,
        audit_checkpoints=given.audit_checkpoints,
        audit_key=given.audit_key,
        prices=given.prices,
    )
    try:
        serve(settings, lambda address: print(f"aiflow service: {address}", flush=True))
    except AiflowError as error:
        print(f"error[{error.code}]: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
