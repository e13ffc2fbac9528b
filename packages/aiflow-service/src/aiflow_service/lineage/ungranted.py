"""Which jobs write datasets that are another team's and that it has not granted them.

A table that nobody owned is the team's that writes it first (decision 31), be it by mistake: whoever comes second has
to learn of it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from aiflow_service.access import Scope
from aiflow_service.access.scope import is_granted
from aiflow_service.database.bulk import select_in
from aiflow_service.database.moments import moment_text
from aiflow_service.database.tables import dataset_names, datasets, edges, jobs, namespaces, teams
from aiflow_service.lineage.writing import GRAIN


def list_ungranted(
    connection: Connection, scope: Scope, *, after: tuple[int, int], limit: int, since: int | None = None
) -> list[tuple[tuple[int, int], dict[str, Any]]]:
    """Return such writes of the caller's jobs, each behind its place in the list; whose a dataset is, is not told.

    Those last seen before ``since`` are left out, to five minutes, as that is known. A dataset's name is not told
    either where it has several: that by which the job knows it may be one, and another the owner's alone. The
    connection has to see all teams.
    """
    statement = (
        sa.select(edges, jobs.c.name, namespaces.c.name.label("namespace"), teams.c.name.label("team"))
        .join(jobs, jobs.c.id == edges.c.job_id)
        .join(namespaces, namespaces.c.id == jobs.c.namespace_id)
        .join(teams, teams.c.id == jobs.c.team_id)
        .join(datasets, datasets.c.id == edges.c.dataset_id)
        .where(
            scope.sees(jobs.c.team_id),
            edges.c.is_write == 1,
            datasets.c.is_owned == 1,
            datasets.c.team_id != jobs.c.team_id,
            sa.tuple_(edges.c.job_id, edges.c.dataset_id) > sa.tuple_(*after),
            ~is_granted(datasets, [jobs.c.team_id], writes=True),
            *([] if since is None else [edges.c.last_seen >= since - since % GRAIN]),
        )
        .order_by(edges.c.job_id, edges.c.dataset_id)
        .limit(limit)
    )
    rows = connection.execute(statement).all()
    names = _only_names(connection, {row.dataset_id for row in rows})
    return [((row.job_id, row.dataset_id), _told(row, names.get(row.dataset_id))) for row in rows]


def _only_names(connection: Connection, dataset_ids: set[int]) -> dict[int, dict[str, str]]:
    statement = sa.select(dataset_names.c.dataset_id, dataset_names.c.name, namespaces.c.name.label("namespace"))
    statement = statement.join(namespaces, namespaces.c.id == dataset_names.c.namespace_id)
    found: dict[int, list[dict[str, str]]] = {}
    for row in select_in(connection, statement, dataset_names.c.dataset_id, sorted(dataset_ids)):
        found.setdefault(row.dataset_id, []).append({"namespace": row.namespace, "name": row.name})
    return {number: names[0] for number, names in found.items() if len(names) == 1}


def _told(row: Any, dataset: dict[str, str] | None) -> dict[str, Any]:
    return {
        "team": row.team,
        "job": {"id": row.job_id, "namespace": row.namespace, "name": row.name},
        "dataset": dataset,
        "first_seen": moment_text(row.first_seen),
        "last_seen": moment_text(row.last_seen),
    }
