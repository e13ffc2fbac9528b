"""Makes edges of what a release declares: its pipelines' jobs and datasets are known before anything has run."""

from __future__ import annotations

from aiflow_service.access.teams import Claims
from aiflow_service.catalog import CatalogMemory, Names
from aiflow_service.database import Writing
from aiflow_service.ingest.sender import PIPELINES
from aiflow_service.lineage.declaring import Declaration, DeclaredTouch, write_declarations
from aiflow_service.openlineage.events import Name
from aiflow_service.registry.declaring import Declared, changes_of, declared_by


def declare_release(writing: Writing, team_id: int, release_id: int, environment: str) -> None:
    """Store what the pipelines of which something became in a release declare; in its transaction.

    A release that lies between others has changed what held until the next one: then all of it is told anew.
    """
    pipelines, changes, is_newest = changes_of(writing.connection, release_id)
    if not changes:
        return
    versions = {one.version_id for one in changes if one.version_id is not None}
    declared = declared_by(writing.connection, versions)
    claims = Claims()
    claims.refresh(writing)
    names = Names(writing, CatalogMemory(), claims)
    jobs = {number: _job_name(*name, environment) for number, name in pipelines.items()}
    names.prepare_jobs((team_id, name) for name in jobs.values())
    written = {name for one in declared.values() for name in one.writes}
    names.own_datasets(team_id, written)
    names.prepare_datasets(team_id, written, is_written=True)
    names.prepare_datasets(team_id, (name for one in declared.values() for name in one.reads | one.writes))
    job_ids = {number: names.job(team_id, name) for number, name in jobs.items()}
    touched = {version_id: _touches(names, one) for version_id, one in declared.items()}
    told = []
    for change in changes:
        job_id = job_ids[change.pipeline_id]
        if change.version_id is None:
            told.append(Declaration(job_id, change.at, None))
            continue
        one = declared[change.version_id]
        told.append(Declaration(job_id, change.at, touched[change.version_id], one.knows_reads, one.knows_writes))
    write_declarations(writing, set(job_ids.values()), told, anew=not is_newest)


def _job_name(project: str, pipeline: str, environment: str) -> Name:
    """Return the name that the events of a pipeline's runs give to its job."""
    return f"{PIPELINES}{environment}", f"{project}/{pipeline}"


def _touches(names: Names, one: Declared) -> frozenset[DeclaredTouch]:
    reads = {(0, names.dataset(name)) for name in one.reads}
    return frozenset(reads | {(1, names.dataset(name)) for name in one.writes})
