"""What is typed behind a command, read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiflow_sdk.errors import ConfigurationError, ProblemsError, unknown_name

if TYPE_CHECKING:
    from aiflow_sdk.cli.command_line import Invocation
    from aiflow_sdk.discovery import Discovered, Discovery


def read_params(texts: Iterable[str]) -> dict[str, str]:
    """Return ``NAME=VALUE`` texts as a mapping; values stay text, the pipeline's defaults tell their types."""
    params: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigurationError("bad-usage", f"--param {text} is no NAME=VALUE", hint="for example --param threshold=0.5")
        params[name] = value
    return params


def only_pipeline(invocation: Invocation) -> str:
    """Return the id of the project's only pipeline. Raises ``ConfigurationError`` where there are several or none."""
    found = discover_all(invocation)
    ids = sorted(item.ir.id for item in found.pipelines)
    if len(ids) == 1:
        return ids[0]
    if not ids and found.problems:
        raise ProblemsError(found.problems)
    raise ConfigurationError(
        "no-pipeline-named",
        "name the pipeline" if ids else f"no pipeline was found in {invocation.project.root}",
        hint=f"one of: {', '.join(ids)}" if ids else "look whether this is the project's folder, or begin with: aiflow init my_project",
    )


def discover_all(invocation: Invocation) -> Discovery:
    """Return every pipeline of the project and what is wrong with the others."""
    from aiflow_sdk.discovery import discover

    return discover(invocation.project)


def find_pipeline(invocation: Invocation, pipeline: str) -> tuple[Discovered, Discovery]:
    """Return one pipeline of the project. Raises ``UnknownNameError`` with the nearest, beside what cannot be imported."""
    found = discover_all(invocation)
    for item in found.pipelines:
        if item.ir.id == pipeline:
            return item, found
    missing = unknown_name("unknown-pipeline", "pipeline", pipeline, (item.ir.id for item in found.pipelines))
    raise ProblemsError([missing, *found.problems]) if found.problems else missing
