"""Datasets as a schedule: which ones must change before a pipeline runs."""

from __future__ import annotations

import re
from typing import Any, Literal

from aiflow_sdk.errors import DefinitionError, plural
from aiflow_sdk.ir.value import Value

_DATASET = re.compile(r"[^\W_][\w-]*\.[^\W_][\w-]*")


class DatasetCondition(Value):
    """A dataset, or several joined by and/or, whose change starts a run.

    ``dataset("raw.a") & (dataset("raw.b") | dataset("raw.c"))``. Nested conditions of one kind are flattened and
    sorted, so that one meaning has one form.
    """

    op: Literal["dataset", "all", "any"]
    name: str | None = None
    """The dataset's logical ``schema.table``; only with ``op="dataset"``."""
    items: tuple[DatasetCondition, ...] = ()

    def _settle(self) -> None:
        self.__dict__["items"] = tuple(sorted(set(self.items), key=_sort_key))
        if self.op == "dataset":
            whole = self.name is not None and _DATASET.fullmatch(self.name) is not None and not self.items
        else:
            whole = self.name is None and len(self.items) > 1 and all(item.op != self.op for item in self.items)
        if not whole:
            raise DefinitionError(
                "bad-schedule",
                f"this condition of datasets is not whole: op='{self.op}', name={self.name!r}, "
                f"{plural(len(self.items), 'item')}",
                hint='write dataset("schema.table"), joined with & and |',
            )

    def __and__(self, other: DatasetCondition) -> DatasetCondition:
        return _join("all", self, other)

    def __or__(self, other: DatasetCondition) -> DatasetCondition:
        return _join("any", self, other)

    def __bool__(self) -> bool:
        raise DefinitionError(
            "condition-as-boolean", "a dataset condition is neither true nor false", hint="join datasets with & and |"
        )

    def names(self) -> tuple[str, ...]:
        """Return the names of all datasets in the condition, sorted."""
        found = {self.name} if self.name else {name for item in self.items for name in item.names()}
        return tuple(sorted(found))


def dataset(name: str) -> DatasetCondition:
    """Return the condition that the dataset ``name`` (``schema.table``) has changed, for ``schedule=``."""
    if not isinstance(name, str) or not _DATASET.fullmatch(name.strip()):
        raise DefinitionError(
            "bad-dataset-name",
            f"{name!r} is not a dataset's name",
            hint="write 'schema.table', each of letters, digits, '_' and '-', beginning with a letter or digit",
        )
    return DatasetCondition(op="dataset", name=name.strip())


def _join(op: Literal["all", "any"], *conditions: Any) -> DatasetCondition:
    flat: list[DatasetCondition] = []
    for condition in conditions:
        if not isinstance(condition, DatasetCondition):
            raise DefinitionError(
                "bad-schedule", f"{condition!r} is not a dataset", hint='write dataset("schema.table")'
            )
        flat.extend(condition.items if condition.op == op else (condition,))
    unique = set(flat)
    return unique.pop() if len(unique) == 1 else DatasetCondition(op=op, items=tuple(unique))


def _sort_key(item: DatasetCondition) -> tuple[str, str, str]:
    return item.op, item.name or "", repr(item)
