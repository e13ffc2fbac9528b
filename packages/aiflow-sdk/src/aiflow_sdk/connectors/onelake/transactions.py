"""All that a table's log notes for applications, from one reading: each question to delta-rs reads the log anew."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from aiflow_sdk.connectors.onelake.location import LOG_FOLDER, TablePlace

_CHECKPOINT = re.compile(r"[0-9]{20}\.checkpoint\.(?P<rest>.+)")


def read_transactions(place: TablePlace, version: int) -> Mapping[str, int] | None:
    """Return application → number as of a version; None where a question to delta-rs is the better way.

    That is so in an object store, where one thing after the other is waited for; for a checkpoint of several parts, or
    of the second kind; without polars, which would take longer to load; and where the log is not as it should be,
    which delta-rs then tells. None of them expires here: of a table that lets them, delta-rs is asked. Formats:
    "Transaction Identifiers", "Checkpoints" of the Delta protocol.
    """
    if place.folder is None:
        return None
    log = place.folder / LOG_FOLDER
    try:
        summed_up = _summed_up(log, version)
        if summed_up is None:
            return None
        noted = _of_checkpoint(log, summed_up) if summed_up >= 0 else {}
        if noted is None:
            return None
        for number in range(summed_up + 1, version + 1):
            _add_commit(noted, (log / f"{number:020}.json").read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a file is gone, or is no such file
        return None
    return noted


def _summed_up(log: Path, version: int) -> int | None:
    """Return the version of the newest checkpoint up to this version, -1 without one; None if it is of another form."""
    forms: dict[int, set[str]] = {}
    for name in os.listdir(log):  # names alone: a log may be long, and each append asks
        if (found := _CHECKPOINT.fullmatch(name)) and int(name[:20]) <= version:
            forms.setdefault(int(name[:20]), set()).add(found["rest"])
    newest = max(forms, default=-1)
    return newest if newest < 0 or forms[newest] == {"parquet"} else None


def _of_checkpoint(log: Path, version: int) -> dict[str, int] | None:
    if (pl := sys.modules.get("polars")) is None:
        return None
    try:
        checkpoint = log / f"{version:020}.checkpoint.parquet"
        read = pl.read_parquet(checkpoint, columns=["txn"], glob=False, hive_partitioning=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):  # of a file that is damaged either may come
        return None
    told = read["txn"].drop_nulls().struct
    return dict(zip(told.field("appId").to_list(), told.field("version").to_list(), strict=True))


def _add_commit(noted: dict[str, int], commit: bytes) -> None:
    if b'"txn"' not in commit:
        return
    for line in commit.splitlines():
        if b'"txn"' in line and (one := json.loads(line).get("txn")) is not None:
            noted[one["appId"]] = int(one["version"])
