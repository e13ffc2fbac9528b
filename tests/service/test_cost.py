"""What runs cost: each attempt once, at the price that held, measured and estimated apart."""

import json
import random
import uuid
from decimal import Decimal
from typing import Any

import pytest

from aiflow_sdk.cli import main
from aiflow_sdk.errors import ConfigurationError
from aiflow_sdk.plugins import BilledUnits
from aiflow_service.access import EVERYTHING, Scope
from aiflow_service.cost import NO_PRICES, CostFilter, read_prices, sum_costs
from aiflow_service.database import open_database
from aiflow_service.database.migration import migrate
from aiflow_service.ingest import GroupWriter, Submission
from aiflow_service.openlineage import read_event
from service_trial import Service, facet, run_event, unique

PRICES = """
currency = "EUR"
[[prices]]
from = 2026-07-01
cpu_second = "0.2"
memory_gib_second = 0
[[prices]]
from = 2026-01-01
cpu_second = 0.1
memory_gib_second = 0.01
[estimate]
cpus = 2
memory_gib = 4
"""


def own(**fields) -> dict:
    return {"_producer": "urn:test", "_schemaURL": "urn:x", **fields}


def attempt(task: str, at: str, *, pipeline: str = "orders", run: str | None = None, kind: str = "COMPLETE", **used):
    """The events of one attempt that took ten seconds."""
    run_id = run or str(uuid.uuid4())
    facets = {
        "aiflow_run": own(
            pipeline_id=pipeline, project="shop", environment="prod", task_id=task, attempt=1, execution=1
        ),
        "parent": facet(
            "ParentRunFacet", run={"runId": str(uuid.UUID(int=1))}, job={"namespace": "a", "name": pipeline}
        ),
    }
    ends = {"aiflow_nodes": own(nodes=[{"node_id": "read"}, {"node_id": "make"}])}
    if used:
        ends["aiflow_usage"] = own(**used)
    shared: dict[str, Any] = {"run_id": run_id, "job": f"{pipeline}.{task}"}
    began = run_event("START", at=f"{at}:00Z", run_facets=facets, **shared)
    return [began, run_event(kind, at=f"{at}:10Z", run_facets=facets | ends, **shared)]


HISTORY = [
    *attempt("load", "2025-12-31T23:00", seconds=10, cpu_seconds=5, memory_byte_seconds=2**30),
    *attempt("load", "2026-03-01T10:00", seconds=10, cpu_seconds=5, memory_byte_seconds=2**30 * 20),
    *attempt("load", "2026-06-30T23:59", seconds=10, cpu_seconds=5, memory_byte_seconds=0, kind="FAIL"),
    *attempt("load", "2026-07-01T00:00", seconds=10, cpu_seconds=5, memory_byte_seconds=0),
    *attempt("make", "2026-03-01T10:00"),
    *attempt("make", "2026-03-02T10:00", seconds=8, cpu_seconds=None, memory_byte_seconds=None, attempts_at_once=2),
    *attempt(
        "spark",
        "2026-03-02T10:00",
        seconds=10,
        cpu_seconds=1,
        memory_byte_seconds=0,
        server=own(cpu_seconds=9, memory_byte_seconds=0),
    ),
    *attempt("spark", "2026-03-03T10:00", seconds=10, cpu_seconds=1, memory_byte_seconds=0, server=None),
    *attempt("odd", "2026-03-04T10:00", seconds=-1, cpu_seconds="5", memory_byte_seconds=1e300),
    *attempt("odd", "2026-03-04T11:00", seconds=True, cpu_seconds=[], memory_byte_seconds={}),
    run_event(job="somebody", run_facets={"aiflow_usage": own(cpu_seconds=1000)}),
    attempt("still", "2026-03-05T10:00")[0],
]


def costs_of(address: str, batches: list[list[dict]], by: str, prices, scope=EVERYTHING, **wanted):
    database = open_database(address)
    migrate(database)
    writer = GroupWriter(database)
    for batch in batches:
        events = [read_event(json.dumps(one).encode()) for one in batch]
        writer.write([Submission(event, 1, 0) for event in events])
    with database.reading() as connection:
        found, _ = sum_costs(connection, scope, prices, by, CostFilter(**wanted))
    database.close()
    return found


@pytest.fixture
def prices(tmp_path):
    (tmp_path / "prices.toml").write_text(PRICES)
    return read_prices(tmp_path / "prices.toml")


