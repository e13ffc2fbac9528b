"""What partitions have in common, as they are told: ``column=value`` or a bare value, each a folder within the last."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator


def parts_of(partition: str) -> set[str]:
    """Return all that may be said of a partition that was written: itself, each of its folders, those it lies in."""
    return {partition, *partition.split("/"), *folders_above(partition)}


def folders_above(partition: str) -> Iterator[str]:
    """Yield the partitions that one of several folders lies in."""
    folders = partition.split("/")
    return ("/".join(folders[:count]) for count in range(1, len(folders)))


class PartSet:
    """Partitions that are written."""

    def __init__(self) -> None:
        self._parts: set[str] = set()
        self._whole: set[str] = set()

    def update(self, partitions: Iterable[str]) -> None:
        """Take in partitions."""
        for partition in partitions:
            self._parts |= parts_of(partition)
            self._whole.add(partition)

    def touches(self, read: str) -> bool:
        """Tell whether any of what was read is among them."""
        return read in self._parts or not self._whole.isdisjoint(folders_above(read))


def moved(partition: str, key: str, to: str) -> str:
    """Return the partition that a write for ``key`` made as a write for ``to`` would make it.

    Digit stands for digit, however the time is written: ``2026/11/20``, ``d=20261120``. What does not hold the key
    stays as it is.
    """
    digits, others = re.findall(r"\d", key), re.findall(r"\d", to)
    if not digits or len(digits) != len(others):  # of an hour that the clocks show twice the key says more
        return partition.replace(f"={key}", f"={to}")
    written = re.compile(r"(?<![^=/])" + r"(\D*?)".join(digits))
    return written.sub(lambda found: "".join(map("".join, zip(others, (*found.groups(), ""), strict=True))), partition)
