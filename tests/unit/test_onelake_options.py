"""What a table may be called and where it may lie is checked before anything runs."""

import pytest

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.errors import AiflowError, ConfigurationError
from aiflow_sdk.plugins import Scan


def code_of(plugin, **options) -> str | None:
    problems = plugin.problems(options)
    return problems[0].code if problems else None


@pytest.mark.parametrize("name", ["raw.sales_orders", "Raw.orders-2", "données.été_2026", "原始.订单", "r1.2x"])
@pytest.mark.parametrize("plugin", [OneLakeSource, OneLakeSink])
def test_a_table_is_schema_dot_name(plugin, name):
    assert code_of(plugin, table=name) is None
    assert plugin.load({"table": name}).dataset() == ("onelake", name)


@pytest.mark.parametrize(
    "name",
    [
        "orders",
        "a.b.c",
        "raw.",
        ".x",
        "",
        "raw/x.y",
        "..x.y",
        "raw...",
        "_staging.x",
        "raw._x",
        "raw.a b",
        "raw.a/../b",
        "raw.a\0",
        "raw." + "x" * 300,
        "raw.a%2Fb",
        "raw.x;drop",
        "raw.`x`",
    ],
)
@pytest.mark.parametrize("plugin", [OneLakeSource, OneLakeSink])
def test_other_names_are_refused(plugin, name):
    assert code_of(plugin, table=name) == "bad-table-name"


@pytest.mark.parametrize("path", ["../x", "a/../../x", "..", "a/b/../../.."])
@pytest.mark.parametrize("plugin", [OneLakeSource, OneLakeSink])
def test_a_path_cannot_leave_the_lake(plugin, path):
    assert code_of(plugin, path=path) == "outside-lake"


@pytest.mark.parametrize("path", ["", ".", "a/..", "a\0b", "a/" + "x" * 300])
def test_a_path_names_a_folder(path):
    assert code_of(OneLakeSink, path=path) == "bad-table-path"


@pytest.mark.parametrize("path", ["/etc", "/", "_staging/x", "link/x", "link"])
def test_links_and_whole_paths_cannot_leave_the_lake_either(tmp_path, path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/link").symlink_to(tmp_path / "outside")
    environment = Environment(lake=str(tmp_path / "lake"))
    with pytest.raises(ConfigurationError) as caught:
        list(OneLakeSource.load({"path": path}, environment).scan(Scan()))
    assert caught.value.code in ("outside-lake", "bad-table-path")


@pytest.mark.parametrize("key", ["../other", "..", "dt=1/../../other", "../../lake/../outside", "link", "link/x"])
def test_what_lies_below_a_table_does_not_leave_it(tmp_path, key):
    (tmp_path / "lake/raw/x").mkdir(parents=True)
    (tmp_path / "lake/raw/x/link").symlink_to(tmp_path)
    place = OneLakeSink.load({"table": "raw.x"}, Environment(lake=str(tmp_path / "lake"))).place
    place.check_inside("w-1/dt=..2")
    with pytest.raises(ConfigurationError) as caught:
        place.check_inside(key)
    assert caught.value.code == "outside-lake"


def test_copies_of_a_source_are_pinned_each_by_itself():
    source = OneLakeSource.load({"table": "raw.x"}, Environment())
    source.pin("dev", 3)
    other = source.model_copy()
    other.pin("dev", 9)
    assert (source._found.pinned, other._found.pinned) == (("dev", 3), ("dev", 9))


def test_a_table_behind_a_link_out_of_the_lake_is_refused(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/raw").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigurationError) as caught:
        OneLakeSource.load({"table": "raw.x"}, Environment(lake=str(tmp_path / "lake"))).arrow_schema()
    assert caught.value.code == "outside-lake"


def test_one_table_has_one_name_in_lineage():
    assert OneLakeSource(path="raw/orders").dataset() == OneLakeSource(table="raw.orders").dataset()
    assert OneLakeSource(path="./raw//orders/").dataset() == OneLakeSource(table="raw.orders").dataset()
    assert OneLakeSource(path="deep/raw/orders").dataset().name == "deep/raw/orders"
    assert OneLakeSource(path="raw/orders.v2").dataset().name == "raw/orders.v2"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, "missing-option"),
        ({"table": "a.b", "path": "a/b"}, "missing-option"),
        ({"table": "a.b", "format": "iceberg"}, "unsupported-format"),
        ({"table": "a.b", "mode": "append", "keys": ["id"]}, "bad-option"),
        ({"table": "a.b", "mode": "upsert"}, "missing-option"),
        ({"table": "a.b", "mode": "upsert", "keys": ["id", "id"]}, "bad-option"),
        ({"table": "a.b", "mode": "upsert", "keys": ["id"], "withdrawn": "forget"}, "bad-option"),
        ({"table": "a.b", "order_by": "at"}, "bad-option"),
        ({"table": "a.b", "schema_evolution": "any"}, "bad-option"),
        ({"table": "a.b", "mode": "overwite"}, "unsupported-mode"),
        ({"table": "a.b", "mode": "overwrite_partitions"}, "missing-option"),
        ({"table": "a.b", "partition_by": ["dt", "dt"]}, "bad-option"),
        ({"table": "a.b", "partition_bye": ["dt"]}, "unknown-option"),
    ],
)
def test_impossible_sinks_are_refused_at_check_time(options, code):
    assert code_of(OneLakeSink, **options) == code


def test_templates_are_looked_at_when_they_are_rendered():
    assert code_of(OneLakeSource, table="{{ params.table }}", partitions={"dt": "{{ ds }}"}) is None
    assert code_of(OneLakeSink, path="exports/{{ ds }}", mode="{{ params.mode }}") is None
    assert code_of(OneLakeSource, table="raw.x", partitions={"dt": {"$window": "last", "n": 7}}) is None


def test_another_store_is_not_known():
    with pytest.raises(AiflowError) as caught:
        OneLakeSource.load({"table": "raw.x"}, Environment(lake="gs://company-lake")).arrow_schema()
    assert caught.value.code == "unsupported-store"
