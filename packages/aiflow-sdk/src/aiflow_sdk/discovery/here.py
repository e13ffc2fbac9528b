"""Discovers pipelines in this very process: for the runner's child, which imports user code anyway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from aiflow_sdk.config import Project
from aiflow_sdk.discovery import children
from aiflow_sdk.discovery.children import Answers, Chores, Setup
from aiflow_sdk.discovery.finding import Module
from aiflow_sdk.discovery.importing import Importer
from aiflow_sdk.discovery.model import Discovery
from aiflow_sdk.discovery.project import Exploration


def discover_here(
    project: Project,
    only: str | None = None,
    watched: Callable[[Module], AbstractContextManager[None]] = lambda module: nullcontext(),
) -> Discovery:
    """Return the project's pipelines, imported in this process where the cache does not know them.

    Nothing is isolated and no time is limited: the caller is a process that another one watches, and each module is
    imported inside ``watched``. With ``only`` (an id, or ``project/id``) just the module is imported that defines it;
    where its text does not tell which one that is, it is looked for in a child, so that a module that hangs or dies is
    no matter.
    """

    def import_modules(modules: Sequence[Module], chores: Chores) -> list[Answers]:
        importer = Importer(project.root, interruptible=True)
        answers = Answers()
        for module in modules:
            with watched(module):
                answers.imported[module.name] = importer.load(module)
        return [answers]

    def look_into(modules: Sequence[Module], chores: Chores) -> list[Answers]:
        return children.import_modules(project, modules, [Setup()], chores)

    with Exploration(project) as exploration:
        return exploration.explore(import_modules, builds=1, only=only, functions=True, import_others=look_into)
