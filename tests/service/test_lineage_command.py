"""``aiflow lineage``, asked of a real service."""

import json
import socket
from pathlib import Path

import pytest

from aiflow_sdk.cli import main
from aiflow_sdk.cli.console import Console
from aiflow_sdk.cli.lineage_graph import tables_graph
from service_trial import Service, dataset, facet, run_event, unique


@pytest.fixture(scope="module")
def service(_services) -> Service:
    """One database is enough: what the command asks is tried on both."""
    return _services("sqlite")


@pytest.fixture
def root(tmp_path: Path, service: Service) -> Path:
    (tmp_path / "aiflow.toml").write_text(f'[environments.dev]\nservice = "{service.address}"\n')
    return tmp_path


@pytest.fixture(scope="module")
def shop(service: Service) -> str:
    """Orders become sums become a mart, whose writer feeds the orders; the schema's name."""
    name = unique("shop")

    def made(**columns: tuple[str, str]) -> dict:
        fields = {
            target: {"inputFields": [{"namespace": "onelake", "name": f"{name}.{table}", "field": column}]}
            for target, (table, column) in columns.items()
        }
        return facet("ColumnLineageDatasetFacet", "1-2-0", fields=fields)

    schema = facet("SchemaDatasetFacet", "1-2-0", fields=[{"name": "amount", "type": "double"}])
    orders, sums, mart = f"{name}.orders", f"{name}.sums", f"{name}.mart"
    owned = {"ownership": facet("OwnershipJobFacet", "1-0-1", owners=[{"name": "ana"}])}
    events = [
        run_event(
            job=f"{name}/sum",
            inputs=[dataset(orders, schema=schema)],
            outputs=[dataset(sums, columnLineage=made(total=("orders", "amount")))],
            job_facets=owned,
        ),
        run_event(
            job=f"{name}/mart",
            namespace="spark",
            inputs=[sums],
            outputs=[dataset(mart, columnLineage=made(gross=("sums", "total")))],
        ),
        run_event(job=f"{name}/back", inputs=[mart], outputs=[orders]),
    ]
    assert service.send_batch(events).json()["status"] == "success"
    return name


def typed(capsys, root: Path, *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["-C", str(root), "lineage", *words]) == code
    said = capsys.readouterr()
    return said.out + said.err


def test_a_table_is_told_as_a_tree_that_ends_where_it_comes_round(capsys, root: Path, shop: str) -> None:
    said = typed(capsys, root, f"{shop}.sums", "--down")
    assert said.splitlines() == [
        f"{shop}.sums",
        "is read by:",
        f"  ▸ {shop}/mart",
        f"    {shop}.mart",
        f"      ▸ {shop}/back  dev",
        f"        {shop}.orders",
        f"          ▸ {shop}/sum  dev · owner ana",
        f"            {shop}.sums  (above)",
        "a change reaches 3 pipelines, 2 tables, 1 column",
        "  teams: default",
        "  owners: ana",
    ]
    both = typed(capsys, root, f"{shop}.sums", "--depth", "1")
    assert [line for line in both.splitlines() if "▸" in line] == [
        f"  ▸ {shop}/sum  dev · owner ana",
        f"  ▸ {shop}/mart",
    ]


def test_a_column_is_followed_by_its_own_name(capsys, root: Path, shop: str) -> None:
    said = typed(capsys, root, f"{shop}.orders.amount", "--down")
    assert f"  {shop}.sums.total  by {shop}/sum\n    {shop}.mart.gross  by {shop}/mart\n" in said
    assert "a change reaches 2 pipelines, 2 tables, 2 columns" in said
    up = json.loads(typed(capsys, root, f"{shop}.mart.gross", "--up", "--json"))
    assert [one["name"] for one in up["lineage"]["columns"]] == ["gross", "total", "amount"]
    assert (up["column"], up["impact"]) == ("gross", None)


