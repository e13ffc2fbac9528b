"""Every example, however its runs start, makes in Airflow what local runs make: partitions, rows and statistics."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from deltalake import DeltaTable

from aiflow_sdk.bundles import dag_id_of
from aiflow_sdk.ir.schedule import DatasetCondition
from aiflow_sdk.partitions import Grain, Partition, last_complete, partitions_between
from aiflow_sdk.plan import Plan, make_run, read_plan
from airflow_trial import REPOSITORY, LiveAirflow, Project

EXAMPLES = REPOSITORY / "examples"
GOLDEN = REPOSITORY / "tests" / "golden" / "plans"
"""What the examples compile to; ``tests/golden`` sees to it that none is missing and that they do."""

SETTINGS = "retries=1, retry_delay_minutes=0.02, "
"""What the examples' pipelines are given beside their own settings, so that a task that fails is tried again."""
FAILING = """

def fails_once(function, pipeline):
    import functools, pathlib
    mark = pathlib.Path(FOLDER, pipeline)

    @functools.wraps(function)
    def tried(*arguments, **named):
        if mark.exists():
            mark.unlink()
            raise RuntimeError("no luck this time")
        return function(*arguments, **named)

    return tried
"""


def plans_of(folder: Path) -> dict[str, Plan]:
    """Return the golden plans of an example by the pipelines' ids."""
    documents = [json.loads(path.read_text()) for path in sorted(folder.rglob("plan.json"))]
    unlocked = {"lock": "v1:", "version": "v1:"}  # they tell of one machine, and are left out there
    return {one["pipeline_id"]: read_plan({**one, **unlocked}) for one in documents}


PLANS = {folder.name: plans_of(folder) for folder in sorted(GOLDEN.iterdir())}


def starts_of(plan: Plan) -> Iterator[str]:
    """Yield how runs of a pipeline can start: by a clock or by its inputs only if it says so, the rest always."""
    match plan.schedule:
        case str():
            yield "schedule"
        case DatasetCondition():
            yield "dataset"
    yield "by-hand"
    if plan.partition:
        yield "backfill"
    yield "clear"
    yield "retry"


CASES = [
    pytest.param(example, pipeline, start, id=f"{example}-{pipeline}-{start}")
    for example, plans in PLANS.items()
    for pipeline, plan in plans.items()
    for start in starts_of(plan)
]
ASKED = {"by-hand": 2, "clear": 2, "backfill": 3, "retry": 4}
"""How far back from the last complete partition, which a clock may not have come to yet, is what a start asks for."""
ASKED_DRIVEN = {"by-hand": 5, "clear": 5, "backfill": 6, "retry": 7}
"""The same of a pipeline that its inputs start: else two runs made one partition, and the older had nothing to tell."""
NEWEST, OLDEST = min(ASKED.values()), max(ASKED_DRIVEN.values())
NOW = datetime.now(UTC)
DAYS = 9
"""How far back the tables go that nobody here makes."""
KINDS = {"schedule": "scheduled", "dataset": "asset_triggered", "backfill": "backfill"}
"""What Airflow calls runs that start by themselves, or by its own backfill."""


def is_driven(plan: Plan) -> bool:
    return isinstance(plan.schedule, DatasetCondition)


def key_of(plan: Plan, start: str) -> str:
    """Return the partition that is asked for."""
    return last_of(plan).offset(-asked_of(plan)[start]).key


def asked_of(plan: Plan) -> Mapping[str, int]:
    """Return how far back the starts of a pipeline ask."""
    return ASKED_DRIVEN if is_driven(plan) else ASKED


def last_of(plan: Plan, grain: Grain | None = None) -> Partition:
    """Return the last partition that is complete."""
    grain = grain or plan.partition
    assert grain is not None
    return last_complete(grain, plan.timezone, NOW)


def first_of(plan: Plan) -> Partition:
    """Return the oldest partition for which there are inputs."""
    return last_of(plan).offset(-OLDEST)


def days_of(plan: Plan) -> list[Partition]:
    """Return the days for which there is data, the day after today the last."""
    last = last_of(plan, "day")
    return [last.offset(-ago) for ago in range(DAYS, -3, -1)]


