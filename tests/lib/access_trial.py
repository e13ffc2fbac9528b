"""A company on one signed-in service: teams, people of every role, and things of each team."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiflow_sdk.config import load_project
from aiflow_sdk.deployment import deploy_project, open_bundles
from aiflow_sdk.plugins import installed_registry
from harness.openid import OpenIdProvider
from service_trial import Answer, Service, run_event, unique

ROLES = ("viewer", "operator", "editor", "owner", "admin")
VARIABLE = "/api/v1/environments/dev/configuration/variable/{item}"
"""Where a variable stands."""


@dataclass
class Person:
    """Somebody with a token."""

    service: Service
    secret: str

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Answer:
        """Ask as this person."""
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        return self.service.request(method, path + (f"?{urlencode(query)}" if query else ""), raw, headers)

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of an answer that must be 200."""
        answer = self.ask("GET", path, **query)
        assert answer.status == 200, answer
        return answer.json()

    def do(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON of a change that must be made."""
        answer = self.ask(method, path, body)
        assert answer.status in (200, 201), answer
        return answer.json()

    def send(self, **event: Any) -> Answer:
        """Send an event."""
        return self.ask("POST", "/api/v1/lineage", run_event(**event))

    def names(self, path: str, **query: Any) -> set[str]:
        """Return the names of what a list shows."""
        return {one["name"] for one in self.get(path, **query, limit=500)["items"]}


@dataclass
class Company:
    """The service, its administrator, and the provider that people sign in at."""

    service: Service
    admin: Person
    provider: OpenIdProvider
    stranger: Service | None = None
    _issued: dict[tuple[str, str], Person] = field(default_factory=dict)

    def team(self, name: str = "team") -> str:
        """Make a team and return its name, which no other test uses."""
        made = unique(name)
        self.admin.do("POST", "/api/v1/teams", {"name": made})
        return made

    def person(self, team: str, role: str = "editor", **more: Any) -> Person:
        """Return somebody with a role in a team."""
        if (team, role) in self._issued and not more:
            return self._issued[team, role]
        wanted = {"name": f"{role} of {team}", "team": team, "role": role, "account": f"{role}-robot", **more}
        found = Person(self.service, self.admin.do("POST", "/api/v1/tokens", wanted)["secret"])
        if not more:
            self._issued[team, role] = found
        return found


def pipeline_documents(folder: Path) -> dict[str, str]:
    """Return the definition and the plan of a pipeline of the project ``shop``, as ``aiflow deploy`` sends them."""
    (folder / "pipelines").mkdir()
    (folder / "aiflow.toml").write_text('project = "shop"\nlock = "a.lock"\n\n[environments.dev]\nlake = "lake"\n')
    (folder / "a.lock").write_text("polars==2.1.0\naiflow-sdk==0.1.0\n")
    (folder / "pipelines" / "daily.py").write_text(
        "from aiflow_sdk import pipeline, sink, source\n\n"
        '@pipeline(id="daily", owner="ana")\n'
        "def flow(p):\n"
        '    orders = p.read(source.onelake(id="orders", table="raw.orders"))\n'
        '    p.write(orders, sink.onelake(id="out", table="feature.daily"))\n'
    )
    project = load_project(folder)
    environment = project.environment()
    assert deploy_project(project, environment, installed_registry(), by="ana").problems == ()
    store = open_bundles(environment)
    release = store.newest()
    assert release is not None
    (shard,) = store.project(release.project_version).shards.values()
    (entry,) = store.shard(shard).values()
    return {"ir": store.read(entry.ir).decode(), "plan": store.read(entry.plan).decode()}


def release_of(documents: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """Return a release of the pipeline, as ``aiflow deploy`` sends it."""
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in documents.items()}
    member = {"project": "shop", "pipeline": "daily", **digests}
    told = {"key": unique("key"), "number": 1, "project": "shop", "environment": "dev", "project_version": "v1"}
    return {**told, "action": "deploy", "at": "2026-11-20T00:00:00Z", "pipelines": [member], **more}


def admin_token(database: str) -> str:
    """Return an administrator's first token, as an installer makes it."""
    command = [sys.executable, "-m", "aiflow_service", "--database", database, "--admin-token"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write_settings(folder: Path, provider: OpenIdProvider, **more: Any) -> Path:
    """Write the settings of a service where people sign in."""
    file = folder / "service.toml"
    told: Mapping[str, Any] = {"issuer": provider.issuer, "client_id": provider.client_id, **more}
    lines = [f"{key} = {json.dumps(value)}" for key, value in told.items() if not isinstance(value, dict)]
    for key, value in told.items():
        if isinstance(value, dict):
            lines += [f"[sign_in.{key}]", *(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items())]
    file.write_text("\n".join(["[sign_in]", *lines]) + "\n", encoding="utf-8")
    return file


def seconds_of(person: Person, path: str, times: int = 15) -> float:
    """Return the least time that an answer took."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        person.ask("GET", path)
        found.append(time.perf_counter() - began)
    return min(found)
