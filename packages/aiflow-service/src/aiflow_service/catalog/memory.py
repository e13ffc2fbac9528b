"""What a writer remembers of the catalog."""

from __future__ import annotations

from aiflow_service.database.memory import Memory
from aiflow_service.openlineage.events import Name


class CatalogMemory:
    """Ids by name, and which facts were last written. Some 100 bytes an entry: 70 MB when all is full, and however long
    the names are no more than four times as much."""

    def __init__(self) -> None:
        self.namespaces: Memory[str, int] = Memory(20_000)
        self.projects: Memory[tuple[int, str], int] = Memory(20_000)
        self.jobs: Memory[tuple[int, Name], int] = Memory(100_000)
        self.datasets: Memory[Name, int] = Memory(200_000)
        self.owners: Memory[int, int] = Memory(200_000)
        self.owned: Memory[int, bool] = Memory(200_000)
        self.columns: Memory[tuple[int, str], int] = Memory(100_000)
        self.schemas: Memory[int, tuple[int, str]] = Memory(100_000)
        self.facts: Memory[tuple[str, int, str], tuple[int, str]] = Memory(100_000)

    def all(self) -> tuple[Memory, ...]:  # type: ignore[type-arg]  # of keys of several kinds
        """Return each of them."""
        return tuple(vars(self).values())
