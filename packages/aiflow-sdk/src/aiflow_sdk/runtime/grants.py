"""Whether a task may touch its datasets: asked of a copy of what the metadata service said, which lies near it.

One copy is kept for each pipeline of an environment: in ``.aiflow/grants`` of the project's folder, on an Airflow
worker in aiflow's home there, and for workers that come and go in ``grants/`` of the environment's staging. A fresh one
that allows all is all that is looked at. Else the service is asked; while it is silent, the newest copy counts until it
is older than the environment says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aiflow_sdk.config import Environment, resolve_secrets
from aiflow_sdk.errors import AccessError, AiflowError, StoreError, Where
from aiflow_sdk.lineage import worker_home
from aiflow_sdk.plan import Plan
from aiflow_sdk.service import Grants, Touch, ask_grants, is_guarded, no_grant, touch_of
from aiflow_sdk.stores import Store, folder_name, open_store, replace_file

FRESH_SECONDS = 300.0
"""How long a copy counts without asking: so long after its end a grant may still be gone by."""
_RETRY_SECONDS = 30.0
"""How soon a silent service is asked again."""
_CONNECT_SECONDS, _ANSWER_SECONDS = 1.0, 5.0


@dataclass
class Gate:
    """Lets the tasks of a plan touch what its team may, in the environment that it was compiled for."""

    plan: Plan
    environment: Environment
    root: Path
    """The project's folder."""

    @staticmethod
    def of(plan: Plan, environment: Environment, root: Path) -> Gate | None:
        """Return the gate of an environment where grants hold, None of another. Raises ``ConfigurationError``."""
        return Gate(plan, environment, root) if is_guarded(environment) else None

    def check(self, touches: Mapping[Touch, Where]) -> None:
        """Return if all of this may be touched.

        Raises ``AccessError``: ``no-grant`` where it may not, ``grants-unknown`` where nobody can say.
        """
        path = self._file()
        kept, is_due = self._kept(path)
        if kept is None or is_due or self._refused(kept, touches):
            kept = self._asked(path, kept, touches)
        if refused := self._refused(kept, touches):
            raise no_grant(kept.team, refused, touches[refused[0]])

    def _asked(self, path: Path, kept: Grants | None, touches: Mapping[Touch, Where]) -> Grants:
        """Return what the service says now, else what was kept of it last."""
        from aiflow_sdk.service import Service  # a task that asks nobody does not pay for it

        try:
            service = Service(self.environment, timeout_seconds=_ANSWER_SECONDS, connect_seconds=_CONNECT_SECONDS)
            wanted = {*_touches_of(self.plan), *touches}
            found = ask_grants(service, self.plan.project, self.environment.name, wanted)
        except AiflowError as error:
            with suppress(OSError):
                moment = time.time()
                os.utime(path, (moment, moment - FRESH_SECONDS + _RETRY_SECONDS))
            return self._recalled(kept, touches, error)
        self._keep(path, found)
        return found

    def _recalled(self, kept: Grants | None, touches: Mapping[Touch, Where], why: AiflowError) -> Grants:
        now = time.time()
        oldest = now - 3600 * self.environment.grants_keep_hours
        usable = [
            one
            for one in (kept, self._shared())
            if one and oldest <= one.made_at <= now + FRESH_SECONDS and None not in self._said(one, touches, now)
        ]
        if usable:
            return max(usable, key=lambda one: one.made_at)
        hours = self.environment.grants_keep_hours
        raise AccessError(
            "grants-unknown",
            f"nobody can say whether '{self.plan.project}/{self.plan.pipeline_id}' may touch its datasets: "
            f"{why.message}, and what it said last is older than {hours:g} hours or was never heard here",
            where=next(iter(touches.values()), None),
            hint="let the service be reached; grants_keep_hours of the environment says how long it may be silent",
            retryable=True,
            notes=[str(why)],
        ) from why

    def _refused(self, grants: Grants, touches: Mapping[Touch, Where]) -> list[Touch]:
        said = self._said(grants, touches, time.time())
        return [touch for touch, is_allowed in zip(touches, said, strict=True) if not is_allowed]

    @staticmethod
    def _said(grants: Grants, touches: Iterable[Touch], now: float) -> list[bool | None]:
        return [grants.allows(touch, now) for touch in touches]

    def _file(self) -> Path:
        home = self.root / ".aiflow"
        place = home if home.is_dir() else worker_home()
        return place / "grants" / folder_name(self.environment.name) / self._key

    @property
    def _key(self) -> str:
        return f"{folder_name(self.plan.project)}/{folder_name(self.plan.pipeline_id)}.json"

    def _kept(self, path: Path) -> tuple[Grants | None, bool]:
        """Return the copy on this machine, and whether it is time to ask again; its file's time is that of asking."""
        try:
            with path.open("rb") as file:
                age_seconds = time.time() - os.fstat(file.fileno()).st_mtime
                found = Grants.from_json(file.read())
        except OSError:
            return None, True
        if found is not None and found.service != self.environment.service:
            found = None
        return found, not 0 <= age_seconds < FRESH_SECONDS

    def _keep(self, path: Path, found: Grants) -> None:
        """Keep a copy here and in the staging; where that cannot be, it is asked for again."""
        with suppress(OSError, StoreError):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, found.to_json())
        with suppress(AiflowError, OSError):
            self._store().put(f"grants/{self._key}", found.to_json().encode())

    def _shared(self) -> Grants | None:
        try:
            text = self._store().read(f"grants/{self._key}")
        except (AiflowError, OSError):
            return None
        found = Grants.from_json(text) if text else None
        return found if found is not None and found.service == self.environment.service else None

    def _store(self) -> Store:
        storage = resolve_secrets(dict(self.environment.storage), self.environment)
        return open_store(self.environment.staging_root, storage=storage)


def _touches_of(plan: Plan) -> Iterator[Touch]:
    """Yield what the plan touches, as far as it is known before the run."""
    for node in plan.node_list:
        if node.dataset is not None and node.type != "transform" and (touch := touch_of(node.type, node.dataset)):
            yield touch