def test_each_attempt_costs_what_held_when_it_ended(database, prices) -> None:
    by_task = {one["task"]: one for one in costs_of(database, [HISTORY], "node", prices)}
    assert set(by_task) == {"load", "make", "spark", "odd"}
    load = by_task["load"]
    assert (load["attempts"], load["estimated_attempts"], load["unpriced_attempts"]) == (4, 0, 1)
    # 5 × 0.1 + 20 × 0.01, then 5 × 0.1, then 5 × 0.2; that of the year before has no price.
    assert (load["measured_cost"], load["estimated_cost"]) == ("2.200000", "0.000000")
    assert load["nodes"] == ["read", "make"]
    # Ten and eight seconds, of two processors and four GiB.
    assert (by_task["make"]["measured_cost"], by_task["make"]["estimated_cost"]) == ("0.000000", "4.320000")
    assert by_task["make"]["estimated_attempts"] == 2
    assert (by_task["spark"]["measured_cost"], by_task["spark"]["cpu_seconds"]) == ("1.100000", 11)
    assert (by_task["odd"]["estimated_attempts"], by_task["odd"]["seconds"]) == (2, 20)
    (team,) = costs_of(database, [], "team", prices)
    total = sum(Decimal(one["measured_cost"]) for one in by_task.values())
    assert (team["team"], Decimal(team["measured_cost"])) == ("default", total)
    days = costs_of(database, [], "day", prices)
    assert [one["day"] for one in days] == sorted(one["day"] for one in days)
    assert days[0]["day"] == "2025-12-31"
    assert sum(one["attempts"] for one in days) == team["attempts"] == 10
    (project,) = costs_of(database, [], "project", prices, project="shop")
    assert project["project"] == "shop"
    assert costs_of(database, [], "team", prices, project="none") == []
    assert costs_of(database, [], "team", prices, scope=Scope(frozenset({2}))) == []
    (free,) = costs_of(database, [], "pipeline", NO_PRICES)
    assert (free["measured_cost"], free["cpu_seconds"]) == (None, 31)


@pytest.mark.parametrize("seed", range(3))
def test_late_repeated_and_shuffled_events_cost_the_same(tmp_path, prices, seed: int) -> None:
    dice = random.Random(seed)
    shuffled = HISTORY + dice.choices(HISTORY, k=10)
    dice.shuffle(shuffled)
    cut = dice.randrange(len(shuffled))
    one = costs_of(f"sqlite:///{tmp_path}/one.db", [HISTORY], "node", prices)
    other = costs_of(f"sqlite:///{tmp_path}/other.db", [shuffled[:cut], shuffled[cut:]], "node", prices)
    assert one == other


