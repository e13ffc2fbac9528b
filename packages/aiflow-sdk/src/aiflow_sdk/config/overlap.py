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
    mine, theirs = Path(one.path), Path(other.path)
    if any(_is_same(mine, path) for path in (theirs, *theirs.parents)):
        return True
    if any(_is_same(theirs, path) for path in mine.parents):
        return True
    mounts = _mounts()
    return any(
        a.is_relative_to(b) or b.is_relative_to(a)
        for disk, a in _on_disks(mine, mounts)
        for other_disk, b in _on_disks(theirs, mounts)
        if disk == other_disk
    )


def mounted_below(folder: Path) -> list[Path]:
    """Return what is mounted right at or below a folder of which all links are resolved."""
    return sorted(point for point, _, _ in _mounts() if point.is_relative_to(folder) and point != folder)


def _folded(address: Address) -> Address:
    host, path = (unicodedata.normalize("NFC", text).casefold() for text in (address.host, address.path))
    return Address(address.kind, host, path, address.domain)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _on_disks(path: Path, mounts: list[tuple[Path, str, Path]]) -> list[tuple[str, Path]]:
    """Return where on its disk a path lies; what is mounted over another's folder hides that."""
    around = [mount for mount in mounts if path.is_relative_to(mount[0])]
    if not around:
        return []
    point, disk, inside = max(around, key=lambda mount: len(mount[0].parts))
    return [(disk, inside / path.relative_to(point))]


def _mounts() -> list[tuple[Path, str, Path]]:
    """Return mount point, disk, and the folder of the disk that is mounted there ("/proc/PID/mountinfo" of Linux)."""
    try:
        lines = _MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        fields = [_ESCAPED.sub(lambda code: chr(int(code[1], 8)), field) for field in line.split(" ")[:5]]
        if len(fields) == 5:
            found.append((Path(fields[4]), fields[2], Path(fields[3])))
    return found
