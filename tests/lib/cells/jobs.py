"""What children of the lake's tests do; a file of its own, since a zygote's child imports it anew each time."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from aiflow_sdk.config import Environment
from cells.lake import LakeTable

PRELOADED = (
    "aiflow_sdk.connectors.onelake.sink",
    "aiflow_sdk.connectors.onelake.source",
    "aiflow_sdk.engines.python.engine",
    "aiflow_sdk.engines.python.writing",
    "cells.lake",
    "obstore.store",
)
"""Beside the harness' own: what a child of these jobs imports."""
PRELOADED_FOR_SPARK = (*PRELOADED, "aiflow_sdk.engines.spark.engine", "aiflow_sdk.engines.spark.session")


def write_at_once(table: Mapping[str, Any], writes: Sequence[Mapping[str, Any]]) -> None:
    """Make each write in a process of its own, all at the same time."""
    os.environ.update(table["session"])
    children = []
    for attempt, write in enumerate(writes, 1):
        child = os.fork()
        if child == 0:
            try:
                _table(table).write(**write, attempt=attempt)
            except BaseException:  # noqa: BLE001  # a child must not go on as its parent
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(ended):
        sys.exit(1)


def write(table: Mapping[str, Any], write: Mapping[str, Any]) -> None:
    """Make one write. With ``inside`` a Spark server of this process' own does it, and they die together."""
    os.environ.update(table["session"])
    if not table.get("inside"):
        _table(table).write(**write)
        return
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    _, port = server.listening_address or ("", 0)
    _table(table, spark=f"sc://127.0.0.1:{port}").write(**write)
    sys.stdout.flush()
    os._exit(0)  # the session is still open, and a server that has one may hang


def _table(given: Mapping[str, Any], spark: str | None = None) -> LakeTable:
    environment = Environment(name="test", lake=given["lake"], storage=given["storage"], spark=spark)
    return LakeTable(given["mode"], given["engine"], environment, given.get("options", {}))
