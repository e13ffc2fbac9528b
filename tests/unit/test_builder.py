"""The builder: what a pipeline function declares becomes nodes that say each thing in one way."""

from typing import Any

import pytest

from aiflow_sdk import factories, pipeline, resources, sink, transform, window
from aiflow_sdk.builder import Dataset

# Kinds that no class types are recorded too, which a type checker rightly does not know.
source: Any = factories.source


def build(function, **settings):
    return pipeline(**{"id": "p", "schedule": "@daily", **settings})(function).build()


def ir_of(function, **settings):
    return build(function, **settings).ir


def orders(p, id="orders", **options):
    return p.read(source.onelake(id=id, table=f"raw.{id}", **options))


def keep(p, dataset, id="out"):
    p.write(dataset, sink.onelake(id=id, table=f"mart.{id}"))


def shared(orders):
    return orders


@transform(engine="spark", resources=resources.spark(cluster="big"), retries=2)
def marked(orders):
    return orders


def test_a_read_a_transform_and_a_write_are_three_nodes():
    ir = ir_of(lambda p: keep(p, orders(p).transform(id="clean", fn="etl:clean", limit=3)))
    assert ir.edges == (("orders", "clean"), ("clean", "out"))
    assert ir.nodes["orders"].params == {"kind": "onelake", "table": "raw.orders"}
    assert (ir.nodes["clean"].engine, ir.nodes["clean"].params) == ("python", {"limit": 3})
    assert ir.nodes["out"].input_ids == ("clean",)


def test_the_order_of_declaration_does_not_matter():
    def one(p):
        a, b = orders(p, "a"), orders(p, "b")
        keep(p, p.transform(a, b, id="c", fn="etl:c"))

    def other(p):
        b, a = orders(p, "b"), orders(p, "a")
        keep(p, p.transform(a, b, id="c", fn="etl:c"))

    assert ir_of(one).fingerprint == ir_of(other).fingerprint


def test_the_order_of_inputs_does_matter():
    ir = ir_of(lambda p: keep(p, p.transform(orders(p, "z"), orders(p, "a"), id="c", fn="etl:c")))
    assert ir.nodes["c"].input_ids == ("z", "a")


def test_each_building_is_fresh():
    definition = pipeline(id="p")(lambda p: keep(p, orders(p)))
    assert definition() == definition()
    assert definition().nodes is not definition().nodes


def test_one_dataset_may_be_read_twice_and_written_to_several_sinks():
    def body(p):
        raw = orders(p)
        keep(p, raw.transform(id="a", fn="etl:a"), "one")
        b = raw.transform(id="b", fn="etl:b")
        keep(p, b, "two")
        keep(p, b, "three")
        return b

    assert len(ir_of(body).nodes) == 6


def test_a_transform_with_an_output_table_has_a_sink_of_its_own():
    ir = ir_of(lambda p: orders(p).transform(id="clean", fn="etl:c", output_table="tmp.clean"))
    assert ir.nodes["clean_output"].implicit
    assert ir.nodes["clean_output"].params == {"kind": "onelake", "table": "tmp.clean"}
    assert ir.nodes["clean"].params == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"output_path": "x/y"}, {"kind": "onelake", "path": "x/y"}),
        ({"output_path": "x/y", "output_format": "delta"}, {"kind": "onelake", "path": "x/y", "format": "delta"}),
        ({"output_path": "x/{{ds}}", "output_format": "csv"}, {"kind": "files", "path": "x/{{ ds }}", "format": "csv"}),
        ({"output_table": "a.b", "output_format": "delta"}, {"kind": "onelake", "table": "a.b", "format": "delta"}),
    ],
)
def test_an_output_path_is_a_delta_table_or_files(given, expected):
    def body(p):
        p.branch_for_region("us").transform(orders(p), id="clean", fn="etl:c", **given)

    assert ir_of(body).nodes["clean_output.us"].params == expected


def test_an_external_transform_gets_the_names_of_its_outputs_and_no_sink():
    ir = ir_of(lambda p: orders(p).transform(id="x", fn="etl:x", external=True, output_table="a.b"))
    assert set(ir.nodes) == {"orders", "x"}
    assert ir.nodes["x"].params == {"output_table": "a.b"}
    assert ir.nodes["x"].external


