"""A decorated pipeline function: what it means, what it looks like, and its runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiflow_sdk.errors import AiflowError

if TYPE_CHECKING:
    from datetime import date as Date
    from pathlib import Path

    from aiflow_sdk.builder import Built, PipelineBuilder
    from aiflow_sdk.ir import PipelineIR
    from aiflow_sdk.local import RunSummary


class PipelineDefinition:
    """What ``@pipeline(…)`` makes of a function. Called without arguments it returns the :class:`PipelineIR`.

    Discovery knows it by the attribute ``_pipeline_id``.
    """

    __name__: str

    def __init__(
        self, function: Callable[[PipelineBuilder], Any], settings: Mapping[str, Any], extra: Mapping[str, Any]
    ) -> None:
        functools.update_wrapper(self, function)
        self._pipeline_id: str = settings["id"]
        self._pipeline_fn = function
        self._settings = settings
        self._extra = extra

    def __call__(self) -> PipelineIR:
        """Return what the pipeline means, built anew. Raises ``DefinitionError`` or ``ProblemsError``."""
        return self.build().ir

    def build(self) -> Built:
        """Return the same, with the place of each node and the functions that exist only in this process."""
        # Imported here, so that importing a pipeline's module costs next to nothing.
        from aiflow_sdk.builder import build_pipeline

        return build_pipeline(self._pipeline_fn, self._settings, self._extra)

    @property
    def ir(self) -> PipelineIR:
        """What the pipeline means, built anew."""
        return self()

    def run(
        self,
        date: str | Date | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        env: str | None = None,
        root: str | Path | None = None,
    ) -> RunSummary:
        """Run the pipeline here and wait for it, as ``aiflow run`` does.

        ``date`` names the partition, ``env`` the environment of ``aiflow.toml`` (``dev``), ``root`` the project's
        folder (the nearest one with ``aiflow.toml``, else this one). A run that fails is returned, not raised.
        """
        from aiflow_sdk.local import run_definition

        return run_definition(self, date=date, params=params, environment=env, root=root)

    def to_mermaid(self) -> str:
        """Return the graph as Mermaid text."""
        from aiflow_sdk.graph import draw_mermaid

        return draw_mermaid(self())

    def to_svg(self) -> str:
        """Return the graph as an SVG picture."""
        from aiflow_sdk.graph import draw_svg

        return draw_svg(self())

    def __str__(self) -> str:
        from aiflow_sdk.graph import draw_text

        return draw_text(self())

    def __repr__(self) -> str:
        try:
            return str(self)
        except AiflowError as error:  # a repr that raises hides what one wants to see
            return f"<pipeline '{self._pipeline_id}': {error}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what a notebook shows; of a pipeline that cannot be built, why."""
        from aiflow_sdk.graph import draw_html

        try:
            return {"text/plain": str(self), "text/html": draw_html(self())}
        except AiflowError:
            return {"text/plain": repr(self)}
