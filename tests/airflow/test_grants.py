"""What a team may not read its tasks in Airflow do not begin to read: asked of the real service, else of a copy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

import pytest
from aiflow_airflow.environments import child_environment
from aiflow_airflow.operator import AiflowOperator, TaskFailed
from aiflow_airflow.supply import Ready
from airflow.sdk.exceptions import AirflowFailException

from aiflow_sdk.plan import Plan, read_plan
from service_trial import Service, run_event, running_service

PYTHON = Path(__file__).parents[2] / ".venv" / "bin" / "python"
PIPELINES = """
from pathlib import Path
from aiflow_sdk import pipeline, sink, source

def note(orders):
    Path({called!r}).touch()
    return orders

@pipeline(id="theirs", owner="shop")
def theirs(p):
    p.write(p.read(source.files(id="numbers", path="numbers.csv")), sink.onelake(id="out", table="shop.orders"))

@pipeline(id="ours", owner="growth")
def ours(p):
    orders = p.read(source.onelake(id="orders", table="shop.orders"))
    p.write(orders.transform(id="note", fn=note), sink.onelake(id="out", table="growth.orders"))
"""
KEPT_HOURS = 2
FRESH_SECONDS = 300


class Worker:
    """An Airflow worker that does what the team growth has deployed, which reads a table of the team shop."""

    def __init__(self, folder: Path, service: Service, admin: str) -> None:
        self.service, self._admin = service, admin
        for team in ("shop", "growth"):
            self.ask("POST", "/api/v1/teams", {"name": team})
        self.tokens = {team: self._token(team) for team in ("shop", "growth")}
        root = folder / "project"
        (root / "pipelines").mkdir(parents=True)
        self.called, self.lake, self.home = folder / "called", folder / "lake", folder / "home"
        (root / "pipelines" / "all.py").write_text(PIPELINES.format(called=str(self.called)))
        (root / "numbers.csv").write_text("n\n1\n2\n")
        environment = f"[environments.dev]\nlake = {json.dumps(str(self.lake))}\n"
        (root / "aiflow.toml").write_text(environment)
        self.environment = {**child_environment(), "AIFLOW_HOME": str(self.home)}
        self._aiflow(root, "run", "theirs")
        event = run_event(job="theirs", outputs=["shop.orders"])
        self.ask("POST", "/api/v1/lineage", event, self.tokens["shop"])
        (root / "aiflow.toml").write_text(
            f'{environment}service = "{service.address}"\nservice_token = "secret://service"\n'
            f"grants_keep_hours = {KEPT_HOURS}\n"
        )
        self._aiflow(root, "compile")
        # As a bundle has it: what is compiled lies elsewhere, and the code has no folder of aiflow's own beside it.
        (found,) = root.glob(".aiflow/compiled/**/ours/plan.json")
        self.plan_path, self.code = folder / "plan.json", folder / "code"
        shutil.copy(found, self.plan_path)
        shutil.copytree(root, self.code, ignore=shutil.ignore_patterns(".aiflow"))
        self.plan: Plan = read_plan(self.plan_path.read_bytes())
        self.environment["AIFLOW_SECRET_SERVICE"] = self.tokens["growth"]

    def ask(self, method: str, path: str, body: Any, token: str | None = None) -> Any:
        headers = {"Authorization": f"Bearer {token or self._admin}", "Content-Type": "application/json"}
        answer = self.service.request(method, path, json.dumps(body).encode(), headers)
        assert answer.status in (200, 201), answer
        return answer.json()

    def _token(self, team: str) -> str:
        wanted = {"name": "airflow", "team": team, "role": "operator", "account": "airflow"}
        return str(self.ask("POST", "/api/v1/tokens", wanted)["secret"])

    def _aiflow(self, root: Path, *words: str) -> None:
        command = [str(PYTHON), "-m", "aiflow_sdk.cli", *words]
        done = subprocess.run(command, cwd=root, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def grant(self) -> None:
        self.ask("POST", "/api/v1/grants", {"from_team": "shop", "to_team": "growth", "dataset": "shop.orders"})

    @contextmanager
    def ready(self) -> Iterator[Ready]:
        scratch = Path(tempfile.mkdtemp(dir=self.home.parent))
        yield Ready(PYTHON, self.code, scratch, self.environment, self.plan_path, {})

    objects = None
    """A worker's supply has a store of what it fetched; this one has nothing to fetch."""

    def do(self) -> None:
        (task,) = self.plan.tasks
        # A task's context is made by Airflow's supervisor alone; the live tests have real ones.
        dag_run = SimpleNamespace(
            dag_id="ours",
            run_id="manual__x",
            run_after=datetime(2026, 11, 21, 3, tzinfo=UTC),
            run_type="manual",
            clear_number=0,
            conf=None,
            partition_key=None,
            consumed_asset_events=[],
        )
        event = lambda: SimpleNamespace(extra=None, add_partitions=lambda keys: None)  # noqa: E731 one line says it
        context: Any = {
            "dag_run": dag_run,
            "ti": SimpleNamespace(try_number=1, max_tries=1, get_task_states=lambda dag_id, run_ids: {"manual__x": {}}),
            "params": {},
            "outlet_events": defaultdict(event),
        }
        AiflowOperator(task_id=task.id, plan=self.plan, plan_task=task, supply=self).execute(context)

    def was_called(self) -> bool:
        """Tell whether the user's function was, since this was asked last."""
        found = self.called.exists()
        self.called.unlink(missing_ok=True)
        return found

    @property
    def copies(self) -> list[Path]:
        """What the worker keeps, and what lies in the staging for those that come and go."""
        return [self.home / "grants/dev/default/ours.json", self.lake / "_staging/grants/default/ours.json"]

    def age(self, seconds: float) -> None:
        for copy in self.copies:
            told = json.loads(copy.read_bytes())
            copy.write_text(json.dumps({**told, "made_at": told["made_at"] - seconds}))
            os.utime(copy, (time.time() - seconds,) * 2)


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    address = f"sqlite:///{tmp_path / 'service.db'}"
    (tmp_path / "service.toml").write_text("[sign_in]\n")
    making = [str(PYTHON), "-m", "aiflow_service", "--database", address, "--admin-token"]
    admin = subprocess.run(making, check=True, capture_output=True, text=True).stdout.strip()
    settings = ["--settings", str(tmp_path / "service.toml")]
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path / "home"))
    with running_service(tmp_path, address, *settings, python=PYTHON) as service:
        yield Worker(tmp_path, service, admin)