def test_params_takes_names_that_are_arguments_of_transform():
    ir = ir_of(
        lambda p: keep(p, orders(p).transform(id="x", fn="etl:x", params={"engine": "v8", "n": 1}, m=p.vars["ds"]))
    )
    assert ir.nodes["x"].params == {"engine": "v8", "n": 1, "m": "{{ ds }}"}
    assert ir.nodes["x"].engine == "python"


def test_variables_and_windows_stand_in_options_in_one_form():
    def body(p):
        ds = p.vars["run_date"]
        partitions = {"dt": ds, "a": "{{ds}}", "b": ds.offset(-1), "c": f"x-{ds}", "d": window.last(7), "e": ["u", ds]}
        keep(p, orders(p, partitions=partitions))

    assert ir_of(body).nodes["orders"].params["partitions"] == {
        "a": "{{ ds }}",
        "b": "{{ ds.offset(-1) }}",
        "c": "x-{{ ds }}",
        "d": {"$window": "last", "n": 7},
        "dt": "{{ ds }}",
        "e": ("u", "{{ ds }}"),
    }


def test_what_resources_leave_unsaid_is_not_said():
    assert resources.spark(cluster="c", executor_cores=4) == {"engine": "spark", "cluster": "c", "executor_cores": 4}
    assert resources.python() == {"engine": "python"}
    assert resources.flink(cluster="f", parallelism=2, slots=1)["slots"] == 1
    assert resources.dask("local") == {"engine": "dask", "cluster": "local"}


def test_resources_name_the_engine_where_nothing_else_does():
    def body(p):
        keep(p, orders(p).transform(id="a", fn="etl:a", resources=resources.spark(cluster="c")), "one")
        keep(p, orders(p, "more").transform(id="b", fn="etl:b", resources=resources.python()), "two")

    ir = ir_of(body)
    assert ir.nodes["a"].engine == "spark"
    assert (ir.nodes["b"].engine, ir.nodes["b"].resources) == ("python", {})


def test_a_function_itself_is_named_by_its_module():
    built = build(lambda p: keep(p, orders(p).transform(id="x", fn=shared)))
    assert built.ir.nodes["x"].entrypoint == f"{__name__}:shared"
    assert not built.functions


def test_a_transform_is_called_like_its_function_where_it_has_no_id():
    assert "shared" in ir_of(lambda p: keep(p, orders(p).transform(fn=shared))).nodes


def test_a_marked_function_brings_its_defaults_and_a_call_overrides_them():
    def body(p):
        raw = orders(p)
        keep(p, raw.transform(fn=marked), "one")
        keep(p, raw.transform(id="b", fn=marked, engine="python", resources={}, retries=0), "two")

    ir = ir_of(body)
    assert (ir.nodes["marked"].engine, ir.nodes["marked"].retries) == ("spark", 2)
    assert ir.nodes["marked"].resources == {"engine": "spark", "cluster": "big"}
    assert (ir.nodes["b"].engine, ir.nodes["b"].retries, ir.nodes["b"].resources) == ("python", 0, {})
    assert marked("x") == "x"


def test_a_function_that_exists_only_here_is_kept_beside_the_ir():
    def inner(orders):
        return orders

    def body(p):
        raw = orders(p)
        keep(p, raw.transform(id="a", fn=lambda orders: orders), "one")
        keep(p, raw.transform(id="b", fn=inner), "two")

    built = build(body)
    assert built.ir.nodes["a"].entrypoint == "__here__:<lambda>"
    assert built.ir.nodes["b"].entrypoint == "__here__:inner"
    assert built.functions["b"] is inner


