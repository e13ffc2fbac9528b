"""The graph, drawn: every node and edge is there, and nothing that a pipeline says breaks the drawing."""

import xml.etree.ElementTree as ET
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_sdk import dataset, factories, pipeline, resources, window
from aiflow_sdk.graph import draw_html, draw_mermaid, draw_svg, draw_text, lay_out_rows
from aiflow_sdk.graph.layers import place_nodes
from aiflow_sdk.ir import NodeIR, PipelineIR

source: Any = factories.source
sink: Any = factories.sink
SVG = "{http://www.w3.org/2000/svg}"


@pipeline(
    id="diamond",
    schedule=dataset("a.b") & (dataset("c.d") | dataset("e.f")),
    owner="me",
    tags=["x"],
    timezone="Asia/Tokyo",
)
def diamond(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": window.last(7)}))
    users = p.read(source.files(id="users", path="data/users/*.csv"))
    clean = orders.transform(id="clean", fn="etl:clean", output_table="tmp.clean")
    joined = p.transform(clean, users, id="joined", fn="etl:join", engine="spark", resources=resources.spark("big"))
    totals = clean.sql("select count(*) as n\n from {clean}", id="totals")
    p.write(totals, sink.onelake(id="totals_out", table="f.totals"))
    ranked = p.transform(joined, totals, orders, id="ranked", fn="etl:rank")
    p.write(ranked, sink.onelake(id="out", table="f.ranked", mode="upsert", partition_by=["dt"]))


TEXT = """\
diamond
  when (c.d or e.f) and a.b changes · Asia/Tokyo · owner me · #x

  ○       orders        onelake  raw.orders {dt=last(7)}
  ├─╮
  │ ●     clean         python   etl:clean
  │ ├─╮
  │ │ ◆   clean_output  onelake  tmp.clean
  │ ├─╮
  │ │ ●   totals        python   select count(*) as n from {clean}
  │ │ ├─╮
  │ │ │ ◆ totals_out    onelake  f.totals
  │ │ │
  │ │ │ ○ users         files    data/users/*.csv
  │ ├─│─╯
  │ ● │   joined        spark    etl:join on big
  ├─┴─╯
  ●       ranked        python   etl:rank
  ◆       out           onelake  f.ranked upsert by dt"""


def test_text_shows_nodes_below_their_inputs_with_lines_between():
    assert draw_text(diamond()) == TEXT


def test_text_without_line_drawing_characters_is_ascii():
    assert draw_text(diamond(), ascii_only=True).isascii()


def test_text_may_name_tasks_and_keep_to_a_width():
    tasks = {"clean": "totals", "totals": "totals", "joined": "joined"}
    lines = draw_text(diamond(), tasks=tasks, width=40).splitlines()
    assert max(map(len, lines)) == 40
    assert "  │ ●     clean         python   totals…" in lines


def test_a_straight_pipeline_is_a_straight_line():
    @pipeline(id="line", schedule="0 3 * * *")
    def line(p):
        p.write(p.read(source.onelake("a", "r.a")).transform(id="b", fn="x:y"), sink.onelake("c", "m.c"))

    assert [row.lanes for row in lay_out_rows(line())] == ["○", "●", "◆"]


def test_what_does_not_belong_together_does_not_touch():
    @pipeline(id="two")
    def two(p):
        for name in ("a", "b"):
            p.write(p.read(source.onelake(name, f"r.{name}")), sink.onelake(f"{name}_out", f"m.{name}"))

    assert [row.lanes for row in lay_out_rows(two())] == ["○", "◆", "", "○", "◆"]


def test_an_empty_pipeline_can_be_drawn():
    ir = PipelineIR.make(id="empty")
    assert draw_text(ir).startswith("empty\n  by hand")
    assert "flowchart" in draw_mermaid(ir)
    ET.fromstring(draw_svg(ir))


def test_mermaid_names_every_node_and_edge_and_boxes_tasks():
    ir = diamond()
    text = draw_mermaid(ir, tasks={"clean": "clean-task"})
    assert text.startswith("flowchart LR\n")
    assert text.count(" --> ") == len(ir.edges)
    assert 'subgraph t1["clean-task"]' in text
    for node_id in ir.nodes:
        assert f'"{node_id}<br/>' in text


def test_the_picture_holds_every_node_once_and_draws_to_the_right():
    ir = diamond()
    picture = ET.fromstring(draw_svg(ir))
    names = Counter(text.text for text in picture.iter(f"{SVG}text") if text.get("font-weight"))
    assert names == Counter(list(ir.nodes))
    level = {at.id: number for number, layer in enumerate(place_nodes(ir)) for at in layer}
    assert all(level[above] < level[below] for above, below in ir.edges)
    assert level["users"] == level["joined"] - 1


def test_what_authors_write_cannot_break_a_page():
    nasty = "</text><script>alert(1)</script>\"'&{{ ds }}"

    @pipeline(id="nasty", owner=nasty, tags=[nasty])
    def evil(p):
        p.write(p.read(source.files("a", nasty)), sink.onelake("b", f"{nasty}表格" * 9))

    ET.fromstring(draw_svg(evil()))
    ET.fromstring(draw_html(evil()))
    assert "<script" not in draw_html(evil())
    assert "<script" not in draw_mermaid(evil())
    assert draw_text(evil(), width=60)


@pytest.mark.parametrize("many", [1, 3000])
def test_a_long_chain_can_be_drawn(many):
    nodes = [NodeIR.make(id="n0", type="source", params={"kind": "x"})]
    nodes += [
        NodeIR.make(id=f"n{i}", type="transform", engine="python", entrypoint="a:b", input_ids=(f"n{i - 1}",))
        for i in range(1, many)
    ]
    ir = PipelineIR.make(id="long", nodes=tuple(nodes))
    assert len(lay_out_rows(ir)) == many
    assert draw_svg(ir)


@st.composite
def graphs(draw):
    nodes = []
    for number in range(draw(st.integers(1, 14))):
        inputs = draw(st.lists(st.sampled_from(range(number)), max_size=4, unique=True)) if number else []
        fields: dict[str, Any]
        if inputs:
            fields = {"type": "transform", "engine": "python", "entrypoint": "a:b"}
        else:
            fields = {"type": "source", "params": {"kind": "x"}}
        nodes.append(NodeIR.make(id=f"n{number}", input_ids=tuple(f"n{i}" for i in inputs), **fields))
    return PipelineIR.make(id="any", nodes=tuple(nodes))


@given(graphs())
def test_any_graph_is_drawn_whole(ir):
    rows = lay_out_rows(ir)
    placed = [row.node.id for row in rows if row.node]
    assert sorted(placed) == sorted(ir.nodes)
    assert all(placed.index(above) < placed.index(below) for above, below in ir.edges)
    for before, after in pairwise(rows):
        # A line that leaves a row downwards is met in the next, and none begins in the air.
        down = {at for at, char in enumerate(before.lanes) if char in "│╮╭┤├┬┼"}
        up = {at for at, char in enumerate(after.lanes) if char in "│╯╰┤├┴┼"}
        ends = {at for at, char in enumerate(before.lanes) if char in "○●◆"}
        starts = {at for at, char in enumerate(after.lanes) if char in "○●◆"}
        assert down <= up | starts
        assert up <= down | ends
    for layer in place_nodes(ir):
        assert all(below.row - above.row > 0.999 for above, below in pairwise(layer))
    ET.fromstring(draw_svg(ir))
