"""Every version of every pipeline, and which release made it the current one of which environment."""

from aiflow_service.registry.reading import (
    compare_versions,
    current_plan,
    find_pipeline,
    find_version,
    list_history,
    list_pipelines,
    list_releases,
)
from aiflow_service.registry.submission import Member, ReleaseSubmission, VersionSubmission
from aiflow_service.registry.writing import MissingVersions, record_release, record_versions

__all__ = [
    "Member",
    "MissingVersions",
    "ReleaseSubmission",
    "VersionSubmission",
    "compare_versions",
    "current_plan",
    "find_pipeline",
    "find_version",
    "list_history",
    "list_pipelines",
    "list_releases",
    "record_release",
    "record_versions",
]
