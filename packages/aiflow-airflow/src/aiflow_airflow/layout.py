"""Which of the files that Airflow parses shows which DAG.

A shard is one file; one of more than ``MOST`` DAGs is eight, one of eight times as many 64: Airflow writes all DAGs of
a file again when one of them has changed, some 15 ms each. Where a shard divides, an eighth of its DAGs stays in the
file where it was, and Airflow, for which a DAG's file is part of it, gives the others a new version once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from aiflow_sdk.bundles import SHARDS, Entry, shard_of

MOST = 64
"""So many DAGs of a shard stand in one file, for ever: another number would move DAGs."""

_PARTS = 8
_DEEPEST = 3


def depth_of(count: int) -> int:
    """Return how often a shard of so many DAGs is divided by eight: 0 to 3."""
    return next((depth for depth in range(_DEEPEST) if count <= MOST * _PARTS**depth), _DEEPEST)


def file_of(dag_id: str, depth: int) -> str:
    """Return the name of the file that shows a DAG where its shard is divided so often."""
    digits = _digits_of(dag_id)[:depth].rstrip("0")  # the first part keeps the file that was divided
    return f"aiflow_{shard_of(dag_id)}{digits and '_'}{digits}.py"


def files_of(dag_id: str) -> tuple[str, ...]:
    """Return the names of all files that may show a DAG, however many come to its shard."""
    return tuple(dict.fromkeys(file_of(dag_id, depth) for depth in range(_DEEPEST + 1)))


def undivided() -> tuple[str, ...]:
    """Return the names of the files where no shard is divided."""
    return tuple(f"aiflow_{number:02x}.py" for number in range(SHARDS))


def shard_in(name: str) -> str:
    """Return the shard that a file is of."""
    return name.removesuffix(".py").split("_")[1]


def divide(entries: Mapping[str, Entry], depth: int) -> dict[str, dict[str, Entry]]:
    """Return what the files of a shard show that is divided so often: file → DAG id → entry."""
    files: dict[str, dict[str, Entry]] = {}
    for dag_id, entry in entries.items():
        files.setdefault(file_of(dag_id, depth), {})[dag_id] = entry
    return files


def shown_in(name: str, dag_ids: Iterable[str], depth: int | None) -> set[str]:
    """Return those DAGs of its shard that a file shows; ``depth`` None: all that it may show at any depth."""
    if depth is None:
        return {dag_id for dag_id in dag_ids if name in files_of(dag_id)}
    return {dag_id for dag_id in dag_ids if file_of(dag_id, depth) == name}


def _digits_of(dag_id: str) -> str:
    """Return three octal digits of the DAG's hash that its shard does not stand for."""
    return f"{int.from_bytes(hashlib.sha256(dag_id.encode()).digest()[1:3]) % _PARTS**_DEEPEST:03o}"
