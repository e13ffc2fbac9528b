"""Records versions and releases. Everything may come twice, late and in any order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from aiflow_service.database.bulk import insert_rows, select_in
from aiflow_service.database.compression import compress
from aiflow_service.database.connection import Writing
from aiflow_service.database.tables import documents, pipeline_releases, pipelines, projects, releases, versions
from aiflow_service.registry.submission import CheckedVersion, Member, ReleaseSubmission

State = Mapping[int, int]
"""By pipeline: the version that is current."""


class MissingVersions(Exception):  # noqa: N818 it is an answer
    """A release names versions that were not recorded: their digests of plan."""

    def __init__(self, plans: Sequence[str]) -> None:
        count = "1 version of the release is" if len(plans) == 1 else f"{len(plans)} versions of the release are"
        super().__init__(f"{count} not recorded")
        self.plans = plans


def record_versions(
    writing: Writing, team_id: int, sent: Iterable[tuple[CheckedVersion, str, str]], moment: int
) -> list[bool]:
    """Store versions, each given with the texts of its definition and plan; returns which of them were new."""
    told = list(sent)
    _store_documents(
        writing,
        team_id,
        {one.ir_digest: ir for one, ir, _ in told} | {one.plan_digest: plan for one, _, plan in told},
    )
    made = []
    for one, _, _ in told:
        pipeline_id = _pipeline(writing, team_id, one.plan.project, one.plan.pipeline_id)
        mine = (versions.c.pipeline_id == pipeline_id) & (versions.c.plan_digest == one.plan_digest)
        mine &= versions.c.ir_digest == one.ir_digest
        if writing.connection.execute(sa.select(versions.c.id).where(mine)).first() is not None:
            made.append(False)
            continue
        writing.connection.execute(
            versions.insert().values(
                id=writing.number("versions"),
                team_id=team_id,
                pipeline_id=pipeline_id,
                environment=one.plan.environment.name,
                version=one.plan.version,
                definition=one.plan.definition,
                ir_digest=one.ir_digest,
                plan_digest=one.plan_digest,
                recorded_at=moment,
            )
        )
        made.append(True)
    return made


def record_release(writing: Writing, team_id: int, sent: ReleaseSubmission, moment: int) -> int | None:
    """Store a release and what became of each pipeline in it; returns its id, None where it was known.

    One that lies between others changes what became of pipelines in the next one: that is told anew. Raises
    :class:`MissingVersions`.
    """
    run = writing.connection.execute
    project_id = _project(writing, team_id, sent.project)
    mine = (releases.c.project_id == project_id) & (releases.c.environment == sent.environment)
    if run(sa.select(releases.c.id).where(mine, releases.c.key == sent.key)).first() is not None:
        return None
    state = _version_ids(writing, team_id, sent)
    place = (sent.moment, sent.number, sent.key)
    order = sa.tuple_(releases.c.at, releases.c.number, releases.c.key)
    here = sa.tuple_(*map(sa.literal, place))
    next_one = run(
        sa.select(releases)
        .where(mine, order > here)
        .order_by(releases.c.at, releases.c.number, releases.c.key)
        .limit(1)
    ).first()
    before = _state(writing, mine & (order < here))
    after = None
    if next_one is not None:
        until = sa.tuple_(*map(sa.literal, (next_one.at, next_one.number, next_one.key)))
        after = _state(writing, mine & (order <= until))
    number = writing.number("releases")
    run(
        releases.insert().values(
            id=number,
            team_id=team_id,
            project_id=project_id,
            environment=sent.environment,
            key=sent.key,
            at=sent.moment,
            number=sent.number,
            project_version=sent.project_version,
            action=sent.action,
            author=sent.author,
            message=sent.message or None,
            commit=sent.commit,
            is_dirty=None if sent.dirty is None else int(sent.dirty),
            recorded_at=moment,
        )
    )
    _store_changes(writing, number, before, state)
    if next_one is not None and after is not None:
        run(pipeline_releases.delete().where(pipeline_releases.c.release_id == next_one.id))
        _store_changes(writing, next_one.id, state, after)
    return number


def _store_changes(writing: Writing, release_id: int, before: State, after: State) -> None:
    rows: list[tuple[int, int, int | None]] = [
        (pipeline, release_id, version)
        for pipeline, version in sorted(after.items())
        if before.get(pipeline) != version
    ]
    rows += [(pipeline, release_id, None) for pipeline in sorted(before.keys() - after.keys())]
    insert_rows(writing, pipeline_releases, ("pipeline_id", "release_id", "version_id"), rows)


def _state(writing: Writing, mine: sa.ColumnElement[bool]) -> dict[int, int]:
    """Return what the last of some releases of one project and environment has made current."""
    latest = (
        sa.func.row_number()
        .over(
            partition_by=pipeline_releases.c.pipeline_id,
            order_by=(releases.c.at.desc(), releases.c.number.desc(), releases.c.key.desc()),
        )
        .label("rank")
    )
    ranked = (
        sa.select(pipeline_releases.c.pipeline_id, pipeline_releases.c.version_id, latest)
        .join(releases, releases.c.id == pipeline_releases.c.release_id)
        .where(mine)
        .subquery()
    )
    rows = writing.connection.execute(sa.select(ranked).where(ranked.c.rank == 1))
    return {row.pipeline_id: row.version_id for row in rows if row.version_id is not None}


def _version_ids(writing: Writing, team_id: int, sent: ReleaseSubmission) -> dict[int, int]:
    """Return, by pipeline, the version that a release holds. Raises :class:`MissingVersions`."""
    statement = (
        sa.select(
            projects.c.name.label("project"),
            pipelines.c.name.label("pipeline"),
            versions.c.ir_digest,
            versions.c.plan_digest,
            versions.c.pipeline_id,
            versions.c.id,
        )
        .join(pipelines, pipelines.c.id == versions.c.pipeline_id)
        .join(projects, projects.c.id == pipelines.c.project_id)
        .where(versions.c.team_id == team_id, versions.c.environment == sent.environment)
    )
    wanted = {one.plan for one in sent.pipelines}
    known = {
        Member.model_construct(project=row.project, pipeline=row.pipeline, ir=row.ir_digest, plan=row.plan_digest): row
        for row in select_in(writing.connection, statement, versions.c.plan_digest, sorted(wanted))
    }
    if missing := sorted({one.plan for one in sent.pipelines if one not in known}):
        raise MissingVersions(missing)
    return {known[one].pipeline_id: known[one].id for one in sent.pipelines}


def _store_documents(writing: Writing, team_id: int, texts: Mapping[str, str]) -> None:
    mine = sa.select(documents.c.digest).where(documents.c.team_id == team_id)
    there = {row[0] for row in select_in(writing.connection, mine, documents.c.digest, sorted(texts))}
    rows = []
    for digest, text in sorted(texts.items()):
        if digest not in there:
            body = text.encode()
            rows.append((team_id, digest, len(body), compress(body)))
    insert_rows(writing, documents, ("team_id", "digest", "size", "body"), rows)


def _project(writing: Writing, team_id: int, name: str) -> int:
    mine = (projects.c.team_id == team_id) & (projects.c.name == name)
    return _found_or_made(writing, projects, mine, {"team_id": team_id, "name": name})


def _pipeline(writing: Writing, team_id: int, project: str, name: str) -> int:
    project_id = _project(writing, team_id, project)
    mine = (pipelines.c.project_id == project_id) & (pipelines.c.name == name)
    return _found_or_made(writing, pipelines, mine, {"team_id": team_id, "project_id": project_id, "name": name})


def _found_or_made(writing: Writing, table: sa.Table, mine: sa.ColumnElement[bool], values: Mapping[str, Any]) -> int:
    found = writing.connection.execute(sa.select(table.c.id).where(mine)).scalar()
    if found is None:
        found = writing.number(table.name)
        writing.connection.execute(table.insert().values(id=found, **values))
    number: int = found
    return number
