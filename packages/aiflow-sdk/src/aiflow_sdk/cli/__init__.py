"""The command line ``aiflow``. Importing it needs click alone; whatever a command needs, it imports itself."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``aiflow`` with these arguments (default: those of the process) and return its exit code."""
    from aiflow_sdk.cli.command_line import main as run_command_line

    return run_command_line(arguments)


__all__ = ["main"]