def flights(plan: Plan) -> list[dict[str, Any]]:
    late = (("AA", 3.5), ("AA", None), ("UA", -2.0), ("UA", 40.25), ("B6", 12.0))
    return [
        {"carrier": carrier, "dep_delay": None if delay is None else delay + number, "dt": day.key}
        for number, day in enumerate(days_of(plan))
        for carrier, delay in late
    ]


def orders(plan: Plan) -> list[dict[str, Any]]:
    return [
        {"order_id": 100 * number + user, "user_id": user % 3, "amount": float(user + number), "dt": day.key}
        for number, day in enumerate(days_of(plan))
        for user in range(7)
    ]


def clicks(plan: Plan) -> list[dict[str, Any]]:
    first, *_, last = (Partition.containing(day.start, "hour", plan.timezone) for day in days_of(plan))
    return [
        {"page": page, "hour": hour.key}
        for number, hour in enumerate(partitions_between(first, last))
        for page, many in (("home", 1 + number % 3), ("cart", 2), ("help", number % 2))
        for _ in range(many)
    ]


RAW = {"raw.flights": flights, "raw.sales_orders": orders, "raw.clicks": clicks}
"""The tables that the examples read and none of them makes."""


def tables_of(plan: Plan, kind: str) -> set[str]:
    return {node.dataset[1] for node in plan.node_list if node.type == kind and node.dataset}


def reads(reader: Plan, maker: Plan) -> bool:
    return bool(tables_of(maker, "sink") & tables_of(reader, "source"))


class Example(Project):
    """A copy of an example, as one would change it: a lake of one's own, retries, and functions that may fail."""

    def __init__(self, name: str, root: Path, airflow: LiveAirflow) -> None:
        shutil.copytree(EXAMPLES / name, root, ignore=shutil.ignore_patterns(".aiflow", "__pycache__", "demo.py"))
        self.plans = PLANS[name]
        super().__init__(root, airflow, next(iter(self.plans.values())).project)
        self.failing = root.with_name(f"{name}-failing")
        """A file here is called as the pipeline that is to fail once."""
        self.failing.mkdir()
        who = root / "who_imports.py"
        who.write_text(who.read_text() + FAILING.replace("FOLDER", repr(str(self.failing))))
        texts = {path: path.read_text().replace("@pipeline(", f"@pipeline({SETTINGS}") for path in root.rglob("*.py")}
        del texts[who]
        for plan in self.plans.values():
            for node in plan.node_list:
                module, _, function = (node.entrypoint or "").partition(":")
                if function:
                    wrapped = f"{function} = fails_once({function}, {plan.pipeline_id!r})"
                    texts[root / f"{module.replace('.', '/')}.py"] += (
                        f"\nfrom who_imports import fails_once\n{wrapped}\n"
                    )
        for path, text in texts.items():
            self.write(str(path.relative_to(root)), text)
        documents = (json.loads(path.read_text()) for path in (GOLDEN / name).rglob("ir.json"))
        clusters = {node.get("resources", {}).get("cluster") for one in documents for node in one["nodes"]} - {None}
        with (root / "aiflow.toml").open("a") as file:
            for environment in (airflow.environment, "alone"):
                file.writelines(
                    f'\n[environments.{environment}.clusters.{cluster}]\nkind = "local"\n' for cluster in clusters
                )

    def lay(self) -> None:
        """Make the tables that are there before anything runs, the same in both lakes."""
        in_airflow, alone = self.lakes
        made = {table for plan in self.plans.values() for table in tables_of(plan, "sink")}
        for plan in self.plans.values():
            for node in plan.node_list:
                if node.type == "source" and node.dataset and node.dataset[1] not in made:
                    place = alone.joinpath(*node.dataset[1].split("."))
                    place.parent.mkdir(parents=True, exist_ok=True)
                    rows = pl.DataFrame(RAW[node.dataset[1]](plan))
                    rows.write_delta(place, delta_write_options={"partition_by": list(node.options["partitions"])})
        pairs = [(one, other) for one in self.in_order() for other in self.plans.values() if reads(other, one)]
        for maker, reader in pairs:
            if not is_driven(reader):
                self._make(maker, first_of(reader), last_of(reader), "alone")
        shutil.copytree(alone, in_airflow)
        for maker, reader in pairs:
            if is_driven(reader):  # it gets the newest by its input; of the others nobody is told, who made them here
                for environment in (self.airflow.environment, "alone"):
                    self._make(maker, first_of(reader), last_of(reader).offset(-NEWEST), environment)

    def _make(self, maker: Plan, first: Partition, last: Partition, environment: str) -> None:
        """Make what lies within the partitions of a reader."""
        keys = [
            Partition.containing(moment, maker.partition or "day", maker.timezone).key
            for moment in (first.start, last.end - timedelta(microseconds=1))
        ]
        self.aiflow("backfill", maker.pipeline_id, "--env", environment, "--from", keys[0], "--to", keys[1])

    def in_order(self) -> list[Plan]:
        """Return the plans, each after those whose tables it reads."""
        left, ordered = list(self.plans.values()), list[Plan]()
        while left:
            free = [one for one in left if not any(reads(one, other) for other in left)]
            ordered += free
            left = [one for one in left if one not in free]
        return ordered