def test_what_the_team_may_not_read_is_refused_as_the_task_starts_naming_the_grant(worker: Worker):
    ask = r"aiflow grant add shop\.orders --to growth --access read"
    with pytest.raises(AirflowFailException, match=ask) as caught:  # trying again would not help
        worker.do()
    assert "error[no-grant]" in str(caught.value)
    assert not worker.was_called()
    worker.service.kill()
    with pytest.raises(AirflowFailException, match=ask):  # the copy's word, while nobody can be asked
        worker.do()
    assert not worker.was_called()


def test_a_copy_stands_for_a_service_that_is_down_until_it_is_too_old(worker: Worker):
    worker.grant()
    worker.do()
    assert worker.was_called()
    worker.service.kill()
    worker.age(FRESH_SECONDS + 60)  # so that the service is asked, and the copy stands for it
    worker.do()
    assert worker.was_called()
    worker.copies[0].unlink()  # another worker, which has heard nothing itself
    worker.do()
    assert worker.was_called()
    shutil.copy(worker.copies[1], worker.copies[0])
    worker.age(3600 * KEPT_HOURS)
    with pytest.raises(TaskFailed, match="older than 2 hours") as caught:  # which Airflow tries again
        worker.do()
    assert "error[grants-unknown]" in str(caught.value)
    assert not worker.was_called()
