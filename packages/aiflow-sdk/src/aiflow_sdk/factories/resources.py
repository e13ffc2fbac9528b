"""``resources.ENGINE(…)``: what a transform may use, and on which cluster it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.place import caller

if TYPE_CHECKING:
    from aiflow_sdk.ir import FrozenMap


class Resources:
    """``resources.spark(…)`` and its like give frozen data for ``resources=``; what is not said the engine decides.

    Any engine has its own: ``resources.NAME(cluster=…, …)`` of an installed engine works without being listed here.
    """

    def spark(
        self,
        cluster: str | None = None,
        driver_memory: str | None = None,
        executor_memory: str | None = None,
        executor_cores: int | None = None,
        **extra: Any,
    ) -> FrozenMap:
        """Return what a transform on Spark gets. Memory as Spark writes it: ``4g``, ``512m``."""
        return _resources(
            "spark",
            cluster=cluster,
            driver_memory=driver_memory,
            executor_memory=executor_memory,
            executor_cores=executor_cores,
            **extra,
        )

    def python(
        self,
        request_cpu: str | float | None = None,
        request_memory: str | None = None,
        cluster: str | None = None,
        **extra: Any,
    ) -> FrozenMap:
        """Return what a transform in Python gets, as Kubernetes writes it: ``500m`` of a CPU, ``1Gi`` of memory."""
        return _resources("python", cluster=cluster, request_cpu=request_cpu, request_memory=request_memory, **extra)

    def flink(
        self,
        cluster: str | None = None,
        parallelism: int | None = None,
        task_manager_memory: str | None = None,
        **extra: Any,
    ) -> FrozenMap:
        """Return what a transform on Flink gets."""
        return _resources(
            "flink", cluster=cluster, parallelism=parallelism, task_manager_memory=task_manager_memory, **extra
        )

    def __getattr__(self, engine: str) -> Callable[..., FrozenMap]:
        if engine.startswith("_"):
            raise AttributeError(engine)

        def other(cluster: str | None = None, **options: Any) -> FrozenMap:
            return _resources(engine, cluster=cluster, **options)

        return other

    def __repr__(self) -> str:
        return "resources"


def _resources(engine: str, **options: Any) -> FrozenMap:
    # Imported here, so that importing what authors write costs next to nothing.
    from aiflow_sdk.ir import FrozenMap
    from aiflow_sdk.variables import canonicalise

    try:
        return FrozenMap(canonicalise({"engine": engine, **{k: v for k, v in options.items() if v is not None}}))
    except AiflowError as error:
        raise error.at(caller()) from None


resources = Resources()
