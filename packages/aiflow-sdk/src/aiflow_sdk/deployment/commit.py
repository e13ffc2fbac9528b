"""Which commit of git a project's folder stands at, as the command line of git tells it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

_SECONDS = 10.0
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


class Commit(NamedTuple):
    """The commit that was checked out."""

    sha: str
    is_dirty: bool | None
    """Whether the folder holds changes that are not in it, new files included; None where git did not tell in time."""


def read_commit(folder: Path) -> Commit | None:
    """Return the commit; None where there is no git, no repository, or no commit in it yet."""
    sha = _ask(folder, "rev-parse", "--verify", "HEAD")
    if sha is None or not _COMMIT.fullmatch(sha.strip()):
        return None
    # What aiflow itself writes there is no change of the project.
    changes = _ask(
        folder, "status", "--porcelain", "--untracked-files=normal", "--", ".", ":(exclude,top,glob)**/.aiflow/**"
    )
    return Commit(sha.strip(), None if changes is None else bool(changes.strip()))


def _ask(folder: Path, *words: str) -> str | None:
    # Nothing of the repository is run, and nobody else's lock is taken: it is only looked at.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *words]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
