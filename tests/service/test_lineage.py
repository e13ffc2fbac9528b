"""Lineage: what is walked is what a plain search over all edges finds."""

import random
import sqlite3
from collections import defaultdict
from contextlib import closing

import pytest

from service_trial import Service, dataset, facet, run_event, unique


def graph_of(prefix: str, seed: int) -> list[tuple[str, list[str], list[str]]]:
    """Random jobs with what they read and write; with cycles."""
    dice = random.Random(seed)
    tables = [f"{prefix}.t{number}" for number in range(25)]
    return [
        (f"{prefix}/job{number}", dice.sample(tables, dice.randint(0, 3)), dice.sample(tables, dice.randint(0, 2)))
        for number in range(30)
    ]


def reach(jobs, start: str, goes_up: bool, depth: int) -> tuple[set[str], set[str]]:
    """A plain search, a set a level."""
    near, far = (2, 1) if goes_up else (1, 2)
    tables, passed = {start}, set()
    level = {start}
    for _ in range(depth):
        touching = {job[0] for job in jobs if level & set(job[near])} - passed
        passed |= touching
        level = {table for job in jobs if job[0] in touching for table in job[far]} - tables
        tables |= level
    return tables, passed


@pytest.mark.parametrize("seed", range(3))
def test_tables_are_those_of_a_plain_search(service: Service, seed: int) -> None:
    prefix = unique("g")
    jobs = graph_of(prefix, seed)
    events = [run_event(job=name, inputs=reads, outputs=writes) for name, reads, writes in jobs]
    assert service.send_batch(events).json()["status"] == "success"
    known = sorted({table for _, reads, writes in jobs for table in reads + writes})
    for start in known[:: len(known) // 6]:
        for depth in (1, 2, 30):
            found = {}
            for direction in ("up", "down"):
                graph = service.get(
                    "/api/v1/lineage/tables", dataset=start, direction=direction, depth=depth, limit=1000
                )
                assert not graph["truncated"]
                names = {one["name"] for one in graph["datasets"]}, {one["name"] for one in graph["jobs"]}
                assert names == reach(jobs, start, direction == "up", depth)
                ids = {one["id"]: one["name"] for one in graph["datasets"]}
                by_name = {job[0]: job for job in jobs}
                job_names = {one["id"]: one["name"] for one in graph["jobs"]}
                for edge in graph["edges"]:
                    job = by_name[job_names[edge["job"]]]
                    assert ids[edge["dataset"]] in job[2 if edge["writes"] else 1]
                found[direction] = names
            both = service.get("/api/v1/lineage/tables", dataset=start, depth=depth, limit=1000)
            assert {one["name"] for one in both["datasets"]} == found["up"][0] | found["down"][0]


def test_a_limit_is_kept_and_said(service: Service) -> None:
    prefix = unique("wide")
    service.send(run_event(job=prefix, inputs=[f"{prefix}.in"], outputs=[f"{prefix}.t{n}" for n in range(50)]))
    graph = service.get("/api/v1/lineage/tables", dataset=f"{prefix}.in", limit=10)
    assert graph["truncated"]
    assert len(graph["datasets"]) + len(graph["jobs"]) == 10
    whole = service.get("/api/v1/lineage/tables", dataset=f"{prefix}.in", limit=52)
    assert (whole["truncated"], len(whole["edges"])) == (False, 51)


def test_lineage_is_as_of_a_moment(service: Service) -> None:
    prefix = unique("then")
    table = f"{prefix}.table"
    service.send(run_event(job=f"{prefix}/old", inputs=[table], at="2026-01-01T00:00:00Z"))
    service.send(run_event(job=f"{prefix}/old", inputs=[table], at="2026-02-01T00:00:00Z"))
    service.send(run_event(job=f"{prefix}/new", inputs=[table], at="2026-03-01T00:00:00Z"))

    def readers(**query) -> set[str]:
        graph = service.get("/api/v1/lineage/tables", dataset=table, **query)
        return {one["name"].rpartition("/")[2] for one in graph["jobs"]}

    assert readers() == {"old", "new"}
    assert readers(as_of="2026-02-15T00:00:00Z") == {"old"}
    assert readers(as_of="2025-12-31T00:00:00Z") == set()
    assert readers(since="2026-02-15T00:00:00Z") == {"new"}


def linked(path: str, *names: tuple[str, str]) -> dict:
    identifiers = [{"namespace": namespace, "name": name, "type": "TABLE"} for namespace, name in names]
    symlinks = facet("SymlinksDatasetFacet", "1-0-1", identifiers=identifiers)
    return dataset(path, "s3://lake", symlinks=symlinks)


def test_a_dataset_under_several_names_is_one(service: Service) -> None:
    name = unique("alias")
    service.send(run_event(job=f"{name}/writes", outputs=[dataset(name, "s3://lake")]))
    reads = run_event(job=f"{name}/reads", inputs=[dataset(name, "glue")], outputs=[f"{name}.out"])
    service.send(reads)
    assert len(service.get("/api/v1/datasets", q=name)["items"]) == 3
    service.send(run_event(job=f"{name}/links", inputs=[linked(name, ("glue", name), ("hive", name))]))
    assert {one["name"] for one in service.get("/api/v1/datasets", q=name)["items"]} == {name, f"{name}.out"}
    for namespace in ("s3://lake", "glue", "hive"):
        whole = service.dataset(name, namespace)
        assert {one["job"]["name"] for one in whole["jobs"]} == {
            f"{name}/{what}" for what in ("writes", "reads", "links")
        }
        assert {one["namespace"] for one in whole["names"]} == {"s3://lake", "glue", "hive"}
    graph = service.get("/api/v1/lineage/tables", dataset=f"{name}.out", direction="up")
    assert [one["name"] for one in graph["jobs"]] == [f"{name}/reads", f"{name}/writes"]
    service.send({**reads, "eventTime": "2026-11-20T12:00:00Z"})  # what the writer remembered of the name is forgotten
    assert len(service.dataset(name, "glue")["jobs"]) == 3


def column_facet(namespace: str, **made_from: list[tuple[str, str]]) -> dict:
    fields = {
        target: {
            "inputFields": [
                {
                    "namespace": namespace,
                    "name": name,
                    "field": column,
                    "transformations": [{"type": "DIRECT", "subtype": "IDENTITY"}],
                }
                for name, column in sources
            ]
        }
        for target, sources in made_from.items()
    }
    return facet("ColumnLineageDatasetFacet", "1-2-0", fields=fields)


def test_columns_are_those_of_a_plain_search(service: Service) -> None:
    prefix = unique("col")
    dice = random.Random(5)
    above: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    events = []
    for layer in range(1, 6):
        for number in range(3):
            table = f"{prefix}.{layer}.{number}"
            made = {}
            for column in "abc":
                sources = [(f"{prefix}.{layer - 1}.{dice.randrange(3)}", dice.choice("abc")) for _ in range(2)]
                made[column] = sources
                above[table, column] |= set(sources)
            told = dataset(table, columnLineage=column_facet("onelake", **made))
            events.append(run_event(job=f"{prefix}/{layer}.{number}", outputs=[told]))
    assert service.send_batch(events).json()["status"] == "success"
    start = (f"{prefix}.5.0", "a")
    for depth in (1, 3, 9):
        expected, level = {start}, {start}
        for _ in range(depth):
            level = {source for one in level for source in above[one]} - expected
            expected |= level
        query = {"dataset": start[0], "column": start[1], "direction": "up", "depth": depth, "limit": 1000}
        graph = service.get("/api/v1/lineage/columns", **query)
        assert {(one["dataset"]["name"], one["name"]) for one in graph["columns"]} == expected
        assert {edge["kind"] for edge in graph["edges"]} == {"DIRECT/IDENTITY"}
    down = service.get("/api/v1/lineage/columns", dataset=f"{prefix}.0.0", direction="down", depth=9, limit=1000)
    assert any(one["dataset"]["name"] == f"{prefix}.5.0" for one in down["columns"])


def test_the_newest_schema_is_shown_whatever_came_last(service: Service) -> None:
    name = unique("schema")
    for hour, columns in ((9, "ab"), (11, "acd"), (10, "xyz")):
        fields = [{"name": column, "type": "int64", "fields": [{"name": "in"}]} for column in columns]
        told = dataset(name, schema=facet("SchemaDatasetFacet", "1-2-0", fields=fields))
        service.send(run_event(job=name, outputs=[told], at=f"2026-11-20T{hour:02}:00:00Z"))
    assert [one["name"] for one in service.dataset(name)["columns"]] == ["a", "a.in", "c", "c.in", "d", "d.in"]


def test_datasets_and_jobs_are_listed_in_pages(service: Service) -> None:
    name = unique("list")
    service.send_batch([run_event(job=f"{name}/{n}", outputs=[f"{name}.{n}"]) for n in range(23)])
    for path in ("/api/v1/jobs", "/api/v1/datasets"):
        found = [one["name"] for one in service.pages(path, q=name, limit=5)]
        assert len(found) == len(set(found)) == 23
    assert service.get("/api/v1/jobs", q=f"{name}%")["items"] == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("?dataset=a&job=b", 422),
        ("?dataset=nobody", 404),
        ("?dataset=a&depth=0", 422),
        ("?dataset=%00", 422),
    ],
)
def test_a_walk_from_nowhere_is_answered_with_a_problem(service: Service, query: str, status: int) -> None:
    assert service.request("GET", f"/api/v1/lineage/tables{query}").status == status


