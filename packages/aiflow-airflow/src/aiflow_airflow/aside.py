"""Processes that a task starts and that go on without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

LEFT: list[subprocess.Popen[bytes]] = []
"""Those that were started here: while they are known, Python does not complain of them."""
