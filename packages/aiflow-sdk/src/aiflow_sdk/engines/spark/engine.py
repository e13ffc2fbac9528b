"""The engine ``spark``: its options, and sessions for tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import Field, PositiveInt

from aiflow_sdk.config import resolve_secrets
from aiflow_sdk.engines.spark.connection import REMOVAL, connected
from aiflow_sdk.engines.spark.embedded import stop_servers as stop_embedded
from aiflow_sdk.engines.spark.session import SparkTaskSession
from aiflow_sdk.plan import PlanTask, Run
from aiflow_sdk.plugins import Engine
from aiflow_sdk.stores import server_variables


class SparkEngine(Engine, kind="spark"):
    """PySpark frames through Spark Connect.

    The server is the environment's (``spark = "sc://host:port"``) or, where it names none, an embedded one (Sail: no
    JVM, this machine alone) that the tasks of a run share. Neither can be given memory or cores by a client: the three
    sizes are for clusters that start a Spark of its own for a task; Sail ignores them and takes what it needs.

    A session's clock is UTC's. SQL is Spark's.
    """

    sql_dialect: ClassVar[str | None] = "spark"
    extras: ClassVar[tuple[str, ...]] = ("spark",)
    package: ClassVar[str | None] = "pyspark-client"
    drivers: ClassVar[tuple[str, ...]] = ("pyspark.sql.connect.session",)

    driver_memory: str = Field(default="2g", pattern=r"^\d+[kmgtKMGT]?[bB]?$")
    """Memory of the driver, as Spark writes it: ``2g``."""
    executor_memory: str = Field(default="4g", pattern=r"^\d+[kmgtKMGT]?[bB]?$")
    """Memory of each executor."""
    executor_cores: PositiveInt = 2
    """Tasks that an executor runs at once."""
    conf: Mapping[str, str] = Field(default_factory=dict)
    """Settings of the Spark session, such as ``{"spark.sql.shuffle.partitions": "8"}``."""
    extra: Mapping[str, Any] = Field(default_factory=dict)
    """Whatever else a cluster understands; the engine ignores it."""

    @staticmethod
    def stop_servers(session_dir: str) -> None:
        """Stop the embedded servers of a session folder and wait until they are gone."""
        stop_embedded(session_dir)

    @contextmanager
    def open(self, task: PlanTask, run: Run) -> Iterator[SparkTaskSession]:
        """Return a session for one attempt of a task, to be used in the thread that opened it.

        Leaving it by an exception interrupts what Spark still does for it.
        """
        with connected(self.environment.spark, self.conf, self._variables(), removal=self._removal()) as connection:
            session = SparkTaskSession(connection.spark, connection.server, label=f"aiflow {run.run_id} {task.id}")
            with session:
                yield session

    def _removal(self) -> str:
        """Return what to type so that the environment names no Spark, wherever it has it from."""
        for item in self.environment.handed_out:
            if item.name == "spark" and item.environment == self.environment.name:
                where = f"the metadata service hands it out, version {item.version} of the team '{item.team}'"
                return f"aiflow variable remove spark --env {item.environment} --team {item.team} ({where})"
        return REMOVAL

    def _variables(self) -> dict[str, str]:
        """Return how an embedded server opens the lake's store; another one was told by whoever runs it."""
        if self.environment.spark is not None:
            return {}
        lake = self.environment.lake_root
        return server_variables(lake.address, resolve_secrets(dict(lake.storage), self.environment))
