"""An event as values that nobody changes: what of it is read, beside all of it as it came."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, TypeAlias

from msgspec import Struct

Facets: TypeAlias = Mapping[str, Mapping[str, Any]]
Name: TypeAlias = tuple[str, str]
"""Namespace and name, of a job or a dataset."""


class EventKind(IntEnum):
    """What an event is about; the numbers are stored."""

    RUN = 0
    JOB = 1
    DATASET = 2


class Field(Struct, frozen=True):
    """A column of a dataset's schema; a nested one is called ``outer.inner``."""

    name: str
    type: str | None
    description: str | None


class Schema(Struct, frozen=True):
    """The columns of a dataset in their order; ``digest`` is the same for the same columns."""

    digest: str
    fields: tuple[Field, ...]


class ColumnSource(Struct, frozen=True):
    """That a column of a dataset is made from another; ``target`` ``*`` is the dataset as a whole."""

    target: str
    dataset: Name
    field: str
    kind: str


class DatasetMention(Struct, frozen=True):
    """A dataset in an event, with what was said of it there."""

    name: Name
    is_output: bool
    symlinks: tuple[Name, ...] = ()
    schema: Schema | None = None
    sources: tuple[ColumnSource, ...] = ()
    facets: Facets = {}
    measured: Facets = {}
    """``inputFacets`` or ``outputFacets``."""
    number: int = 0
    """The same number, the same said, beside what was measured; while this process lives."""


class RunMention(Struct, frozen=True):
    """A run that an event names as its parent or root."""

    run_id: str
    job: Name


class Event(Struct, frozen=True):
    """One event. ``time`` in microseconds since 1970; ``digest`` is that of its content, however it was written,
    and of its sender's team, where that one does not speak for all."""

    kind: EventKind
    event_type: str
    time: int
    digest: bytes
    raw: bytes
    job: Name | None
    run_id: str | None
    datasets: tuple[DatasetMention, ...]
    run_facets: Facets
    job_facets: Facets
    parent: RunMention | None
    root: RunMention | None