Key = tuple[str, str, str]
Facts = tuple[int | None, int | None]
"""Of a node: rows and bytes, where they were measured."""


class Made(NamedTuple):
    """What a run made."""

    partition: str
    due: datetime
    facts: Mapping[str, Facts]


class Agreement:
    """All examples, run every way in Airflow, many at once, and then locally."""

    def __init__(self, folder: Path, airflow: LiveAirflow) -> None:
        self.airflow = airflow
        self.examples = {name: Example(name, folder / name, airflow) for name in PLANS}
        self.in_airflow: dict[Key, Made] = {}
        """Example, pipeline, start → what it made."""
        self.alone: dict[Key, Mapping[str, Facts]] = {}
        """Example, pipeline, partition → the facts of the local run."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(Example.lay, self.examples.values()))
            list(pool.map(Example.deploy, self.examples.values()))
            self._do_again(self._start())
            list(pool.map(self._run_alone, self.examples))

    def dag_id(self, example: str, pipeline: str) -> str:
        """Return the id of a pipeline's DAG."""
        return dag_id_of(self.examples[example].name, pipeline)

    def _start(self) -> dict[Key, str]:
        """Start every pipeline every way at once, wait for what comes of it, and return the runs by hand."""
        airflow, runs = self.airflow, dict[Key, str]()
        for name, plan in self._each():
            dag_id = self.dag_id(name, plan.pipeline_id)
            airflow.await_dag(dag_id)
            airflow.unpause(dag_id)
            runs[name, plan.pipeline_id, "by-hand"] = airflow.trigger(dag_id, key_of(plan, "by-hand"))
            if "backfill" in starts_of(plan):
                moment = Partition.parse(
                    key_of(plan, "backfill"), plan.partition or "day", plan.timezone
                ).start.isoformat()
                airflow.call("POST", "backfills", {"dag_id": dag_id, "from_date": moment, "to_date": moment})
        for name, plan in self._each():
            for start in starts_of(plan):
                if start in KINDS:
                    first = partial(self._first, self.dag_id(name, plan.pipeline_id), KINDS[start])
                    runs[name, plan.pipeline_id, start] = airflow.until(first, f"{plan.pipeline_id} by {start}", 300)
        for (name, pipeline, start), run_id in runs.items():
            self._await(name, pipeline, start, run_id)
        for name, plan in self._each():
            if is_driven(plan):
                airflow.until(partial(self._has_followed, name, plan), f"{plan.pipeline_id} for all its inputs", 300)
        return runs

    def _has_followed(self, name: str, plan: Plan) -> bool:
        """Tell whether every partition that runs made of a driven pipeline's inputs has had its run, and it ended."""
        makers = [one for one in PLANS[name].values() if reads(plan, one)]
        made = {run["partition_key"] for one in makers for run in self._runs(name, one)}
        own = self._runs(name, plan)
        followed = {run["partition_key"] for run in own if run["run_type"] == KINDS["dataset"]}
        return made <= followed and all(run["state"] == "success" for run in own)

    def _runs(self, name: str, plan: Plan) -> list[dict[str, Any]]:
        return self.airflow.runs(self.dag_id(name, plan.pipeline_id))

    def _do_again(self, runs: Mapping[Key, str]) -> None:
        """Clear the runs by hand, and let a task of another run fail once.

        Those go first that their inputs start: the run that comes of an input's must not be the one that fails.
        """
        driven = [(name, plan) for name, plan in self._each() if is_driven(plan)]
        for some in (driven, [one for one in self._each() if one not in driven]):
            self._do_some_again(some, runs)

    def _do_some_again(self, some: list[tuple[str, Plan]], runs: Mapping[Key, str]) -> None:
        retried = {}
        for name, plan in some:
            (self.examples[name].failing / plan.pipeline_id).touch()
            dag_id = self.dag_id(name, plan.pipeline_id)
            retried[name, plan.pipeline_id] = self.airflow.trigger(dag_id, key_of(plan, "retry"))
        for name, plan in some:
            mark = self.examples[name].failing / plan.pipeline_id
            self.airflow.until(lambda mark=mark: not mark.exists(), f"the failure of {plan.pipeline_id}", 300)
            self.airflow.clear(self.dag_id(name, plan.pipeline_id), runs[name, plan.pipeline_id, "by-hand"])
        for name, plan in some:
            self._await(name, plan.pipeline_id, "clear", runs[name, plan.pipeline_id, "by-hand"])
            self._await(name, plan.pipeline_id, "retry", retried[name, plan.pipeline_id])
            dag_id = self.dag_id(name, plan.pipeline_id)
            run_id = retried[name, plan.pipeline_id]
            (again,) = (task for task in self.airflow.tasks(dag_id, run_id) if task["try_number"] == 2)
            assert "no luck this time" in self.airflow.task_log(dag_id, run_id, again["task_id"], 1)
            self.airflow.pause(dag_id)

    def _run_alone(self, name: str) -> None:
        """Do locally what was done in Airflow."""
        for plan in self.examples[name].in_order():
            self._run_pipeline_alone(name, plan)

    def _run_pipeline_alone(self, name: str, plan: Plan) -> None:
        by_itself = [made.partition for key, made in self.in_airflow.items() if self._is_by_itself(key, name, plan)]
        commands = [["run", plan.pipeline_id, "--date", partition] for partition in by_itself]
        oldest, newest = (last_of(plan).offset(-find(asked_of(plan).values())).key for find in (max, min))
        chosen = ["--from", oldest, "--to", newest, "--force"]
        for command in (*commands, ["backfill", plan.pipeline_id, *chosen]):
            told = self.examples[name].aiflow("--json", *command, "--env", "alone")
            for record in map(json.loads, told.splitlines()):
                if record["record"] == "node-finished":
                    key = name, plan.pipeline_id, record["partition"]
                    facts = record.get("rows"), record.get("bytes")
                    self.alone[key] = {**self.alone.get(key, {}), record["node_id"]: facts}

    def _is_by_itself(self, key: Key, name: str, plan: Plan) -> bool:
        return key[:2] == (name, plan.pipeline_id) and key[2] in ("schedule", "dataset")

    def _await(self, name: str, pipeline: str, start: str, run_id: str) -> None:
        """Wait for a run's end, and keep what its logs and its assets' events tell."""
        dag_id = self.dag_id(name, pipeline)
        run = self.airflow.await_run(dag_id, run_id)
        logs = [self.airflow.task_log(dag_id, run_id, task["task_id"]) for task in self.airflow.tasks(dag_id, run_id)]
        facts: dict[str, Facts] = {}
        for log in logs:
            for line in log.splitlines():
                node, _, told = line.partition(": ")
                if node in PLANS[name][pipeline].nodes:
                    facts[node] = measured(told, "rows"), measured(told, "bytes")
        events = self.airflow.call("GET", "assets/events", source_dag_id=dag_id, source_run_id=run_id)["asset_events"]
        assert events, f"{dag_id}, {run_id} told of nothing that it made\n" + "\n---\n".join(logs)
        newest = max(event["extra"]["execution"] for event in events)
        for event in events:
            told = event["extra"]
            if told["execution"] == newest:
                assert facts[told["node"]] == (told["rows"], told.get("bytes"))
                assert event["partition_key"] == run["partition_key"]
        due = datetime.fromisoformat(run["run_after"])
        self.in_airflow[name, pipeline, start] = Made(run["partition_key"], due, facts)

    def _each(self) -> Iterator[tuple[str, Plan]]:
        for name, plans in PLANS.items():
            for plan in plans.values():
                yield name, plan

    def _first(self, dag_id: str, kind: str) -> str | None:
        return next((run["dag_run_id"] for run in self.airflow.runs(dag_id) if run["run_type"] == kind), None)


