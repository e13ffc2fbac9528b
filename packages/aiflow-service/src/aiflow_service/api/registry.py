"""Pipelines, their versions, and what was released: recorded by ``aiflow deploy``, listed and compared."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from aiflow_sdk.plan import Plan
from aiflow_service.access import Role, Scope, audited
from aiflow_service.api.answers import SAME, Cursor, Limit, answer, answer_object, answer_page, checked_text, place_of
from aiflow_service.api.bodies import describe_body, read_body
from aiflow_service.api.problem import PROBLEMS, Problem, not_found
from aiflow_service.api.services import EditorOf, ScopeOf, Services, ServicesOf
from aiflow_service.audit import Caller, Entry, record
from aiflow_service.database import now
from aiflow_service.ingest import Sender, declare_release
from aiflow_service.registry import (
    MissingVersions,
    ReleaseSubmission,
    VersionSubmission,
    compare_versions,
    find_pipeline,
    find_version,
    list_history,
    list_pipelines,
    list_releases,
    record_release,
    record_versions,
)
from aiflow_service.registry.submission import MAX_VERSIONS, CheckedVersion

router = APIRouter(prefix="/api/v1", tags=["registry"], responses=PROBLEMS)

Number = Annotated[int, Path(ge=1, lt=2**62)]
Word = Annotated[str | None, Query(max_length=500)]
Fingerprint = Annotated[str, Path(min_length=1, max_length=200, description="A version, or its beginning.")]
FewLimit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
_SHOWN_MISSING = 10_000
_NAMED = 100


class VersionBatch(BaseModel):
    """Versions to record."""

    versions: Annotated[tuple[VersionSubmission, ...], Field(max_length=MAX_VERSIONS)]


@router.put("/versions", openapi_extra=describe_body(VersionBatch))
async def put_versions(request: Request, services: ServicesOf, scope: ScopeOf, sender: EditorOf) -> Response:
    """Record versions of pipelines; for editors. The same content is the same version, however often it is sent."""
    batch = await read_body(request, VersionBatch)
    return answer({"versions": await asyncio.to_thread(_record_versions, services, scope, sender, batch)})


@router.put("/releases", openapi_extra=describe_body(ReleaseSubmission))
async def put_release(request: Request, services: ServicesOf, scope: ScopeOf, sender: EditorOf) -> Response:
    """Record a release, whose versions are recorded already: else 409 lists, by digest of plan, those that are not.

    It may come twice, late and before earlier ones. For editors.
    """
    sent = await read_body(request, ReleaseSubmission)
    try:
        is_new = await asyncio.to_thread(_record_release, services, scope, sender, sent)
    except MissingVersions as error:
        told = {
            "type": "urn:aiflow:problem:versions-missing",
            "title": "Conflict",
            "status": 409,
            "code": "versions-missing",
            "detail": f"{error}; send them first",
            "missing": list(error.plans[:_SHOWN_MISSING]),
        }
        return Response(msgspec.json.encode(told), 409, media_type="application/problem+json")
    return answer({"status": "recorded" if is_new else "known"})


@router.get("/releases")
def releases(
    services: ServicesOf,
    scope: ScopeOf,
    project: Word = None,
    environment: Word = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List releases of projects, the newest first."""
    with services.database.reading() as connection:
        found, place = list_releases(
            connection,
            scope,
            project=checked_text(project, "project"),
            environment=checked_text(environment, "environment"),
            before=_pair(cursor),
            limit=limit,
        )
    return answer_page(found, place)


