"""Jobs and datasets: listed, and one told."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from aiflow_service.access.teams import any_team
from aiflow_service.api.answers import (
    SAME,
    Cursor,
    Limit,
    answer,
    answer_object,
    answer_page,
    checked_text,
    keyed_place_of,
    place_of,
)
from aiflow_service.api.bodies import describe_body, read_body
from aiflow_service.api.problem import PROBLEMS, not_found
from aiflow_service.api.services import ScopeOf, ServicesOf
from aiflow_service.api.words import Body
from aiflow_service.api.words import Name as TeamsName
from aiflow_service.catalog import (
    find_dataset,
    find_job,
    give_dataset,
    known_dataset,
    list_datasets,
    list_jobs,
    release_dataset,
)
from aiflow_service.ledger import list_partitions, list_repairs
from aiflow_service.ledger.evaluation import State

router = APIRouter(prefix="/api/v1", tags=["catalog"], responses=PROBLEMS)

Number = Annotated[int, Path(ge=1, lt=2**62)]
Namespace = Annotated[str | None, Query(max_length=2000)]
Name = Annotated[str | None, Query(max_length=2000)]
Environment = Annotated[str, Query(min_length=1, max_length=500)]
Part = Annotated[str | None, Query(max_length=200, description="A part of the name.")]


class Owner(Body):
    """The team that a dataset is given to."""

    team: TeamsName


@router.get("/jobs")
def jobs(
    services: ServicesOf,
    scope: ScopeOf,
    namespace: Namespace = None,
    name: Name = None,
    q: Part = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List jobs in the order in which they were first heard of."""
    after = place_of(cursor, 1) or (0,)
    texts = {"namespace": namespace, "name": name, "q": q}
    checked = {key: checked_text(value, key) for key, value in texts.items()}
    with services.database.reading() as connection:
        found, place = list_jobs(connection, scope, after=after[0], limit=limit, **checked)
    return answer_page(found, place)


@router.get("/jobs/{number}", responses=SAME)
def job(number: Number, request: Request, services: ServicesOf, scope: ScopeOf) -> Response:
    """Tell of a job: who owns it, what it reads and writes."""
    with services.database.reading() as connection:
        found = find_job(connection, scope, number)
    if found is None:
        raise not_found("job")
    return answer_object(request, found)


@router.get("/datasets")
def datasets(
    services: ServicesOf,
    scope: ScopeOf,
    namespace: Namespace = None,
    name: Name = None,
    q: Part = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List datasets; with a name, the one that is known by it, whichever of its names that is."""
    after = place_of(cursor, 1) or (0,)
    texts = {"namespace": namespace, "name": name, "q": q}
    checked = {key: checked_text(value, key) for key, value in texts.items()}
    with services.database.reading() as connection:
        found, place = list_datasets(connection, scope, after=after[0], limit=limit, **checked)
    return answer_page(found, place)


@router.get("/datasets/{number}/partitions")
def partitions(
    number: Number,
    services: ServicesOf,
    scope: ScopeOf,
    environment: Environment,
    state: Annotated[State | None, Query(description="Only those in this state.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List the partitions of a dataset in one environment: what made each, and why it is to be made again.

    `truncated`: there are so many runs that the oldest were not looked at, and of what they made nothing is known.
    """
    after = keyed_place_of(cursor)
    among = checked_text(environment, "environment") or ""
    with services.database.reading() as connection:
        dataset_id = known_dataset(connection, scope, number)
        if dataset_id is None:
            raise not_found("dataset")
        found, place, is_truncated = list_partitions(
            connection, scope, dataset_id, among, state=state, after=after, limit=limit
        )
    return answer_page(found, place, truncated=is_truncated)


@router.get("/datasets/{number}/repairs")
def repairs(
    number: Number,
    services: ServicesOf,
    scope: ScopeOf,
    environment: Environment,
    down: Annotated[bool, Query(description="What is made of the dataset too.")] = False,
) -> Response:
    """List what has to be made again so that a dataset is current, in the order in which to make it."""
    among = checked_text(environment, "environment") or ""
    with services.database.reading() as connection:
        dataset_id = known_dataset(connection, scope, number)
        if dataset_id is None:
            raise not_found("dataset")
        found, is_truncated = list_repairs(connection, scope, dataset_id, among, down=down)
    return answer_page(found, None, truncated=is_truncated)


@router.put("/datasets/{number}/owner", openapi_extra=describe_body(Owner))
async def new_owner(number: Number, request: Request, services: ServicesOf, scope: ScopeOf) -> Response:
    """Give a dataset to a team, as if that one had been the first to write it; for administrators.

    What another one has said of its columns, facts and other names goes.
    """
    wanted = await read_body(request, Owner)

    def give() -> dict[str, Any]:
        with services.database.writing() as writing:
            return give_dataset(writing, scope, number, any_team(writing.connection, scope, wanted.team))

    return answer(await asyncio.to_thread(give))


@router.delete("/datasets/{number}/owner")
def no_owner(number: Number, services: ServicesOf, scope: ScopeOf) -> Response:
    """Make a dataset that of the next team that writes it; its own looks after it until then. For administrators."""
    with services.database.writing() as writing:
        return answer(release_dataset(writing, scope, number))


@router.get("/datasets/{number}", responses=SAME)
def dataset(number: Number, request: Request, services: ServicesOf, scope: ScopeOf) -> Response:
    """Tell of a dataset: all its names, its columns, who reads and writes it."""
    with services.database.reading() as connection:
        found = find_dataset(connection, scope, number)
    if found is None:
        raise not_found("dataset")
    return answer_object(request, found)
