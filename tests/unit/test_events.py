"""Events: OpenLineage as its specification has it, and a spool that loses nothing."""

import json
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import jsonschema
import pytest
from openlineage.client import facet_v2
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, RunEvent, RunState
from openlineage.client.event_v2 import Run as OpenLineageRun
from openlineage.client.serde import Serde

from aiflow_sdk import events
from aiflow_sdk.compiler import compile_pipeline
from aiflow_sdk.config import load_project
from aiflow_sdk.errors import StoreError
from aiflow_sdk.events import Spool
from aiflow_sdk.ir import NodeIR, PipelineIR
from aiflow_sdk.lineage import Lineage
from aiflow_sdk.plan import NodeFacts, TaskResult, make_run
from aiflow_sdk.plugins import installed_registry
from aiflow_sdk.runtime import installed_version
from receiver import RUN_EVENT

# Facets of the specification by the key that they stand under, as the official client's classes know them.
OFFICIAL = {
    "schema": facet_v2.schema_dataset.SchemaDatasetFacet,
    "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
    "inputStatistics": facet_v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet,
    "outputStatistics": facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
    "parent": facet_v2.parent_run.ParentRunFacet,
    "nominalTime": facet_v2.nominal_time_run.NominalTimeRunFacet,
    "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
    "processing_engine": facet_v2.processing_engine_run.ProcessingEngineRunFacet,
    "jobType": facet_v2.job_type_job.JobTypeJobFacet,
    "ownership": facet_v2.ownership_job.OwnershipJobFacet,
    "tags": facet_v2.tags_job.TagsJobFacet,
    "sql": facet_v2.sql_job.SQLJobFacet,
}


@pytest.fixture
def lineage(tmp_path):
    (tmp_path / "etl.py").write_text("def main(orders): return orders\n")
    project = load_project(tmp_path)
    nodes = (
        NodeIR.make(
            id="orders",
            type="source",
            params={"kind": "onelake", "table": "raw.orders", "partitions": {"dt": "{{ ds }}"}},
        ),
        NodeIR.make(id="sums", type="transform", engine="python", entrypoint="etl:main", input_ids=("orders",)),
        NodeIR.make(id="more", type="transform", engine="python", sql="select * from {sums}", input_ids=("sums",)),
        NodeIR.make(
            id="out",
            type="sink",
            params={"kind": "onelake", "table": "mart.sums", "partition_by": ["dt"]},
            input_ids=("more",),
        ),
    )
    ir = PipelineIR.make(
        id="p",
        schedule="0 3 * * *",
        owner="team",
        tags=("x",),
        partition="day",
        timezone="America/New_York",
        nodes=nodes,
    )
    plan = compile_pipeline(ir, project=project, environment=project.environment(), registry=installed_registry())
    return Lineage(plan, make_run(plan, partition="2026-11-01"), installed_version)


RESULT = TaskResult(
    task_id="more",
    seconds=1.5,
    nodes=(
        NodeFacts(node_id="orders", rows=3, bytes=100, columns=(("id", "int64"),), partitions=("dt=2026-11-01",)),
        NodeFacts(
            node_id="sums", seconds=0.2, counts={"bad_rows": 2}, touched=(("write", "postgres://x", "public.t"),)
        ),
        NodeFacts(node_id="out", rows=2, bytes=50, table_version=7, columns=(("id", "int64"), ("dt", "string"))),
    ),
)
ERROR = {"type": "DataError", "code": "input-absent", "message": "no data", "retryable": True, "notes": ["a", "b"]}


def all_events(lineage):
    task = lineage.plan.tasks[0]
    yield lineage.run_event("START")
    yield lineage.task_event("START", task, 1)
    yield lineage.task_event("FAIL", task, 1, error=ERROR)
    yield lineage.task_event("COMPLETE", task, 2, result=RESULT)
    yield lineage.run_event("COMPLETE", results=[RESULT])
    yield lineage.run_event("ABORT")
    yield lineage.run_event("FAIL", error=ERROR)


