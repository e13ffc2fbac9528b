"""A module whose import does not come to its end: where it stood, and the error that says so."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from aiflow_sdk.errors import DiscoveryError, Where, plural

_TRACED = re.compile(r'File "(.+)", line (\d+)')


def traced_place(trace: str, root: Path) -> Where | None:
    """Return the innermost line of the project in what ``faulthandler`` wrote, its path relative to the project."""
    # faulthandler writes what is not ASCII with backslashes.
    folder = str(root).encode("ascii", "backslashreplace").decode() + os.sep
    for name, line in _TRACED.findall(trace):
        if name.startswith(folder) and f"{os.sep}site-packages{os.sep}" not in name:
            path = name[len(folder) :].encode("ascii").decode("unicode_escape")
            return Where(path.replace(os.sep, "/"), int(line))
    return None


def module_timeout(name: str, seconds: float, where: Where) -> DiscoveryError:
    """Return the error of a module that was ended because it took too long."""
    return DiscoveryError(
        "module-timeout",
        f"module '{name}' was not imported and built within {plural(seconds, 'second')}",
        where=where,
        hint="move the work into the function that runs, or raise discovery_timeout_seconds in aiflow.toml",
    )


def module_crashed(name: str, status: int, where: Where, output: Sequence[str]) -> DiscoveryError:
    """Return the error of a module that ended its process; ``status`` is negative where a signal did."""
    how = f"with signal {signal.Signals(-status).name}" if status < 0 else f"with exit code {status}"
    return DiscoveryError(
        "module-crashed",
        f"module '{name}' ended the process that imported it, {how}",
        where=where,
        hint="os._exit and faults in compiled libraries end a process; move what does it into the function",
        notes=output,
    )
