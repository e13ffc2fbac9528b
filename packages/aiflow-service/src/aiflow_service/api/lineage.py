"""Lineage of tables and of columns."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from aiflow_service.access import Scope
from aiflow_service.api.answers import Cursor, Limit, Moment, answer, answer_page, checked_text, moment_in, place_of
from aiflow_service.api.problem import PROBLEMS, Problem, not_found
from aiflow_service.api.services import ScopeOf, ServicesOf
from aiflow_service.catalog import datasets_named, list_jobs
from aiflow_service.database.protection import SEES_ALL, seeing
from aiflow_service.lineage import Basis, Direction, walk_columns, walk_tables
from aiflow_service.lineage.columns import find_columns
from aiflow_service.lineage.ungranted import list_ungranted

router = APIRouter(prefix="/api/v1/lineage", tags=["lineage"], responses=PROBLEMS)

Depth = Annotated[int, Query(ge=1, le=1000, description="How many jobs to pass through.")]
Nodes = Annotated[int, Query(ge=1, le=1000, description="How many nodes at most; `truncated` tells of more.")]
Text = Annotated[str | None, Query(max_length=2000)]


@router.get("/tables")
def tables(
    services: ServicesOf,
    scope: ScopeOf,
    namespace: Text = None,
    dataset: Text = None,
    job: Text = None,
    direction: Direction = "both",
    depth: Depth = 3,
    limit: Nodes = 200,
    as_of: Moment = None,
    since: Moment = None,
    edges: Basis = "all",
) -> Response:
    """Walk from a dataset, or a job, to what it is made from (up) and what is made from it (down).

    `as_of` leaves out edges first seen later, `since` those last seen before; both to five minutes.

    `edges`: `observed` are those that runs told of, `declared` those of the release that is current in the job's
    environment. `undeclared` tells, of all that is reached, the edges that runs told of and the release does not name,
    `unobserved` those that it names and no run told of.
    """
    if (dataset is None) == (job is None):
        raise Problem(422, "parameter-invalid", "name either a dataset or a job", place="query/dataset")
    moments = moment_in(as_of, "as_of"), moment_in(since, "since")
    with services.database.reading(keeps_plans=True) as connection:
        datasets = _datasets(connection, scope, namespace, dataset) if dataset is not None else []
        jobs = _jobs(connection, scope, namespace, job) if job is not None else []
        graph = walk_tables(
            connection,
            scope,
            dataset_ids=datasets,
            job_ids=jobs,
            direction=direction,
            depth=depth,
            limit=limit,
            basis=edges,
            as_of=moments[0],
            since=moments[1],
        )
    return answer(graph)


@router.get("/ungranted")
def ungranted(
    services: ServicesOf, scope: ScopeOf, limit: Limit = 50, cursor: Cursor = None, since: Moment = None
) -> Response:
    """List what the caller's jobs write although it is another team's, which has not granted it.

    Of such a dataset the owner alone says what columns it has, and its partitions are the owner's to see. Whose it is,
    is not told; nor its name, where it has several. `since` leaves out what was last seen before, to five minutes.
    """
    seen_since = moment_in(since, "since")
    first, second = place_of(cursor, 2) or (0, 0)
    with seeing(SEES_ALL), services.database.reading() as connection:
        found = list_ungranted(connection, scope, after=(first, second), limit=limit + 1, since=seen_since)
    place = found[limit - 1][0] if len(found) > limit else None
    return answer_page([told for _, told in found[:limit]], place)


@router.get("/columns")
def columns(
    services: ServicesOf,
    scope: ScopeOf,
    dataset: Annotated[str, Query(max_length=2000)],
    namespace: Text = None,
    column: Text = None,
    direction: Direction = "both",
    depth: Depth = 3,
    limit: Nodes = 200,
    as_of: Moment = None,
    since: Moment = None,
) -> Response:
    """Walk from a column, or all columns of a dataset, to what they are made from and what is made from them."""
    moments = moment_in(as_of, "as_of"), moment_in(since, "since")
    with services.database.reading(keeps_plans=True) as connection:
        (dataset_id,) = _datasets(connection, scope, namespace, dataset)
        found = find_columns(connection, scope, dataset_id, checked_text(column, "column"))
        if column is not None and not found:
            raise not_found("column")
        graph = walk_columns(
            connection,
            scope,
            column_ids=found,
            direction=direction,
            depth=depth,
            limit=limit,
            as_of=moments[0],
            since=moments[1],
        )
    return answer(graph)


def _datasets(connection: Connection, scope: Scope, namespace: str | None, name: str) -> list[int]:
    within, called = checked_text(namespace, "namespace"), checked_text(name, "dataset") or ""
    found = datasets_named(connection, scope, namespace=within, name=called, limit=2)
    if len(found) > 1:
        several = ", ".join(within for _, within in found)
        raise Problem(409, "name-ambiguous", f"several have this name: say of which namespace ({several}, …)")
    if not found:
        raise not_found("dataset")
    return [found[0][0]]


def _jobs(connection: Connection, scope: Scope, namespace: str | None, name: str) -> list[int]:
    wanted = {"namespace": checked_text(namespace, "namespace"), "name": checked_text(name, "job")}
    found, _ = list_jobs(connection, scope, after=0, limit=100, q=None, **wanted)
    if not found:
        raise not_found("job")
    return [one["id"] for one in found]
