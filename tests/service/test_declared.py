"""Lineage as releases declare it, beside what runs have told."""

import hashlib
import json
from dataclasses import dataclass, field

import pytest

from access_trial import pipeline_documents
from service_trial import Service, facet, run_event, unique


@pytest.fixture(scope="module")
def documents(tmp_path_factory) -> dict[str, str]:
    """The definition and the plan of a pipeline that reads ``raw.orders`` and writes ``feature.daily``."""
    return pipeline_documents(tmp_path_factory.mktemp("project"))


@dataclass
class Pipeline:
    """A pipeline of a project of its own, deployed and run as the service hears of it."""

    service: Service
    documents: dict[str, str]
    project: str = field(default_factory=lambda: unique("shop"))
    environment: str = "dev"

    def table(self, name: str) -> str:
        return f"{self.project}.{name}"

    def deploy(self, hour: int, reads: list[str | None], writes: list[str | None], *, status: int = 200) -> None:
        """Record a release of 2026-11-20 with a version that names these tables; None: a run decides the name."""
        plan = json.loads(self.documents["plan"])
        plan |= {"project": self.project, "version": f"sha256:{hour}"}
        plan["environment"]["name"] = self.environment
        of_kind = {node["type"]: node for node in plan["nodes"]}
        named = [("source", one) for one in reads] + [("sink", one) for one in writes]
        plan["nodes"] = [
            {**of_kind[kind], "id": f"n{place}", "dataset": one and ["onelake", self.table(one)]}
            for place, (kind, one) in enumerate(named)
        ]
        told = {"ir": self.documents["ir"], "plan": json.dumps(plan)}
        assert self._put("versions", {"versions": [told]}).status == status
        if status == 200:
            self.release(hour, [told])

    def release(self, hour: int, held: list[dict[str, str]]) -> None:
        members = [
            {
                "project": self.project,
                "pipeline": "daily",
                **{name: hashlib.sha256(text.encode()).hexdigest() for name, text in one.items()},
            }
            for one in held
        ]
        release = {"key": unique("key"), "number": hour, "project": self.project, "environment": self.environment}
        release |= {"project_version": "v", "action": "deploy", "at": f"2026-11-20T{hour:02}:00:00Z"}
        assert self._put("releases", {**release, "pipelines": members}).status == 200

    def run(self, hour: int, reads: list[str], writes: list[str]) -> None:
        self.service.send(
            run_event(
                job=f"{self.project}/daily",
                namespace=f"aiflow/{self.environment}",
                at=f"2026-11-20T{hour:02}:30:00Z",
                inputs=[self.table(one) for one in reads],
                outputs=[self.table(one) for one in writes],
                job_facets={"ownership": facet("OwnershipJobFacet", "1-0-1", owners=[{"name": "ana"}])},
            )
        )

    def edges(self, table: str, **query) -> dict[str, str]:
        """Return what each edge around a table rests on, by the table; ``!``: undeclared."""
        graph = self.service.get("/api/v1/lineage/tables", dataset=self.table(table), **query)
        names = {one["id"]: one["name"].rpartition(".")[2] for one in graph["datasets"]}
        return {names[one["dataset"]]: one["basis"] + "!" * one["undeclared"] for one in graph["edges"]}

    def _put(self, path: str, body: object):
        headers = {"Content-Type": "application/json"}
        return self.service.request("PUT", f"/api/v1/{path}", json.dumps(body).encode(), headers)


@pytest.fixture
def pipeline(service: Service, documents: dict[str, str]) -> Pipeline:
    return Pipeline(service, documents)


def test_what_is_declared_stands_beside_what_was_seen(pipeline: Pipeline) -> None:
    pipeline.deploy(1, ["orders", "users"], ["out"])
    assert pipeline.edges("out") == {"orders": "declared", "users": "declared", "out": "declared"}
    pipeline.run(2, ["orders", "secrets"], ["out"])
    expected = {"orders": "both", "users": "declared", "out": "both", "secrets": "observed!"}
    assert pipeline.edges("out") == expected
    assert pipeline.edges("out", edges="observed") == {"orders": "both", "secrets": "observed!", "out": "both"}
    assert pipeline.edges("out", edges="declared") == {"orders": "both", "users": "declared", "out": "both"}
    assert pipeline.edges("out", edges="undeclared") == {"secrets": "observed!"}
    assert pipeline.edges("out", edges="unobserved") == {"users": "declared"}
    graph = pipeline.service.get("/api/v1/lineage/tables", dataset=pipeline.table("out"))
    (job,) = graph["jobs"]
    assert (job["declares"], job["owners"], job["team"]) == (True, ["ana"], "default")
    (seen,) = [one for one in graph["edges"] if one["writes"]]
    assert seen["declared_since"] == "2026-11-20T01:00:00.000000Z"
    assert seen["first_seen"] == seen["last_seen"] == "2026-11-20T02:30:00.000000Z"