def measured(told: str, what: str) -> int | None:
    """Return a number out of what a task's log tells of a node."""
    found = re.search(rf"([\d,]+) {what}", told)
    return int(found[1].replace(",", "")) if found else None


@pytest.fixture(scope="module")
def agreement(tmp_path_factory: pytest.TempPathFactory, airflow: LiveAirflow) -> Agreement:
    return Agreement(tmp_path_factory.mktemp("examples"), airflow)


def rows_of(lake: Path, table: str, column: str, partition: str) -> list[dict[str, Any]]:
    frame = pl.read_delta(str(lake.joinpath(*table.split("."))))
    return sorted(frame.filter(pl.col(column).cast(pl.String) == partition).to_dicts(), key=repr)


def statistics_of(lake: Path, table: str, column: str, partition: str) -> list[dict[str, Any]]:
    """Return what the table's log tells of the partition's files, but for their names, sizes and times."""
    files = DeltaTable(str(lake.joinpath(*table.split(".")))).get_add_actions(flatten=True)
    told = pl.DataFrame(files).filter(pl.col(f"partition.{column}").cast(pl.String) == partition)
    return told.drop("path", "size_bytes", "modification_time").to_dicts()


@pytest.mark.parametrize(("example", "pipeline", "start"), CASES)
def test_a_run_makes_what_a_local_one_makes(agreement: Agreement, example: str, pipeline: str, start: str):
    plan = PLANS[example][pipeline]
    made = agreement.in_airflow[example, pipeline, start]
    match start:
        case "schedule":  # the firing's own moment says for what it is
            assert made.partition == make_run(plan, now=made.due).partition_text
        case "dataset":
            assert made.partition in {one.partition for one in agreement.in_airflow.values()}
        case _:
            assert made.partition == key_of(plan, start)
    in_airflow, alone = agreement.examples[example].lakes
    for sink in plan.node_list:
        if sink.type == "sink" and sink.dataset and sink.time:
            where = sink.dataset[1], sink.time, made.partition
            assert rows_of(in_airflow, *where) == rows_of(alone, *where) != []
            assert statistics_of(in_airflow, *where) == statistics_of(alone, *where) != []
    facts, alike = made.facts, agreement.alone[example, pipeline, made.partition]
    assert {node: rows for node, (rows, _) in facts.items()} == {node: rows for node, (rows, _) in alike.items()}
    for node, (_, size) in facts.items():  # the order of rows is nobody's promise, and a file's size depends on it
        other = alike[node][1]
        assert size == (other and pytest.approx(other, rel=0.05))


@pytest.mark.parametrize("example", PLANS)
def test_no_other_partition_is_made(agreement: Agreement, example: str):
    in_airflow, alone = agreement.examples[example].lakes
    for plan in PLANS[example].values():
        dag_id = agreement.dag_id(example, plan.pipeline_id)
        run_for = {run["partition_key"] for run in agreement.airflow.runs(dag_id)}
        for sink in plan.node_list:
            if sink.type == "sink" and sink.dataset and sink.time:
                here, there = (
                    set(pl.read_delta(str(lake.joinpath(*sink.dataset[1].split("."))))[sink.time].cast(pl.String))
                    for lake in (in_airflow, alone)
                )
                assert here - run_for == there - run_for
                assert run_for <= here
