"""``aiflow check``: everything that is wrong with a project's pipelines in one environment, at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aiflow_sdk.code import CodeIndex
from aiflow_sdk.config import Environment, Project
from aiflow_sdk.deployment.shared import SharedTables
from aiflow_sdk.discovery import Discovered, discover
from aiflow_sdk.errors import AiflowError, ProblemsError
from aiflow_sdk.plan import Plan
from aiflow_sdk.plugins import Registry
from aiflow_sdk.workspace import Workspace


@dataclass(frozen=True)
class CheckReport:
    """What a check found."""

    pipelines: int
    """How many pipelines were looked at, those that cannot be built included."""
    problems: tuple[AiflowError, ...] = ()
    failed: int = 0
    """How many of the pipelines have a problem. A module that cannot be imported counts as one."""
    notes: tuple[str, ...] = ()
    """What is worth knowing and stops nobody: of discovery, and tables that several pipelines write."""


def check_project(
    project: Project, environment: Environment, registry: Registry, only: str | None = None
) -> CheckReport:
    """Build each pipeline twice, compile it, write nothing, and return every problem.

    ``only`` (an id, or ``project/id``) restricts the check to one pipeline, and raises ``UnknownNameError`` when there
    is none of that name.
    """
    discovery = discover(project, twice=True, only=only)
    pipelines: Iterable[Discovered] = discovery.pipelines
    problems = list(discovery.problems)
    if only is not None and not any(_is_about(problem, only) for problem in problems):
        pipelines = (discovery.pipeline(only),)
        problems = []
    elif only is not None:
        pipelines, problems = (), [problem for problem in problems if _is_about(problem, only)]
    workspace = Workspace(project, registry, discovery.marked)
    shared = SharedTables(workspace, environment)
    subjects = {_subject(problem) for problem in problems}
    count = len(subjects)
    for pipeline in pipelines:
        count += 1
        found = compile_or_tell(pipeline, discovery.code, environment, workspace)
        if isinstance(found, Plan):
            shared.add(pipeline, found)
        else:
            problems.extend(found)
            subjects.add(pipeline.id)
    return CheckReport(count, tuple(problems), len(subjects), (*discovery.notes, *shared.notes()))


def compile_or_tell(
    pipeline: Discovered, code: CodeIndex | None, environment: Environment, workspace: Workspace
) -> Plan | list[AiflowError]:
    """Return the plan of a pipeline, or everything that is wrong with it, each with its place."""
    try:
        return workspace.compile(pipeline.ir, environment, locations=pipeline.locations, code=code)
    except ProblemsError as error:
        return [problem.at(pipeline.where) for problem in error.problems]
    except AiflowError as error:
        return [error.at(pipeline.where)]


def _subject(problem: AiflowError) -> str:
    """Return the pipeline that a problem is about, else its file."""
    where = problem.where
    if where and where.about and where.about.startswith("pipeline '"):
        return where.about.split("'")[1]
    return (where.path if where else None) or problem.code


def _is_about(problem: AiflowError, pipeline_id: str) -> bool:
    return _subject(problem) == pipeline_id.rpartition("/")[2]
