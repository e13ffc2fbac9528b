"""The official client, pointed at the service without a change."""

import uuid

import pytest
from openlineage.client import OpenLineageClient, facet_v2
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState

from service_trial import Service, unique, wait_until


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_the_official_client_is_heard(service: Service, compression: str | None) -> None:
    name = unique("official")
    transport = {"type": "http", "url": service.address, **({"compression": compression} if compression else {})}
    client = OpenLineageClient(config={"transport": transport})
    run_id, parent_id = str(uuid.uuid4()), str(uuid.uuid4())
    parent = facet_v2.parent_run.ParentRunFacet(
        run=facet_v2.parent_run.Run(runId=parent_id), job=facet_v2.parent_run.Job("airflow", name)
    )
    field = facet_v2.column_lineage_dataset.InputField("s3://lake", f"{name}/in", "id")
    columns = facet_v2.column_lineage_dataset.ColumnLineageDatasetFacet(
        {"id": facet_v2.column_lineage_dataset.Fields([field], "", "IDENTITY")}
    )
    schema = facet_v2.schema_dataset.SchemaDatasetFacet(
        [facet_v2.schema_dataset.SchemaDatasetFacetFields("id", "bigint")]
    )
    for state, second in ((RunState.START, 0), (RunState.COMPLETE, 5)):
        client.emit(
            RunEvent(
                eventTime=f"2026-11-20T10:00:0{second}.000+00:00",
                run=Run(run_id, {"parent": parent}),
                job=Job("airflow", f"{name}.task"),
                producer="https://example.org/producer",
                eventType=state,
                inputs=[InputDataset("s3://lake", f"{name}/in")],
                outputs=[
                    OutputDataset("s3://lake", f"{name}/out", facets={"schema": schema, "columnLineage": columns})
                ],
            )
        )
    client.close()
    wait_until(lambda: service.request("GET", f"/api/v1/runs/{run_id}").status == 200)
    run = service.get(f"/api/v1/runs/{run_id}")
    assert (run["state"], run["seconds"], run["parent_run_id"]) == ("succeeded", 5.0, parent_id)
    whole = service.dataset(f"{name}/out", "s3://lake")
    assert whole["columns"] == [{"name": "id", "type": "bigint", "description": None}]
    graph = service.get("/api/v1/lineage/columns", dataset=f"{name}/out", namespace="s3://lake", direction="up")
    assert [one["dataset"]["name"] for one in graph["columns"]] == [f"{name}/out", f"{name}/in"]
    assert [edge["kind"] for edge in graph["edges"]] == ["IDENTITY"]
