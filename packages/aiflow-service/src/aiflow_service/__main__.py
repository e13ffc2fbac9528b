"""``python -m aiflow_service``: the service without the SDK's command line."""

from __future__ import annotations

import sys

_INTERRUPTED = 130
"""The exit code of what Ctrl-C stopped, as of ``aiflow``."""


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end, or do what else was asked for; 0 when it was done, 1 when not, 130 stopped by Ctrl-C."""
    try:
        from aiflow_service.app.command_line import run  # takes seconds, in which somebody may press Ctrl-C

        return run(arguments)
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