def test_nothing_of_a_merged_dataset_stays_behind(tmp_path) -> None:
    """Asked of the tables themselves, where both datasets had columns of one name."""
    from service_trial import running_service

    path = tmp_path / "service.db"
    with running_service(tmp_path, f"sqlite:///{path}") as service:
        made = column_facet("onelake", id=[("up", "id")], other=[("up", "other")])
        for namespace in ("s3://lake", "glue"):
            told = dataset("t", namespace, columnLineage=made)
            service.send(run_event(job=namespace, outputs=[told]))
        onwards = dataset("down", columnLineage=column_facet("glue", id=[("t", "id")]))
        service.send(run_event(job="onwards", outputs=[onwards]))
        service.send(run_event(job="links", inputs=[linked("t", ("glue", "t"))]))
        graph = service.get("/api/v1/lineage/columns", dataset="down", direction="up", depth=5)
        assert [one["dataset"]["name"] for one in graph["columns"]] == ["down", "t", "up"]
        service.stop()
    with closing(sqlite3.connect(path)) as database:
        (gone,) = database.execute("SELECT id FROM datasets WHERE merged_into IS NOT NULL").fetchone()
        for table in ("edges", "columns", "dataset_names"):
            assert database.execute(f"SELECT count(*) FROM {table} WHERE dataset_id = ?", (gone,)).fetchone() == (0,)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
