"""A dataset as a pipeline function holds it: a name for rows that will be, not the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from aiflow_sdk.errors import VariableUseError
from aiflow_sdk.factories import caller

if TYPE_CHECKING:
    from aiflow_sdk.builder.pipeline import PipelineBuilder


class Dataset:
    """What ``p.read`` and ``.transform`` return: it can be transformed and written, and has no rows to look at."""

    __slots__ = ("builder", "node_id")

    def __init__(self, builder: PipelineBuilder, node_id: str) -> None:
        self.builder = builder
        self.node_id = node_id

    def transform(
        self,
        id: str | None = None,
        engine: str | None = None,
        entrypoint: str | Callable[..., Any] | None = None,
        fn: str | Callable[..., Any] | None = None,
        resources: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Dataset:
        """Declare a transform of this dataset; see :meth:`PipelineBuilder.transform`."""
        return self.builder.transform(
            self, id=id, engine=engine, entrypoint=entrypoint, fn=fn, resources=resources, **options
        )

    def sql(self, query: str, id: str | None = None, **options: Any) -> Dataset:
        """Declare a query over this dataset, ``{name}`` in it; see :meth:`PipelineBuilder.sql`."""
        return self.builder.sql(query, self, id=id, **options)

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
