"""What of a release people are shown, and what of it is data."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from aiflow_sdk.cli.console import printable

if TYPE_CHECKING:
    from aiflow_sdk.bundles import Release

_SHORT = 12


def short_version(version: str) -> str:
    """Return the beginning of a version, as people are shown it."""
    return version.rpartition(":")[2][:_SHORT]


def moment_of(release: Release) -> str:
    """Return when a release was made, in local time."""
    return datetime.fromisoformat(release.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def release_data(release: Release) -> dict[str, Any]:
    """Return a release as JSON-ready data."""
    return {
        "number": release.number,
        "version": release.version,
        "project": release.project,
        "project_version": release.project_version,
        "action": release.action,
        "by": release.by,
        "at": release.at,
        "message": release.note.message or None,
        "commit": release.note.commit or None,
        "dirty": release.note.is_dirty,
    }


def note_words(message: str | None, commit: str | None, is_dirty: bool | None) -> str:
    """Return which commit a release was and what was said of it, for people; empty where nobody knows."""
    dirty = " with changes" if is_dirty else ""
    parts = [f"commit {commit[:_SHORT]}{dirty}" if commit else "", f"“{printable(message)}”" if message else ""]
    return "  ".join(filter(None, parts))