def facets_of(event):
    for owner in (event["run"], event["job"], *event["inputs"], *event["outputs"]):
        for group in ("facets", "inputFacets", "outputFacets"):
            yield from owner.get(group, {}).items()


def test_every_event_is_what_the_specification_demands(lineage):
    for event in all_events(lineage):
        jsonschema.validate(event, RUN_EVENT, format_checker=jsonschema.FormatChecker())
        assert json.loads(json.dumps(event)) == event


def test_the_official_client_takes_every_facet_of_the_specification(lineage):
    seen = set()
    for event in all_events(lineage):
        for name, facet in facets_of(event):
            if name in OFFICIAL:
                seen.add(name)
                fields = {key: value for key, value in facet.items() if not key.startswith("_")}
                official = OFFICIAL[name](**fields)
                assert facet["_schemaURL"] == official._get_schema()
            else:
                assert name.startswith("aiflow_")
                assert facet["_schemaURL"].startswith("urn:aiflow:facets:1:")
    assert seen == set(OFFICIAL)


def test_the_official_client_says_alike_where_a_part_of_a_dataset_lies():
    official = facet_v2.base_subset_dataset
    where = official.LocationSubsetCondition(locations=["data/orders/dt=2026-11-01"])
    for told, theirs in (
        (events.input_subset_facet, official.InputSubsetInputDatasetFacet(inputCondition=where)),
        (events.output_subset_facet, official.OutputSubsetOutputDatasetFacet(outputCondition=where)),
    ):
        facet, expected = told(where.locations), json.loads(Serde.to_json(theirs))
        assert {**facet, "_producer": ""} == {**expected, "_producer": ""}


def test_the_official_client_takes_every_event(lineage):
    for event in all_events(lineage):
        RunEvent(
            eventTime=event["eventTime"],
            eventType=RunState[event["eventType"]],
            producer=event["producer"],
            run=OpenLineageRun(runId=event["run"]["runId"]),
            job=Job(namespace=event["job"]["namespace"], name=event["job"]["name"]),
            inputs=[InputDataset(namespace=one["namespace"], name=one["name"]) for one in event["inputs"]],
            outputs=[OutputDataset(namespace=one["namespace"], name=one["name"]) for one in event["outputs"]],
        )


def test_an_attempt_is_a_run_below_the_pipelines_run(lineage):
    task = lineage.plan.tasks[0]
    first, again = lineage.task_event("START", task, 1), lineage.task_event("COMPLETE", task, 1, result=RESULT)
    retry = lineage.task_event("START", task, 2)
    assert first["run"]["runId"] == again["run"]["runId"] != retry["run"]["runId"]
    assert first["run"]["facets"]["parent"]["run"]["runId"] == lineage.run.run_id
    uuid.UUID(retry["run"]["runId"])


def test_datasets_carry_schema_statistics_and_version(lineage):
    event = lineage.run_event("COMPLETE", results=[RESULT])
    (orders,) = event["inputs"]
    out, touched = sorted(event["outputs"], key=lambda one: one["namespace"])
    assert (orders["namespace"], orders["name"]) == ("onelake", "raw.orders")
    assert orders["inputFacets"]["inputStatistics"]["rowCount"] == 3
    assert (
        out["outputFacets"]["outputStatistics"] | {"rowCount": 2, "size": 50} == out["outputFacets"]["outputStatistics"]
    )
    assert out["facets"]["version"]["datasetVersion"] == "7"
    assert [field["name"] for field in out["facets"]["schema"]["fields"]] == ["id", "dt"]
    assert (touched["namespace"], touched["name"]) == ("postgres://x", "public.t")


def test_the_nominal_time_is_the_partitions_also_on_a_day_of_25_hours(lineage):
    facet = lineage.run_event("START")["run"]["facets"]["nominalTime"]
    start, end = (datetime.fromisoformat(facet[name]) for name in ("nominalStartTime", "nominalEndTime"))
    assert (end - start).total_seconds() == 25 * 3600


def test_every_event_carries_what_tells_the_story(lineage):
    for event in all_events(lineage):
        facet = event["run"]["facets"]["aiflow_run"]
        assert {"pipeline_id", "run_id", "execution", "trace_id"} <= facet.keys()


