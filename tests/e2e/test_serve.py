"""``aiflow serve`` in a project's folder knows the project's runs without anything being set up."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from projects import AIFLOW, aiflow, lay

PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="orders_daily", schedule="@daily")
def orders_daily(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    p.write(orders.sql("select id, 2 * id as twice from {orders}", id="twice", engine="python"),
            sink.onelake(id="out", table="mart.orders", partition_by=["dt"]))
"""


def ask(address: str, path: str) -> Any:
    with urllib.request.urlopen(address + path, timeout=30) as answer:
        return json.load(answer)


def runs_of(address: str, number: int) -> list[dict[str, Any]]:
    """Return the runs once there are so many and all have ended."""
    deadline = time.monotonic() + 60
    while True:
        found: list[dict[str, Any]] = ask(address, "/api/v1/runs")["items"]
        if len(found) == number and all(run["state"] != "running" for run in found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Give the address of the service of a folder, and end it as Ctrl-C does."""
    command = [*AIFLOW, "--json", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as service:
        assert service.stdout
        try:
            yield json.loads(service.stdout.readline())["address"]
            service.send_signal(signal.SIGINT)
            assert service.wait(60) == 0
        finally:
            service.kill()


def test_it_tells_of_past_runs_and_of_those_that_come_and_again_with_a_new_database(tmp_path):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "__init__.py").touch()
    (tmp_path / "pipelines" / "orders.py").write_text(PIPELINE)
    for day in ("2026-11-20", "2026-11-21"):
        lay(tmp_path, "raw/orders", [{"id": 1, "dt": day}, {"id": 2, "dt": day}], "dt")
    aiflow(tmp_path, "run", "orders_daily", "--date", "2026-11-20")
    for number in (1, 2):
        with serving(tmp_path) as address:
            known = runs_of(address, number)
            assert {run["state"] for run in known} == {"succeeded"}
            if number == 1:
                aiflow(tmp_path, "run", "orders_daily", "--date", "2026-11-21")
                known = runs_of(address, 2)
            assert [run["partition"] for run in known] == ["2026-11-21", "2026-11-20"]
            (table,) = ask(address, "/api/v1/datasets?q=mart")["items"]
            named = urlencode({"direction": "up", "namespace": table["namespace"], "dataset": table["name"]})
            graph = ask(address, f"/api/v1/lineage/tables?{named}")
            assert {node["name"] for node in graph["datasets"]} == {"mart.orders", "raw.orders"}
        for path in (tmp_path / ".aiflow").glob("service.db*"):
            path.unlink()


def test_three_days_of_the_starter_project_have_one_input(tmp_path):
    aiflow(tmp_path, "init", "shop")
    root = tmp_path / "shop"
    days = sorted(path.name.removeprefix("dt=") for path in (root / "data/orders").iterdir())[-3:]
    aiflow(root, "backfill", "daily_revenue", "--from", days[0], "--to", days[-1])
    with serving(root) as address:
        runs_of(address, 3)
        graph = ask(address, "/api/v1/lineage/tables?direction=up&namespace=onelake&dataset=shop.daily_revenue")
        assert {node["name"] for node in graph["datasets"]} == {"shop.daily_revenue", "data/orders"}
        (table,) = ask(address, "/api/v1/datasets?q=daily_revenue")["items"]
        made = ask(address, f"/api/v1/datasets/{table['id']}/partitions?environment=dev")["items"]
        inputs = [(one["dataset"]["name"], one["partitions"]) for part in made for one in part["made"]["inputs"]]
        assert inputs == [("data/orders", [f"dt={day}"]) for day in days]