def test_the_current_release_counts_and_each_at_its_time(pipeline: Pipeline) -> None:
    pipeline.deploy(1, ["a", "b"], ["out"])
    pipeline.deploy(3, ["b", "c"], ["out"])
    pipeline.deploy(7, ["a"], ["out"])
    pipeline.release(9, [])

    def reads(hour: int) -> set[str]:
        return set(pipeline.edges("out", as_of=f"2026-11-20T{hour:02}:10:00Z")) - {"out"}

    by_hour = {0: set(), 1: {"a", "b"}, 3: {"b", "c"}, 7: {"a"}, 9: set()}
    assert {hour: reads(hour) for hour in by_hour} == by_hour
    pipeline.deploy(5, ["d"], ["out"])  # it comes late, and holds until the next one
    by_hour |= {5: {"d"}, 6: {"d"}, 4: {"b", "c"}}
    assert {hour: reads(hour) for hour in by_hour} == by_hour
    other = Pipeline(pipeline.service, pipeline.documents, pipeline.project, "prod")
    other.deploy(2, ["z"], ["out"])
    assert set(pipeline.edges("out")) == {"z", "out"}


def test_what_was_once_declared_is_past_and_not_undeclared(pipeline: Pipeline) -> None:
    pipeline.run(0, ["older"], ["out"])
    pipeline.deploy(1, ["a"], ["out"])
    pipeline.run(2, ["a"], ["out"])
    pipeline.deploy(3, ["b"], ["out"])
    assert pipeline.edges("out") == {"older": "observed", "a": "observed", "b": "declared", "out": "both"}
    pipeline.run(4, ["a"], ["out"])
    assert pipeline.edges("out")["a"] == "observed!"


def test_where_a_run_decides_a_name_nothing_is_called_undeclared(pipeline: Pipeline) -> None:
    pipeline.deploy(1, ["a", None], ["out"])
    pipeline.run(2, ["a", "b"], ["out", "more"])
    assert pipeline.edges("out") == {"a": "both", "b": "observed", "out": "both"}
    assert pipeline.edges("more") == {"a": "both", "b": "observed", "more": "observed!"}


def test_a_job_without_a_release_declares_nothing(pipeline: Pipeline) -> None:
    pipeline.run(1, ["a"], ["out"])
    assert pipeline.edges("out") == {"a": "observed", "out": "observed"}
    graph = pipeline.service.get("/api/v1/lineage/tables", dataset=pipeline.table("out"))
    assert [one["declares"] for one in graph["jobs"]] == [False]


def test_a_plan_with_a_name_that_no_database_holds_is_refused(pipeline: Pipeline) -> None:
    pipeline.deploy(1, ["a" * 2000], ["out"], status=422)
    pipeline.deploy(1, ["a\0"], ["out"], status=422)


def test_declared_edges_follow_a_dataset_that_turns_out_to_be_another(pipeline: Pipeline) -> None:
    pipeline.deploy(1, ["elder", "younger"], ["out"])
    linked = [{"namespace": "onelake", "name": pipeline.table("elder"), "type": "TABLE"}]
    symlinks = facet("SymlinksDatasetFacet", "1-0-1", identifiers=linked)
    told = {"namespace": "onelake", "name": pipeline.table("younger"), "facets": {"symlinks": symlinks}}
    pipeline.service.send(run_event(job=unique("links"), inputs=[told]))
    assert pipeline.edges("out", direction="up") == {"elder": "declared", "out": "declared"}
    pipeline.deploy(2, ["younger"], ["out"])
    assert pipeline.edges("out", direction="up") == {"elder": "declared", "out": "declared"}


def test_a_refused_filter_is_a_problem(pipeline: Pipeline) -> None:
    pipeline.run(1, ["a"], ["out"])
    answer = pipeline.service.request("GET", f"/api/v1/lineage/tables?dataset={pipeline.table('out')}&edges=none")
    assert answer.status == 422