APPEND = """
import sys
from pathlib import Path
from aiflow_sdk.events import Spool
spool = Spool(Path(sys.argv[1]))
sys.stdin.readline()  # all at once
for number in range(50):
    spool.append({"process": int(sys.argv[2]), "number": number, "text": "é" * 50})
"""


def _append(path, process):
    command = [sys.executable, "-c", APPEND, str(path), str(process)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, bufsize=1)


def _let_go(child):
    with child.stdin:
        child.stdin.write("go\n")


def test_a_spool_keeps_every_event_of_many_threads(tmp_path):
    spool = Spool(tmp_path / "events.jsonl")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: spool.append({"number": number}), range(200)))
    assert sorted(event["number"] for event in spool) == list(range(200))


def test_a_spool_keeps_every_event_of_many_processes(tmp_path):
    path = tmp_path / "events.jsonl"
    children = [_append(path, number) for number in range(4)]
    for child in children:
        _let_go(child)
    assert [child.wait(60) for child in children] == [0] * 4
    found = sorted((event["process"], event["number"]) for event in Spool(path))
    assert found == [(process, number) for process in range(4) for number in range(50)]


def test_a_spool_survives_a_process_that_died_in_the_middle_of_a_line(tmp_path):
    path = tmp_path / "events.jsonl"
    Spool(path).append({"number": 1})
    with path.open("ab") as file:
        file.write(b'{"number": 2, "tex')
    Spool(path).append({"number": 3})
    assert [event["number"] for event in Spool(path)] == [1, 3]


def test_what_a_spool_appended_outlives_a_killed_process(tmp_path):
    path = tmp_path / "events.jsonl"
    child = _append(path, 1)
    _let_go(child)
    while len(list(Spool(path))) < 5:
        assert child.poll() in (None, 0)
        time.sleep(0.01)
    child.kill()
    child.wait()
    numbers = [event["number"] for event in Spool(path)]
    assert numbers == list(range(len(numbers)))


def test_a_spool_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(StoreError) as caught:
        Spool(tmp_path / "missing" / "events.jsonl").append({})
    assert caught.value.code == "spool-not-writable"
    assert caught.value.retryable


def test_moments_are_written_in_utc():
    event = events.run_event(
        "START", run_id=str(uuid.uuid4()), job_namespace="n", job_name="j", time=datetime(2026, 11, 1, 5, tzinfo=UTC)
    )
    assert event["eventTime"] == "2026-11-01T05:00:00.000000Z"


def test_a_line_that_is_being_written_is_not_passed_over(tmp_path):
    from aiflow_sdk.plugins import Listener
    from aiflow_sdk.runtime.delivery import Delivery, close_all

    class Hearing(Listener, kind="hearing"):
        def on_event(self, event):
            heard.append(event["number"])

    heard: list[int] = []
    run = tmp_path / ".aiflow" / "runs" / "one"
    run.mkdir(parents=True)
    spool = run / "events.jsonl"
    delivery = Delivery("mine", Hearing(), "dev", print)
    delivery.begin(spool)
    spool.write_bytes(b'{"number": 1}\n{"num')
    delivery.notice(spool)
    while heard != [1]:
        assert len(heard) < 2
        time.sleep(0.01)
    with spool.open("ab") as file:
        file.write(b'ber": 2}\n')
    delivery.notice(spool)
    close_all([delivery], 10)
    assert heard == [1, 2]


@pytest.mark.parametrize("size", [1, 8_192, 100_000])
def test_the_last_event_of_a_spool_is_read_alone_and_only_if_it_is_whole(tmp_path, size):
    spool = Spool(tmp_path / "events.jsonl")
    assert spool.last() is None
    for number in range(3):
        spool.append({"number": number, "text": "x" * size})
    assert (spool.last() or {})["number"] == 2
    with spool.path.open("ab") as file:
        file.write(b'{"number": 3')
    assert spool.last() is None
    spool.append({"number": 4})
    assert spool.last() == {"number": 4}
