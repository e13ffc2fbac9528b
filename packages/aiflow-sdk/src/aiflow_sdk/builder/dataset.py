"""A dataset as a pipeline function holds it: a name for rows that will be, not the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from aiflow_sdk.errors import VariableUseError
from aiflow_sdk.place import caller

if TYPE_CHECKING:
    from aiflow_sdk.builder.draft import Draft
    from aiflow_sdk.variables import Variable


class Declaring(Protocol):
    """What a dataset needs of the builder that it belongs to, a :class:`PipelineBuilder`."""

    _draft: Draft

    def transform(self, *inputs: Dataset, **settings: Any) -> Dataset:
        """Declare a transform of the inputs."""

    def sql(self, query: str, *inputs: Dataset, **settings: Any) -> Dataset:
        """Declare a query over the inputs."""


class Dataset:
    """What ``p.read`` and ``.transform`` return: it can be transformed and written, and has no rows to look at."""

    __slots__ = ("builder", "node_id")

    def __init__(self, builder: Declaring, node_id: str) -> None:
        self.builder = builder
        self.node_id = node_id

    def transform(
        self,
        id: str | None = None,
        engine: str | None = None,
        entrypoint: str | Callable[..., Any] | None = None,
        fn: str | Callable[..., Any] | None = None,
        resources: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        retries: int | None = None,
        retry_delay_minutes: float | None = None,
        retry_backoff: float | None = None,
        timeout_minutes: float | None = None,
        fuse: bool | None = None,
        external: bool | None = None,
        output_table: str | Variable | None = None,
        output_path: str | Variable | None = None,
        output_format: str | None = None,
        output_schema: Mapping[str, str] | None = None,
        **more_params: Any,
    ) -> Dataset:
        """Declare a transform of this dataset; see :meth:`PipelineBuilder.transform`."""
        return self.builder.transform(
            self, id=id, engine=engine, entrypoint=entrypoint, fn=fn, resources=resources, params=params,
            retries=retries, retry_delay_minutes=retry_delay_minutes, retry_backoff=retry_backoff,
            timeout_minutes=timeout_minutes, fuse=fuse, external=external, output_table=output_table,
            output_path=output_path, output_format=output_format, output_schema=output_schema, **more_params,
        )  # fmt: skip

    def sql(
        self,
        query: str,
        id: str | None = None,
        engine: str | None = None,
        resources: Mapping[str, Any] | None = None,
        *,
        retries: int | None = None,
        retry_delay_minutes: float | None = None,
        retry_backoff: float | None = None,
        timeout_minutes: float | None = None,
        fuse: bool | None = None,
        output_schema: Mapping[str, str] | None = None,
        **named: Dataset,
    ) -> Dataset:
        """Declare a query over this dataset, ``{name}`` in it; see :meth:`PipelineBuilder.sql`."""
        return self.builder.sql(
            query, self, id=id, engine=engine, resources=resources, retries=retries,
            retry_delay_minutes=retry_delay_minutes, retry_backoff=retry_backoff, timeout_minutes=timeout_minutes,
            fuse=fuse, output_schema=output_schema, **named,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<dataset '{self.node_id}'>"

    def _refuse(self, *_: object) -> NoReturn:
        raise VariableUseError(
            "dataset-at-build-time",
            f"the rows of '{self.node_id}' are known only at run time, and were asked for while the pipeline is built",
            where=caller(),
            hint="put what looks at rows into a transform's function",
        )

    __bool__ = __len__ = __iter__ = __getitem__ = __contains__ = _refuse
