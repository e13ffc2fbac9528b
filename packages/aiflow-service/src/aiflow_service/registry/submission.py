"""What a deployment sends: versions with their documents, and the release that made them current."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.ir import PipelineIR, read_pipeline
from aiflow_sdk.plan import Plan, read_plan
from aiflow_service.database.moments import MICROSECONDS, moment_of, now
from aiflow_service.masking import hide_secrets_in_text
from aiflow_service.openlineage.limits import MAX_NAME_BYTES

MAX_DOCUMENT_BYTES = 8 * 1024 * 1024
MAX_VERSIONS = 500
"""How many may be sent at once."""
MAX_PIPELINES = 100_000
MAX_NUMBER = 2**53
_AHEAD = 24 * 3600 * MICROSECONDS
_MAX_INDEXED_BYTES = 1_000
"""Of texts of which two stand in one index: PostgreSQL's entries end at 2,704 bytes."""


def _without_null(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds the character U+0000")
    return text


def _indexed(text: str) -> str:
    if len(text.encode()) > _MAX_INDEXED_BYTES:
        raise ValueError(f"it is longer than {_MAX_INDEXED_BYTES} bytes")
    return text


def _is_past(at: datetime) -> datetime:
    if not 0 <= moment_of(at) <= now() + _AHEAD:
        raise ValueError("it lies before 1970 or more than a day ahead, and would be the newest until then")
    return at


Word = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_without_null)]
Prose = Annotated[str, Field(max_length=4_000), AfterValidator(_without_null), AfterValidator(hide_secrets_in_text)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class VersionSubmission(_Sent):
    """One version of a pipeline: the texts of its definition and of its plan for one environment."""

    ir: Annotated[str, Field(min_length=2, max_length=MAX_DOCUMENT_BYTES)]
    plan: Annotated[str, Field(min_length=2, max_length=MAX_DOCUMENT_BYTES)]

    @cached_property
    def checked(self) -> CheckedVersion:
        """The version read. Raises ``ValueError`` for what is no definition and plan of one pipeline."""
        try:
            ir, plan = read_pipeline(self.ir), read_plan(self.plan)
        except AiflowError as error:
            raise ValueError(str(error)) from error
        except RecursionError as error:
            raise ValueError("objects and lists are nested too deep") from error
        if ir.id != plan.pipeline_id or ir.fingerprint != plan.definition:
            raise ValueError("the definition is not the one that the plan was made of")
        for text in (plan.project, plan.pipeline_id, plan.environment.name, plan.version, plan.definition):
            if not 0 < len(_without_null(text)) <= 500:
                raise ValueError("a name in the plan is empty or longer than 500 characters")
        for node in plan.node_list:
            if node.dataset and not all(
                0 < len(_without_null(text).encode()) <= MAX_NAME_BYTES for text in node.dataset
            ):
                raise ValueError(f"a dataset's name in the plan is empty or longer than {MAX_NAME_BYTES} bytes")
        return CheckedVersion(ir, plan, digest_of(self.ir), digest_of(self.plan))


@dataclass(frozen=True)
class CheckedVersion:
    """A version that has been read."""

    ir: PipelineIR
    plan: Plan
    ir_digest: str
    plan_digest: str


class Member(_Sent):
    """A pipeline of a release."""

    project: Word
    pipeline: Word
    ir: Digest
    plan: Digest


class ReleaseSubmission(_Sent):
    """A release of a project to an environment, with every pipeline that it holds."""

    key: Annotated[Word, AfterValidator(_indexed)]
    """Tells it from every other release of the project in the environment."""
    number: Annotated[int, Field(ge=0, le=MAX_NUMBER)]
    project: Word
    environment: Annotated[Word, AfterValidator(_indexed)]
    project_version: Word
    action: Literal["deploy", "rollback"]
    author: Prose = ""
    at: Annotated[AwareDatetime, AfterValidator(_is_past)]
    message: Prose | None = None
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    dirty: bool | None = None
    pipelines: Annotated[tuple[Member, ...], Field(max_length=MAX_PIPELINES)]

    @property
    def moment(self) -> int:
        """When it was made."""
        at: datetime = self.at
        return moment_of(at)


def digest_of(text: str) -> str:
    """Return the name of a document: the SHA-256 of its text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