def test_an_attempt_that_runs_again_is_counted_when_it_ends(tmp_path, prices) -> None:
    run = str(uuid.uuid4())
    first = attempt("load", "2026-03-01T10:00", run=run, seconds=10, cpu_seconds=5, memory_byte_seconds=0)
    again = attempt("load", "2026-03-01T11:00", run=run, seconds=10, cpu_seconds=7, memory_byte_seconds=0)
    address = f"sqlite:///{tmp_path}/one.db"
    assert costs_of(address, [first], "node", prices)[0]["cpu_seconds"] == 5
    assert costs_of(address, [again[:1]], "node", prices)[0]["cpu_seconds"] == 0
    assert costs_of(address, [again[1:], first], "node", prices)[0]["cpu_seconds"] == 7


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("currency = ", "cannot be read"),
        ("", "currency"),
        ("currency = 'EUR'", "no prices"),
        ("currency = 'EUR'\nprices = 1", "no prices"),
        ("currency = 'EUR'\nother = 1", "no setting 'other'"),
        (PRICES.replace("2026-07-01", "2026-01-01"), "same moment"),
        (PRICES.replace("2026-07-01", "2026-07-01T00:00:00"), "prices 1: from"),
        (PRICES.replace('"0.2"', '"much"'), "prices 1: cpu_second"),
        (PRICES.replace('"0.2"', "-1"), "prices 1: cpu_second"),
        (PRICES.replace('"0.2"', "nan"), "prices 1: cpu_second"),
        (PRICES.replace("cpu_second = 0.1", "cpu = 1"), "no setting 'cpu'"),
        (PRICES.replace("cpus = 2", "cpus = true"), "estimate: cpus"),
        (PRICES.replace("cpus = 2", "gpus = 2"), "[estimate]"),
    ],
)
def test_a_file_of_prices_that_is_wrong_says_where(tmp_path, text: str, says: str) -> None:
    (tmp_path / "prices.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_prices(tmp_path / "prices.toml")
    assert caught.value.code == "prices"
    assert says in str(caught.value)


def test_the_command_shows_what_was_used(service: Service, tmp_path, capsys) -> None:
    name = unique("costly")
    for event in attempt(
        "load", "2026-03-01T10:00", pipeline=name, seconds=10, cpu_seconds=7200, memory_byte_seconds=0
    ):
        service.send(event)
    for event in attempt("load", "2026-03-02T10:00", pipeline=name):
        service.send(event)
    for event in attempt("killed", "2026-03-03T10:00", pipeline=name):  # of which neither nodes nor figures are told
        event["run"]["facets"].pop("aiflow_nodes", None)
        service.send(event)
    (tmp_path / "aiflow.toml").write_text(f'[environments.dev]\nservice = "{service.address}"\n')
    assert main(["-C", str(tmp_path), "cost", "--by", "node", "--pipeline", name]) == 0
    said = capsys.readouterr().out
    (killed,) = [line for line in said.splitlines() if "killed" in line]
    assert "not told" in killed
    assert killed.count("not measured") == 2
    assert "[]" not in said
    assert "2 attempts could not be measured" in said
    assert "knows no prices" in said
    assert "read,make" in said
    assert main(["-C", str(tmp_path), "cost", "--pipeline", name, "--to", "2026-03-02T00:00:00Z", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["attempts"], one["cpu_seconds"]) for one in told["items"]] == [(1, 7200)]
    assert service.request("GET", "/api/v1/cost?by=odd").status == 422
    assert service.request("GET", "/api/v1/cost?from=now").json()["place"] == "query/from"


BILLED = """
currency = "EUR"
[[prices]]
from = 2026-01-01
cpu_second = 0.1
memory_gib_second = 0
[prices.units.emr-serverless]
vcpu_hour = 2
[[prices]]
from = 2026-07-01
cpu_second = 0.1
memory_gib_second = 0
[prices.units.emr-serverless]
vcpu_hour = 3
memory_gb_hour = "0.5"
"""


def units(*billed) -> list[dict]:
    names = ("cluster", "unit", "amount", "estimated")
    return [dict(zip(names, one, strict=False)) for one in billed]


def billed_in(address: str, tmp_path, events, by: str = "pipeline") -> list[dict]:
    file = tmp_path / "billed.toml"
    file.write_text(BILLED)
    database = open_database(address)
    migrate(database)
    writer = GroupWriter(database)
    for event in events:
        writer.write([Submission(read_event(json.dumps(event).encode()), 1, 0)])
    with database.reading() as connection:
        found, _ = sum_costs(connection, EVERYTHING, read_prices(file), by, CostFilter())
    database.close()
    return found


def test_what_clusters_bill_costs_by_unit_and_date_and_estimates_stand_apart(database, tmp_path) -> None:
    vcpu, memory = ("emr-serverless", "vcpu_hour"), ("emr-serverless", "memory_gb_hour")
    again = str(uuid.uuid4())
    late = attempt("make", "2026-07-02T10:00", run=again, billed=units((*vcpu, 1), (*memory, 4)))
    events = [
        *attempt(
            "load", "2026-03-01T10:00", seconds=10, cpu_seconds=1, memory_byte_seconds=0, billed=units((*vcpu, 2))
        ),
        *attempt("load", "2026-03-02T10:00", billed=units((*memory, 10))),
        *attempt("load", "2026-07-01T10:00", billed=units((*vcpu, 1, True), (*memory, 2))),
        # It ran again: what was billed for its first end is billed no more.
        *attempt("make", "2026-07-01T12:00", run=again, billed=units((*vcpu, 100), ("dbu", "dbu", 7))),
        *late,
        late[-1],
        *attempt("odd", "2026-07-03T10:00", billed=[7, {}, {"cluster": "x", "unit": "y", "amount": -1}, None]),
        *attempt("odd", "2026-07-03T11:00", billed="much", seconds=1, cpu_seconds=0, memory_byte_seconds=0),
    ]
    (line,) = billed_in(database, tmp_path, events)
    assert line["billed"] == [
        {"cluster": vcpu[0], "unit": memory[1], "amount": 16.0, "unpriced_amount": 10.0, "cost": "3.000000"},
        {"cluster": vcpu[0], "unit": vcpu[1], "amount": 4.0, "unpriced_amount": 0.0, "cost": "10.000000"},
    ]
    # Measured: 1 s of a processor, 2 × 2 and 1 × 3 units, 2 and 4 of memory; estimated: 1 × 3, one odd attempt
    assert (line["measured_cost"], line["estimated_cost"]) == ("10.100000", "4.000000")
    assert (line["attempts"], line["estimated_attempts"]) == (6, 1)


@pytest.mark.parametrize(
    ("units_text", "says"),
    [
        ("units = 7", "units holds a table"),
        ("units.emr = 1", "units holds a table"),
        ('units.emr.vcpu_hour = "much"', "vcpu_hour is no amount"),
        ("units.emr.vcpu_hour = -1", "vcpu_hour is no amount"),
    ],
)
def test_prices_of_units_that_are_wrong_say_where(tmp_path, units_text: str, says: str) -> None:
    file = tmp_path / "prices.toml"
    held = f"[[prices]]\nfrom = 2026-01-01\ncpu_second = 1\nmemory_gib_second = 1\n{units_text}\n"
    file.write_text(f'currency = "EUR"\n{held}')
    with pytest.raises(ConfigurationError, match=says):
        read_prices(file)


@pytest.mark.parametrize(("unit", "amount"), [("vCPU", 1), ("", 1), ("a-b", 1), ("dbu", -1), ("dbu", float("nan"))])
def test_a_cluster_bills_no_nonsense(unit: str, amount: float) -> None:
    with pytest.raises(ValueError, match="is no "):
        BilledUnits(unit, amount)


def test_what_a_cluster_bills_is_what_the_facet_lists() -> None:
    billed = [BilledUnits("dbu", 1.5), BilledUnits("vcpu_hour", 2, is_estimated=True)]
    assert [one.to_dict("emr") for one in billed] == [
        {"cluster": "emr", "unit": "dbu", "amount": 1.5},
        {"cluster": "emr", "unit": "vcpu_hour", "amount": 2, "estimated": True},
    ]
