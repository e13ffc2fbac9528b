"""All that a table's log notes for applications, from one reading: each question to delta-rs reads the log anew."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping

from aiflow_sdk.connectors.onelake.location import LOG_FOLDER, TablePlace
from aiflow_sdk.errors import AiflowError

_CHECKPOINT = re.compile(r"[0-9]{20}\.checkpoint\.(?P<rest>.+)")


def read_transactions(place: TablePlace, version: int, *, at_any_price: bool = False) -> Mapping[str, int] | None:
    """Return application → number as of a version; None where a question to delta-rs is the better way.

    That is so in an object store, where one thing after the other is waited for, and without polars, which would take
    longer to load, unless ``at_any_price``; for a checkpoint of several parts, or of the second kind; and where the
    log is not as it should be, which delta-rs then tells. None of them expires here: of a table that lets them,
    delta-rs is asked. Formats: "Transaction Identifiers", "Checkpoints" of the Delta protocol.
    """
    if not at_any_price and (place.folder is None or "polars" not in sys.modules):
        return None
    try:
        summed_up = _summed_up(_names(place), version)
        if summed_up is None:
            return None
        noted = _of_checkpoint(place, summed_up) if summed_up >= 0 else {}
        if noted is None:
            return None
        for number in range(summed_up + 1, version + 1):
            _add_commit(noted, _commit(place, f"{LOG_FOLDER}/{number:020}.json"))
    except (AiflowError, OSError, ValueError, KeyError, TypeError, AttributeError):  # it is no such file, or not there
        return None
    return noted


def _names(place: TablePlace) -> Iterable[str]:
    if place.folder is None:
        return [key.rpartition("/")[2] for key in place.store.list(LOG_FOLDER)]
    return os.listdir(place.folder / LOG_FOLDER)  # names alone: a log may be long, and each append asks


def _summed_up(names: Iterable[str], version: int) -> int | None:
    """Return the version of the newest checkpoint up to this version, -1 without one; None if it is of another form."""
    forms: dict[int, set[str]] = {}
    for name in names:
        if (found := _CHECKPOINT.fullmatch(name)) and int(name[:20]) <= version:
            forms.setdefault(int(name[:20]), set()).add(found["rest"])
    newest = max(forms, default=-1)
    return newest if newest < 0 or forms[newest] == {"parquet"} else None


def _of_checkpoint(place: TablePlace, version: int) -> dict[str, int] | None:
    import polars as pl

    checkpoint = place.file(f"{LOG_FOLDER}/{version:020}.checkpoint.parquet")
    options = place.options or None
    try:
        read = pl.read_parquet(
            checkpoint, columns=["txn"], glob=False, hive_partitioning=False, storage_options=options
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):  # of a file that is damaged either may come
        return None
    told = read["txn"].drop_nulls().struct
    return dict(zip(told.field("appId").to_list(), told.field("version").to_list(), strict=True))


def _commit(place: TablePlace, key: str) -> bytes:
    if place.folder is not None:
        return (place.folder / key).read_bytes()
    if (data := place.store.read(key)) is None:
        raise FileNotFoundError(key)
    return data


def _add_commit(noted: dict[str, int], commit: bytes) -> None:
    if b'"txn"' not in commit:
        return
    for line in commit.splitlines():
        if b'"txn"' in line and (one := json.loads(line).get("txn")) is not None:
            noted[one["appId"]] = int(one["version"])