def test_branches_carry_their_value_and_may_be_nested():
    def body(p):
        raw = orders(p)
        for region in ("us", "eu"):
            b = p.branch_for_region(region)
            for year in (2025, 2026):
                c = b.branch("year", year)
                keep(
                    c,
                    c.transform(raw, id="enrich", fn="etl:e", region=c.values["region"]).transform(id="z", fn="etl:z"),
                )

    ir = ir_of(body)
    assert ir.nodes["enrich.us.2025"].params == {"region": "us"}
    assert ir.nodes["z.eu.2026"].input_ids == ("enrich.eu.2026",)
    assert ir.nodes["out.eu.2025"].local_id == "out"


def test_a_branch_may_be_given_its_body():
    ir = ir_of(lambda p: p.branch_for_region("us", lambda b: keep(b, orders(b)), ...))
    assert set(ir.nodes) == {"orders.us", "out.us"}


def test_unknown_kinds_are_recorded_as_they_are():
    ir = ir_of(lambda p: keep(p, p.read(source.nobody("x", depth=3, bounded=False))))
    assert ir.nodes["x"].params == {"kind": "nobody", "depth": 3}
    assert not ir.nodes["x"].bounded


def test_locations_are_the_lines_of_the_author():
    def body(p):
        keep(p, orders(p).transform(id="x", fn="etl:x"))

    built = build(body)
    line = body.__code__.co_firstlineno
    assert built.locations[""].line == line
    assert built.locations["x"].line == line + 1
    assert built.locations["x"].path.endswith("test_builder.py")


def test_a_dataset_is_only_a_name():
    seen: list[Dataset] = []

    def body(p):
        seen.append(orders(p))
        keep(p, seen[0])

    build(body)
    assert repr(seen[0]) == "<dataset 'orders'>"


# Queries


def test_a_query_names_its_input_as_it_likes():
    ir = ir_of(lambda p: keep(p, orders(p).sql("select * from { rows } where dt = '{{ds}}'")))
    node = ir.nodes["orders_sql"]
    assert node.sql == "select * from {orders} where dt = '{{ ds }}'"
    assert (node.engine, node.input_ids, node.entrypoint) == ("python", ("orders",), None)


def test_a_query_over_several_inputs_names_them_by_id_or_keyword():
    def body(p):
        a, b = orders(p), orders(p, "users")
        keep(p, p.sql("select * from {orders} join {u} using (id)", a, u=b, id="j", engine="spark"))

    node = ir_of(body).nodes["j"]
    assert node.sql == "select * from {orders} join {users} using (id)"
    assert (node.input_ids, node.engine) == (("orders", "users"), "spark")


def test_a_query_without_inputs_means_nodes_of_the_pipeline():
    def body(p):
        orders(p, "users")
        b = p.branch_for_region("us")
        orders(b)
        keep(b, b.sql("select * from {orders}, {users}"))

    node = ir_of(body).nodes["sql.us"]
    assert node.sql == "select * from {orders.us}, {users}"
    assert node.input_ids == ("orders.us", "users")


def test_braces_that_name_nothing_stay():
    ir = ir_of(lambda p: keep(p, orders(p).sql("select {'a': 1} as s, '{\"b\": {}}' from {orders}", id="q")))
    assert ir.nodes["q"].sql == "select {'a': 1} as s, '{\"b\": {}}' from {orders}"


def test_the_runs_own_partition_has_one_spelling():
    def read(value):
        @pipeline(id="p", schedule="@daily", owner="o")
        def p(p):
            p.write(
                p.read(source.onelake(id="a", table="x.y", partitions={"dt": value(p)})),
                sink.onelake(id="b", table="x.z"),
            )

        return p()

    spellings = [lambda p: "{{ ds }}", lambda p: p.vars["run_date"], lambda p: window.same(), lambda p: "{{run_date}}"]
    assert len({read(value).fingerprint for value in spellings}) == 1


def test_braces_in_quotes_and_comments_of_a_query_name_no_input():
    query = "select '{users}' as a, \"{b}\" -- {c}\nfrom {orders} /* {d} */"
    ir = ir_of(lambda p: keep(p, orders(p).sql(query, id="q")))
    assert ir.nodes["q"].sql == query
    ir = ir_of(lambda p: keep(p, orders(p).sql("select '{x}' from {y}", id="q")))
    assert ir.nodes["q"].sql == "select '{x}' from {orders}"
