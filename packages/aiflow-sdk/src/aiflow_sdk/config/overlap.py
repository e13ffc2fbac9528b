"""Whether two addresses are one place, or one lies in the other: by spelling, by links, and by mounts."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from aiflow_sdk.config.address import Address

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def overlap(one: Address, other: Address) -> bool:
    """Whether one of two places contains the other, as far as this machine can tell.

    Names that differ only in case or in their unicode form count as one: some stores and file systems take them so.
    """
    if one.overlaps(other) or _folded(one).overlaps(_folded(other)):
        return True
    if not (one.is_folder and other.is_folder):
        return False
    mine, theirs = _identities(one.path), _identities(other.path)
    if mine[0] in theirs[1:] or theirs[0] in mine[1:] or (mine[0] is not None and mine[0] == theirs[0]):
        return True
    mounts = _mounts()
    here, there = _on_disk(one.path, mounts), _on_disk(other.path, mounts)
    return (
        here is not None
        and there is not None
        and here[0] == there[0]
        and (_is_below(here[1], there[1]) or _is_below(there[1], here[1]))
    )


def mounted_below(folder: str) -> list[str]:
    """Return what is mounted below a folder of which all links are resolved."""
    return sorted(point for point, _, _ in _mounts() if point != folder and _is_below(point, folder))


def _folded(address: Address) -> Address:
    host, path = (unicodedata.normalize("NFC", text).casefold() for text in (address.host, address.path))
    return Address(address.kind, host, path, address.domain)


def _identities(path: str) -> list[tuple[int, int] | None]:
    """Return device and inode of a path (None where nothing is) and of the folders above it that are there."""
    found: list[tuple[int, int] | None] = []
    for one in (path, *map(str, Path(path).parents)):
        try:
            status = os.stat(one)
            found.append((status.st_dev, status.st_ino))
        except OSError:
            found.append(None)
    return [found[0], *(one for one in found[1:] if one is not None)]


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _on_disk(path: str, mounts: list[tuple[str, str, str]]) -> tuple[str, str] | None:
    """Return the disk that a path lies on, and where on it; what is mounted over another's folder hides that."""
    around = [mount for mount in mounts if _is_below(path, mount[0])]
    if not around:
        return None
    point, disk, inside = max(around, key=lambda mount: len(mount[0]))
    return disk, os.path.normpath(f"{inside}/{path[len(point.rstrip('/')) :]}")


def _mounts() -> list[tuple[str, str, str]]:
    """Return mount point, disk, and the folder of the disk that is mounted there ("/proc/PID/mountinfo" of Linux)."""
    try:
        lines = _MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        fields = line.split(" ", 5)
        if len(fields) == 6:
            inside, point = (_ESCAPED.sub(lambda code: chr(int(code[1], 8)), field) for field in fields[3:5])
            found.append((point, fields[2], inside))
    return found