@router.get("/pipelines")
def pipelines(
    services: ServicesOf,
    scope: ScopeOf,
    project: Word = None,
    name: Word = None,
    q: Annotated[str | None, Query(max_length=200, description="A part of the name.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List pipelines, each with what is current in each environment."""
    after = place_of(cursor, 1) or (0,)
    texts = {"project": project, "name": name, "q": q}
    checked = {key: checked_text(value, key) for key, value in texts.items()}
    with services.database.reading() as connection:
        found, place = list_pipelines(connection, scope, after=after[0], limit=limit, **checked)
    return answer_page(found, place)


@router.get("/pipelines/{number}", responses=SAME)
def pipeline(number: Number, request: Request, services: ServicesOf, scope: ScopeOf) -> Response:
    """Tell of a pipeline: what is current in each environment."""
    with services.database.reading() as connection:
        found = find_pipeline(connection, scope, number)
    if found is None:
        raise not_found("pipeline")
    return answer_object(request, found)


@router.get("/pipelines/{number}/history")
def history(
    number: Number,
    services: ServicesOf,
    scope: ScopeOf,
    environment: Annotated[str, Query(min_length=1, max_length=500)],
    limit: FewLimit = 20,
    cursor: Cursor = None,
) -> Response:
    """List the releases in which something became of a pipeline, the newest first, each with what changed."""
    checked = checked_text(environment, "environment") or ""
    with services.database.reading() as connection:
        if find_pipeline(connection, scope, number) is None:
            raise not_found("pipeline")
        found, place = list_history(connection, scope, number, environment=checked, before=_pair(cursor), limit=limit)
    return answer_page(found, place)


@router.get("/pipelines/{number}/versions/{version}", responses=SAME)
def version(
    number: Number,
    version: Fingerprint,
    request: Request,
    services: ServicesOf,
    scope: ScopeOf,
    environment: Word = None,
) -> Response:
    """Tell of a version: its definition, its plan, and the release in which it came."""
    checked, among = checked_text(version, "version") or "", checked_text(environment, "environment")
    with services.database.reading() as connection:
        found = find_version(connection, scope, number, checked, among)
    if found is None:
        raise not_found("version")
    told, ir, plan = found
    return answer_object(request, {**told, "ir": msgspec.Raw(ir), "plan_document": msgspec.Raw(plan)})


@router.get("/pipelines/{number}/differences")
def differences(
    number: Number,
    services: ServicesOf,
    scope: ScopeOf,
    before: Annotated[str, Query(min_length=1, max_length=200)],
    after: Annotated[str, Query(min_length=1, max_length=200)],
    environment: Word = None,
) -> Response:
    """Compare two versions of a pipeline, each given by its beginning: as meaning, not as text."""
    old, new = checked_text(before, "before") or "", checked_text(after, "after") or ""
    among = checked_text(environment, "environment")
    with services.database.reading() as connection:
        found = compare_versions(connection, scope, number, old, new, among)
    if found is None:
        raise not_found("version")
    return answer(found)


def _record_versions(services: Services, scope: Scope, sender: Sender, batch: VersionBatch) -> list[dict[str, Any]]:
    checked = []
    for index, one in enumerate(batch.versions):
        try:
            checked.append((one.checked, one.ir, one.plan))
        except ValueError as error:
            place = f"body/versions/{index}"
            raise Problem(422, "version-invalid", f"{place}: {error}", place=place) from error
    made = [False] * len(checked)
    with services.database.writing() as writing:
        for (project, environment), places in _by_project(checked).items():
            team_id = sender.team_for(writing.connection, project, environment)
            scope.require(Role.EDITOR, team_id, environment)
            are_new = record_versions(writing, team_id, [checked[position] for position in places], now())
            for position, is_new in zip(places, are_new, strict=True):
                made[position] = is_new
            if new := [checked[position][0].plan for position in places if made[position]]:
                record(writing, _told(audited(scope.caller), team_id, new))
    return [
        {
            "project": one.plan.project,
            "pipeline": one.plan.pipeline_id,
            "environment": one.plan.environment.name,
            "version": one.plan.version,
            "plan": one.plan_digest,
            "is_new": is_new,
        }
        for (one, _, _), is_new in zip(checked, made, strict=True)
    ]


def _record_release(services: Services, scope: Scope, sender: Sender, sent: ReleaseSubmission) -> bool:
    with services.database.writing() as writing:
        team_id = sender.team_for(writing.connection, sent.project, sent.environment)
        scope.require(Role.EDITOR, team_id, sent.environment)
        number = record_release(writing, team_id, sent, now())
        if number is not None:
            declare_release(writing, team_id, number, sent.environment)
            record(writing, _told_release(audited(scope.caller), team_id, sent))
    return number is not None


def _by_project(checked: list[tuple[CheckedVersion, str, str]]) -> dict[tuple[str, str], list[int]]:
    """Return the places of versions by their project and environment."""
    found: dict[tuple[str, str], list[int]] = {}
    for place, (one, _, _) in enumerate(checked):
        found.setdefault((one.plan.project, one.plan.environment.name), []).append(place)
    return found


def _told(caller: Caller, team_id: int, plans: list[Plan]) -> Entry:
    first = plans[0]
    versions = {plan.pipeline_id: plan.version for plan in plans[:_NAMED]}
    return Entry(
        caller,
        "version.recorded",
        "project",
        first.project,
        team_id=team_id,
        environment=first.environment.name,
        details={"count": len(plans), "versions": versions},
    )


def _told_release(caller: Caller, team_id: int, sent: ReleaseSubmission) -> Entry:
    return Entry(
        caller,
        "release.deployed" if sent.action == "deploy" else "release.rolled-back",
        "project",
        sent.project,
        team_id=team_id,
        environment=sent.environment,
        details={
            "release": sent.number,
            "project_version": sent.project_version,
            "author": sent.author,
            "message": sent.message,
            "commit": sent.commit,
            "dirty": sent.dirty,
            "pipelines": len(sent.pipelines),
        },
    )


def _pair(cursor: str | None) -> tuple[int, int] | None:
    place = place_of(cursor, 2)
    return (place[0], place[1]) if place else None
