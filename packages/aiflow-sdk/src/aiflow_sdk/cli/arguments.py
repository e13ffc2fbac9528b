"""What is typed behind a command, read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiflow_sdk.errors import ConfigurationError, ProblemsError

if TYPE_CHECKING:
    from aiflow_sdk.cli.command_line import Invocation
    from aiflow_sdk.config import Environment
    from aiflow_sdk.discovery import Discovered, Discovery
    from aiflow_sdk.plan import Plan
    from aiflow_sdk.plugins import Registry


def read_params(texts: Iterable[str]) -> dict[str, str]:
    """Return ``NAME=VALUE`` texts as a mapping; values stay text, the pipeline's defaults tell their types."""
    params: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigurationError(
                "bad-usage", f"--param {text} is no NAME=VALUE", hint="for example --param threshold=0.5"
            )
        params[name] = value
    return params


def only_pipeline(invocation: Invocation) -> str:
    """Return the id of the project's only pipeline. Raises ``ConfigurationError`` where there are several or none."""
    return _only_id(invocation, discover_all(invocation))


def _only_id(invocation: Invocation, found: Discovery) -> str:
    ids = sorted(item.id for item in found.pipelines)
    if len(ids) == 1:
        return ids[0]
    if not ids and found.problems:
        raise ProblemsError(found.problems)
    raise ConfigurationError(
        "no-pipeline-named",
        "name the pipeline" if ids else f"no pipeline was found in {invocation.project.root}",
        hint=f"one of: {', '.join(ids)}"
        if ids
        else "look whether this is the project's folder, or begin with: aiflow init my_project",
    )


def discover_all(invocation: Invocation) -> Discovery:
    """Return every pipeline of the project and what is wrong with the others."""
    from aiflow_sdk.discovery import discover

    return discover(invocation.project)


def find_pipeline(invocation: Invocation, pipeline: str | None) -> tuple[Discovered, Discovery]:
    """Return one pipeline of the project: that of the id, else the only one. Raises ``UnknownNameError``."""
    found = discover_all(invocation)
    return found.pipeline(pipeline or _only_id(invocation, found)), found


def compile_found(
    invocation: Invocation, found: Discovered, discovery: Discovery, environment: Environment | None = None
) -> Plan:
    """Return the pipeline's plan for an environment, else for the one that is meant. Raises ``ProblemsError``."""
    from aiflow_sdk.workspace import Workspace

    try:
        invocation.configure()
        workspace = Workspace(invocation.project, marked=discovery.marked)
        meant = environment or invocation.environment
        return workspace.compile(found.ir, meant, locations=found.locations, code=discovery.code)
    except ProblemsError as error:
        raise ProblemsError(problem.at(found.where) for problem in error.problems) from None


def registry_of(invocation: Invocation, discovery: Discovery) -> Registry:
    """Return all plugins: what is installed and what the project registers."""
    from aiflow_sdk.code import enter_project
    from aiflow_sdk.plugins import installed_registry

    enter_project(invocation.project.root)
    registry = installed_registry()
    registry.add_marked(discovery.marked)
    return registry