def test_an_impact_is_told_as_data(capsys, root: Path, shop: str) -> None:
    impact = json.loads(typed(capsys, root, f"{shop}.orders", "--down", "--json"))["impact"]
    assert impact["pipelines"] == [f"{shop}/back (dev)", f"{shop}/mart", f"{shop}/sum (dev)"]
    assert impact["tables"] == [f"{shop}.mart", f"{shop}.sums"]
    assert impact["columns"] == [f"{shop}.mart.gross", f"{shop}.sums.total"]
    assert (impact["teams"], impact["owners"], impact["truncated"]) == (["default"], ["ana"], False)


def test_a_graph_is_drawn_for_mermaid(capsys, root: Path, shop: str) -> None:
    text = typed(capsys, root, f"{shop}.orders", "--mermaid")
    assert text.startswith("flowchart LR\n")
    assert f'[("{shop}.orders")]' in text
    assert text.count("-->") == 6
    assert json.loads(typed(capsys, root, f"{shop}.orders", "--mermaid", "--json")) == {"mermaid": text}


def test_a_very_wide_graph_is_cut_and_said_so(capsys, root: Path, service: Service) -> None:
    name = unique("wide")
    service.send_batch(
        [run_event(job=f"{name}/{n}", inputs=[f"{name}.in"], outputs=[f"{name}.{n}"]) for n in range(600)]
    )
    lines = typed(capsys, root, f"{name}.in", "--down").splitlines()
    assert len(lines) < 80
    assert lines[-4].strip().startswith("… and ")
    assert "at least" in lines[-3]
    assert lines[-1] == "there is more: at most 1,000 nodes are told; --depth N narrows it"


def test_what_is_not_there_is_said_with_what_is_like_it(capsys, root: Path, shop: str, service: Service) -> None:
    said = typed(capsys, root, f"{shop}.order", code=1)
    assert "unknown-table" in said
    assert f"did you mean '{shop}.orders'" in said
    assert "did you mean 'amount'?" in typed(capsys, root, f"{shop}.orders.amout", code=1)
    assert "unknown-table" in typed(capsys, root, unique("nothing") * 30, code=1)
    assert "2026-11-20T03:00:00Z" in typed(capsys, root, f"{shop}.orders", "--as-of", "yesterday", code=2)
    for wrong in ("--depth=0", "--depth=x", "--sideways"):
        typed(capsys, root, f"{shop}.orders", wrong, code=2)
    for space in ("a", "b"):
        service.send(run_event(job=unique("job"), inputs=[dataset(f"{shop}.twice", space)]))
    assert "ambiguous-table" in typed(capsys, root, f"{shop}.twice", code=1)
    assert f"a/{shop}.twice" in typed(capsys, root, f"{shop}.twice", "--namespace", "a")


def test_without_a_service_or_with_one_that_is_down_it_is_said(capsys, root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        (root / "aiflow.toml").write_text(
            f'[environments.dev]\nservice = "http://127.0.0.1:{taken.getsockname()[1]}"\n'
        )
        assert "service-unreachable" in typed(capsys, root, "a.b", code=1)
    (root / "aiflow.toml").write_text("[environments.dev]\n")
    assert "no-service" in typed(capsys, root, "a.b", code=1)


def test_what_differs_and_what_is_hidden_is_marked(capsys) -> None:
    one = {"namespace": "onelake", "team": "growth", "owners": []}
    answer = {
        "datasets": [{"id": 1, "name": "a\x1b[31m", **one}, {"id": 2, "name": "b", **one}],
        "jobs": [{"id": 1, "name": "shop/daily", **one, "namespace": "aiflow/prod"}],
        "edges": [
            {"job": 1, "dataset": 1, "writes": False, "basis": "observed", "undeclared": True},
            {"job": 1, "dataset": 2, "writes": True, "basis": "declared", "undeclared": False},
        ],
        "hidden": [{"dataset": 2, "writes": False}, {"job": 1, "writes": False}],
    }
    graph = tables_graph(answer, 1)
    assert list(graph.tree(Console(), "down")) == [
        "  ▸ shop/daily  prod · team growth  not declared",
        "    b  team growth  declared, never seen",
        "      something that you may not see",
    ]
    assert "\x1b" not in graph.mermaid()
    assert "|not declared|" in graph.mermaid()
    assert graph.mermaid().count('(("?"))') == 2
