"""What the metadata service remembers of a pipeline's deployments, which goes further back than the bundle store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from aiflow_sdk.bundles import Release
from aiflow_sdk.bundles.model import Note
from aiflow_sdk.deployment.history import HistoryEntry, Version
from aiflow_sdk.difference import Difference
from aiflow_sdk.ir import read_pipeline
from aiflow_sdk.plan import read_plan
from aiflow_sdk.service import Service

_PAGE = 50
_NAMES = 500


class RecordedPipeline:
    """One pipeline of a project as the service has recorded it; every method may raise ``ReceiverError``."""

    def __init__(self, service: Service, environment: str, project: str, pipeline: str) -> None:
        self.service, self.environment, self.project = service, environment, project
        found = service.get("pipelines", project=project, name=pipeline, limit=1) or {}
        self._number: int | None = next((one["id"] for one in found.get("items", ())), None)

    def names(self) -> list[str]:
        """Return the pipelines of the project that the service has recorded."""
        return [one["pipeline"] for one in self.service.pages("pipelines", project=self.project, limit=_NAMES)]

    def history(self) -> Iterator[tuple[str, HistoryEntry]]:
        """Yield the releases in which something became of the pipeline, the newest first, each with its key."""
        if self._number is None:
            return
        path = f"pipelines/{self._number}/history"
        for told in self.service.pages(path, environment=self.environment, limit=_PAGE):
            yield told["release"]["key"], _entry(told)

    def version(self, beginning: str) -> Version | None:
        """Return a version by the beginning of its fingerprint or of the project's version; None of an unknown one."""
        if self._number is None:
            return None
        path = f"pipelines/{self._number}/versions/{beginning}"
        told = self.service.get(path, environment=self.environment)
        if told is None:
            return None
        ir, plan = (json.dumps(told[name]) for name in ("ir", "plan_document"))
        return Version(read_pipeline(ir), read_plan(plan), _release(told["released"]) if told["released"] else None)


def recalled_history(
    stored: Iterable[HistoryEntry], recorded: Iterable[tuple[str, HistoryEntry]]
) -> list[HistoryEntry]:
    """Return both together, the newest first: what the store has, and of what it has no more, what is recorded.

    The oldest that the store has is told as the service has it, which knows what it differs from, if from anything.
    """
    found = list(stored)
    told = dict(recorded)
    keys = {entry.release.key for entry in found}
    earlier = sorted((one for key, one in told.items() if key not in keys), key=_place, reverse=True)
    if found and found[-1].differences is None and earlier:
        oldest = found.pop()
        if same := told.get(oldest.release.key):
            found.append(replace(same, is_current=oldest.is_current))
        elif earlier[0].version != oldest.version:
            found.append(oldest)
        else:  # it is only the oldest release that is kept: the pipeline came to it as it was
            earlier[0] = replace(earlier[0], is_current=oldest.is_current)
    return sorted([*found, *earlier], key=_place, reverse=True)


def _place(entry: HistoryEntry) -> tuple[datetime, int]:
    return datetime.fromisoformat(entry.release.at), entry.release.number


def _entry(told: Mapping[str, Any]) -> HistoryEntry:
    differences = tuple(map(Difference.from_dict, told["differences"])) if told["changed"] == "changed" else None
    version = told["version"]["version"] if told["version"] else None
    return HistoryEntry(_release(told["release"]), version, differences)


def _release(told: Mapping[str, Any]) -> Release:
    note = Note(told["message"] or "", told["commit"] or "", told["dirty"])
    return Release(
        told["number"], "", told["project"], told["project_version"], told["action"], told["by"], told["at"], "", note
    )
