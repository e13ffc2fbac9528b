"""Asks, before anything is published or started, whether a pipeline's team may touch its datasets."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiflow_sdk.config import Environment
from aiflow_sdk.deployment.compile import Compiled
from aiflow_sdk.errors import AccessError, AiflowError, Where
from aiflow_sdk.service import Grants, Touch, ask_grants, is_guarded, no_grant, touch_of

Touches = Mapping[Touch, Sequence[str]]
"""By what is touched the nodes that do."""


def find_refused(environment: Environment, pipelines: Iterable[Compiled]) -> tuple[list[AccessError], str | None]:
    """Return an error for each dataset that a pipeline's team may not touch, and what is to be said of the asking.

    Where the service is silent nothing is refused: each task asks again as it starts.
    """
    if not is_guarded(environment):
        return [], None
    from aiflow_sdk.service import Service  # which most have no use for

    touched: dict[str, list[tuple[Compiled, Touches]]] = defaultdict(list)
    for one in pipelines:
        touched[one.project].append((one, _touches(json.loads(one.path.read_bytes())["nodes"])))
    refused: list[AccessError] = []
    try:
        service = Service(environment)
        for project, members in touched.items():
            said = ask_grants(service, project, environment.name, {touch for _, mine in members for touch in mine})
            for compiled, mine in members:
                refused += _refused(said, mine, compiled.source.locations)
    except AiflowError as error:
        return [], f"whether the datasets may be touched is asked as tasks start: {error}"
    return refused, None


def refuse_ungranted(environment: Environment, project: str, pipeline: str, version: str) -> str | None:
    """Return, if a deployed pipeline's team may touch what that version touches, what is to be said of the asking.

    Raises ``AccessError`` (``no-grant``). What the service does not know, or while it is silent, is left to the tasks.
    """
    if not is_guarded(environment):
        return None
    from aiflow_sdk.deployment.recollection import RecordedPipeline  # which a deployment has no use for
    from aiflow_sdk.service import Service

    try:
        service = Service(environment)
        known = RecordedPipeline(service, environment.name, project, pipeline).version(version)
        if known is None:
            return None
        mine = _touches(known.plan.document["nodes"])
        said = ask_grants(service, project, environment.name, mine)
    except AiflowError as error:
        return f"whether the datasets may be touched is asked as tasks start: {error}"
    if refused := [touch for touch in mine if not said.allows(touch, said.made_at)]:
        raise no_grant(said.team, refused, Where(about=f"pipeline '{pipeline}'"))
    return None


def _touches(nodes: Iterable[Mapping[str, Any]]) -> Touches:
    found: dict[Touch, list[str]] = defaultdict(list)
    for node in nodes:
        if node["type"] != "transform" and node.get("dataset"):
            namespace, name = node["dataset"]
            if touch := touch_of(node["type"], (namespace, name)):
                found[touch].append(node["id"])
    return found


def _refused(said: Grants, mine: Touches, places: Mapping[str, Where]) -> list[AccessError]:
    return [
        no_grant(said.team, [touch], places.get(node_id, Where(about=f"node '{node_id}'")))
        for touch, node_ids in mine.items()
        if not said.allows(touch, said.made_at)
        for node_id in node_ids
    ]
