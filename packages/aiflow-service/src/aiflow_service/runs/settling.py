"""Ends a run that nobody is left to tell the end of: by the word of whoever knows that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from aiflow_sdk import events
from aiflow_sdk.errors import RunError
from aiflow_sdk.lineage.story import error_facets

_OURS = ("project", "environment", "execution", "task_id", "attempt", "partition", "cause", "version", "trace_id")


def end_events(story: Mapping[str, Any], by: str, at: datetime) -> Iterator[dict[str, Any]]:
    """Yield the events that end a run, as :func:`find_run` tells it: of what of it has no end yet, then of itself.

    They are marked as reconciled, so that whatever the run itself tells of the same execution, sooner or later,
    outdoes them. Parts of other teams' are theirs to end.
    """
    error = RunError(
        "ended-by-hand",
        f"it was said to be over, by {by}: nobody is left to tell how it ended",
        hint="see what it has written, then run it anew",
    ).to_dict()
    attempts = (attempt for task in story["tasks"] for attempt in task["attempts"])
    parts = [one for one in (*attempts, *story["parts"]) if one["team"] == story["team"]]
    jobs = {one["run_id"]: one["job"] for one in (story, *parts)}
    for one in (*reversed(parts), story):
        if one["state"] != "running":
            continue
        ours = {name: one[name] for name in _OURS if one[name] is not None}
        facets = {
            "aiflow_reconciled": events.own_facet("reconciled", {"from": "operator"}),
            # Without an environment it is no run of ours, and has nothing of this.
            **({"aiflow_run": _run_facet(story, one, ours)} if "environment" in ours else {}),
            **error_facets(error),
        }
        if one is not story and (whole := jobs.get(one["parent_run_id"])):
            facets["parent"] = events.parent_facet(one["parent_run_id"], whole["namespace"], whole["name"])
        job = one["job"]
        yield events.run_event(
            "FAIL",
            run_id=one["run_id"],
            job_namespace=job["namespace"],
            job_name=job["name"],
            time=at,
            run_facets=facets,
        )


def _run_facet(story: Mapping[str, Any], one: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    run_id = story["run_id"] if one["task_id"] else one["run_id"]
    return events.own_facet("run", {"pipeline_id": one["pipeline"], "run_id": run_id, **ours})
