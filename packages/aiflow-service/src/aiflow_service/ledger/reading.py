"""Puts the ledger of a dataset together from what is stored, and lists its partitions and what is to be made again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_sdk.plan import making_of
from aiflow_service.access import Scope
from aiflow_service.database.bulk import select_in
from aiflow_service.database.moments import moment_text
from aiflow_service.database.tables import dataset_names, datasets, edges, jobs, makings, namespaces
from aiflow_service.ledger.evaluation import Ledger, Made, Pipeline, State, Status, Use, made_of
from aiflow_service.ledger.fold import MakingFold
from aiflow_service.registry import current_plan

_SPACE = "aiflow/"
"""Begins the namespaces of the jobs of pipelines; the environment follows."""
_MAX_PIPELINES = 500
_MAX_MAKINGS = 200_000
_MAX_KEYS = 500_000
"""Partitions that runs were for, all together: one run may be for very many."""


def list_partitions(
    connection: Connection,
    scope: Scope,
    dataset_id: int,
    environment: str,
    *,
    state: State | None,
    after: tuple[int, str] | None,
    limit: int,
    now: datetime | None = None,
) -> tuple[list[dict[str, Any]], tuple[int, str] | None, bool]:
    """Return the partitions of a dataset in one environment, by pipeline and in their order.

    Further where to go on, and whether not all of what is stored was looked at. ``after``: the job of a pipeline and
    the key of its partition that was listed last.
    """
    ledger, is_truncated = _load(connection, scope, dataset_id, environment, down=False, now=now)
    own = [one for one in ledger.pipelines if one.environment == environment and dataset_id in one.writes]
    statuses = (ledger.status(pipeline, key) for pipeline, key in _places(own, after, ledger.now))
    found = list(islice((one for one in statuses if state in (None, one.state)), limit + 1))
    shown = found[:limit]
    names = _names_of(connection, scope, {use.table[0] for one in shown if one.made for use in one.made.reads})
    place = (shown[-1].pipeline.job_id, shown[-1].key) if len(found) > limit else None
    return [_told(one, dataset_id, names) for one in shown], place, is_truncated


def _places(pipelines: list[Pipeline], after: tuple[int, str] | None, now: datetime) -> Iterator[tuple[Pipeline, str]]:
    """Yield the partitions of pipelines that stand behind one."""
    numbers = [one.job_id for one in pipelines]
    begin = numbers.index(after[0]) if after and after[0] in numbers else len(numbers) if after else 0
    for pipeline in pipelines[begin:]:
        keys = pipeline.expected(now)
        if after and pipeline.job_id == after[0]:
            keys = keys[keys.index(after[1]) + 1 :] if after[1] in keys else [key for key in keys if key > after[1]]
        for key in keys:
            yield pipeline, key


def list_repairs(
    connection: Connection,
    scope: Scope,
    dataset_id: int,
    environment: str,
    *,
    down: bool,
    now: datetime | None = None,
) -> tuple[list[dict[str, Any]], bool]:
    """Return what has to be made again for a dataset, and with ``down`` for what is made of it, in that order.

    Further whether not all of what is stored was looked at.
    """
    ledger, is_truncated = _load(connection, scope, dataset_id, environment, down=down, now=now)
    return [
        {
            "project": one.pipeline.project,
            "pipeline": one.pipeline.name,
            "environment": one.pipeline.environment,
            "partition": None if one.key == "-" else one.key,
            "state": one.state,
            "reason": one.reason,
            "grain": one.pipeline.newest.grain if one.pipeline.newest else None,
            "timezone": one.pipeline.newest.timezone if one.pipeline.newest else None,
        }
        for one in ledger.repairs([dataset_id], environment, down=down)
    ], is_truncated


def _load(
    connection: Connection, scope: Scope, dataset_id: int, environment: str, *, down: bool, now: datetime | None
) -> tuple[Ledger, bool]:
    """Return the pipelines that write a dataset, with ``down`` those that follow, and those that write their inputs.

    Further whether some of them, or of their runs, were left out.
    """
    space = f"{_SPACE}{environment}"
    found = _touching(connection, scope, {dataset_id}, is_write=True, space=space)
    while down and len(found) < _MAX_PIPELINES:
        written = {dataset for job in found for dataset in _datasets(connection, [job], is_write=True)}
        following = _touching(connection, scope, written, is_write=False, space=space) - found
        if not following:
            break
        found |= following
    is_truncated = len(found) >= _MAX_PIPELINES
    inputs = set(_datasets(connection, found, is_write=False))
    found |= _touching(connection, scope, inputs, is_write=True, space=None)
    pipelines, is_cut = _pipelines(connection, scope, found)
    return Ledger(pipelines, now or datetime.now(UTC)), is_truncated or is_cut


def _touching(
    connection: Connection, scope: Scope, dataset_ids: set[int], *, is_write: bool, space: str | None
) -> set[int]:
    """Return the pipelines that read or write any of some datasets; ``space`` None: in any environment."""
    statement = (
        sa.select(jobs.c.id)
        .join(edges, edges.c.job_id == jobs.c.id)
        .join(namespaces, namespaces.c.id == jobs.c.namespace_id)
        .where(scope.sees(jobs.c.team_id), edges.c.is_write == int(is_write))
    )
    among = namespaces.c.name.startswith(_SPACE) if space is None else namespaces.c.name == space
    return {row.id for row in select_in(connection, statement.where(among), edges.c.dataset_id, dataset_ids)}


def _datasets(connection: Connection, job_ids: Iterable[int], *, is_write: bool) -> list[int]:
    statement = sa.select(edges.c.dataset_id).where(edges.c.is_write == int(is_write))
    return [row.dataset_id for row in select_in(connection, statement, edges.c.job_id, sorted(job_ids))]


def _pipelines(connection: Connection, scope: Scope, job_ids: set[int]) -> tuple[list[Pipeline], bool]:
    """Return pipelines with their runs, and whether the oldest of these were left out."""
    named = (
        sa.select(jobs.c.id, jobs.c.name, jobs.c.team_id, namespaces.c.name.label("namespace"))
        .join(namespaces, namespaces.c.id == jobs.c.namespace_id)
        .where(scope.sees(jobs.c.team_id))
    )
    touched: dict[tuple[int, int], set[int]] = {}
    every = sa.select(edges.c.job_id, edges.c.is_write, edges.c.dataset_id)
    for row in select_in(connection, every, edges.c.job_id, sorted(job_ids)):
        touched.setdefault((row.job_id, row.is_write), set()).add(row.dataset_id)
    runs: dict[int, list[tuple[str, MakingFold]]] = {}
    # Runs' ids grow with time: of too many the oldest are left out.
    newest = makings.c.run_uid.desc()
    stored = sa.select(makings).where(scope.sees(makings.c.team_id)).order_by(newest).limit(_MAX_MAKINGS)
    for row in select_in(connection, stored, makings.c.job_id, sorted(job_ids)):
        runs.setdefault(row.job_id, []).append((row.run_uid, MakingFold.from_bytes(row.fold)))
    known = _ids_of(
        connection,
        {
            (told["dataset"][0], told["dataset"][1])
            for some in runs.values()
            for _, fold in some
            for _, told in fold.nodes.values()
        },
    )
    is_cut = sum(map(len, runs.values())) >= _MAX_MAKINGS
    left = _MAX_KEYS
    found = []
    for row in select_in(connection, named, jobs.c.id, sorted(job_ids)):
        environment = row.namespace.removeprefix(_SPACE)
        project, _, name = row.name.partition("/")
        plan = current_plan(connection, scope, row.team_id, project, name, environment)
        made: list[Made] = []
        for uid, fold in runs.get(row.id, ()):
            made.append(made_of(uid, fold, known, environment))
            left -= len(made[-1].keys)
            if left < 0:
                is_cut = True
                break
        made.reverse()
        found.append(
            Pipeline(
                row.id,
                project,
                name,
                environment,
                made,
                making_of(plan) if plan else None,
                frozenset(touched.get((row.id, 0), ())),
                frozenset(touched.get((row.id, 1), ())),
            )
        )
    ordered = sorted(found, key=lambda one: (one.project, one.name, one.environment))
    return ordered, is_cut


def _ids_of(connection: Connection, names: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
    statement = sa.select(namespaces.c.name.label("namespace"), dataset_names.c.name, dataset_names.c.dataset_id).join(
        namespaces, namespaces.c.id == dataset_names.c.namespace_id
    )
    rows = select_in(connection, statement, dataset_names.c.name, sorted({name for _, name in names}))
    return {(row.namespace, row.name): row.dataset_id for row in rows if (row.namespace, row.name) in names}


def _names_of(connection: Connection, scope: Scope, dataset_ids: set[int]) -> dict[int, dict[str, Any]]:
    statement = (
        sa.select(datasets.c.id, datasets.c.name, namespaces.c.name.label("namespace"))
        .join(namespaces, namespaces.c.id == datasets.c.namespace_id)
        .where(scope.sees_dataset())
    )
    rows = select_in(connection, statement, datasets.c.id, sorted(dataset_ids))
    return {row.id: {"id": row.id, "namespace": row.namespace, "name": row.name} for row in rows}


def _told(status: Status, dataset_id: int, names: dict[int, dict[str, Any]]) -> dict[str, Any]:
    made, pipeline = status.made, status.pipeline
    told: dict[str, Any] = {
        "partition": None if status.key == "-" else status.key,
        "state": status.state,
        "reason": status.reason,
        "project": pipeline.project,
        "pipeline": pipeline.name,
        "environment": pipeline.environment,
        "made": None,
    }
    if made is not None:
        told["made"] = {
            "run_id": made.run_uid,
            "version": made.version,
            "execution": made.execution,
            "generation": made.generation,
            "at": moment_text(made.moment),
            "written": [part for use in made.writes if use.table[0] == dataset_id for part in use.partitions],
            "inputs": [_input(use, names) for use in made.reads if use.table[0] in names],
        }
    return told


def _input(use: Use, names: dict[int, dict[str, Any]]) -> dict[str, Any]:
    return {
        "node_id": use.node_id,
        "dataset": names[use.table[0]],
        "environment": use.table[1],
        "partitions": list(use.partitions),
        "version": use.version,
    }
