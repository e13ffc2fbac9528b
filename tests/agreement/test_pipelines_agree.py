"""One pipeline on python, on spark and on both by turns: the same rows, the same Delta schema, the same partitions.

Each case declares a pipeline with ``at()`` for the engine of each node, and is run three times into tables of its own.
All runs are in this process, so that one embedded Spark serves the file.
"""

import datetime as dt
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from aiflow_sdk import pipeline, sink, source, window
from aiflow_sdk.testing import run_pipeline

DAY = "2026-11-20"
NEW_YORK = "America/New_York"
NOON = dt.datetime(2026, 11, 20, 12, 30, 1, 123456, dt.UTC)
PLACES = {"python": ("python",), "spark": ("spark",), "mixed": ("spark", "python")}
"""Where the nodes of a case run, in turn."""

ORDERS = pa.table(
    {
        "order_id": pa.array([1, 2, 3, 4, 5, 6], pa.int64()),
        "user_id": pa.array(["ana", "bo", None, "ana", "日本 é", "ana"]),
        "quantity": pa.array([1, 2, 3, None, 5, 6], pa.int32()),
        "price": pa.array([Decimal(f"{n}.10") if n != 3 else None for n in range(1, 7)], pa.decimal128(12, 2)),
        "weight": pa.array([0.5, None, 1.5, 2.5, -0.0, 1e300]),
        "paid_at": pa.array([NOON, None, NOON, NOON.replace(hour=1), NOON, NOON], pa.timestamp("us", "UTC")),
        "seen_at": pa.array([NOON.replace(tzinfo=None)] * 5 + [None], pa.timestamp("us")),
        "ships": pa.array([NOON.date(), None, dt.date(1969, 12, 31), *[dt.date(2026, 2, 28)] * 3]),
        "gift": pa.array([True, False, None, True, False, True]),
        "raw": pa.array([b"\x00\xff", None, b"", b"a", b"b", b"c"]),
        "tags": pa.array([["a", None], [], None, ["é"], ["'", '"'], ["a"]]),
        "address": pa.array(
            [{"city": "Köln", "lines": [{"n": 1, "text": "x"}]}, None, {"city": None, "lines": None}]
            + [{"city": "大阪", "lines": []}] * 3,
            pa.struct({"city": pa.string(), "lines": pa.list_(pa.struct({"n": pa.int32(), "text": pa.string()}))}),
        ),
        "dt": pa.array([DAY] * 5 + ["2026-11-19"]),
    }
)
USERS = pa.table(
    {"user_id": ["ana", "bo", "nobody", None], "since": pa.array([dt.date(2020, 1, day) for day in (1, 2, 3, 4)])}
)

JOBS = """
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    import duckdb
    import pandas as pd


def same(orders):
    return orders

def keep(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame

def by_user(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.group_by("user_id").agg(
        pl.len().cast(pl.Int64).alias("orders"),
        pl.col("quantity").sum().cast(pl.Int64).alias("quantity"),
        pl.col("price").max(),
        pl.col("paid_at").min(),
        pl.col("seen_at").max(),
        pl.col("ships").max(),
        pl.col("weight").mean().alias("weight"),
        pl.col("gift").any().alias("any_gift"),
    )

def enrich(orders: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    return orders.join(users, on="user_id", how="left").select("order_id", "user_id", "since", "price", "dt")

def enrich_all(inputs: dict[str, pa.Table], params) -> pa.Table:
    return inputs["orders"].select(["order_id", "user_id"]).join(inputs["users"], "user_id", join_type="full outer")

def dear(orders: pl.DataFrame, least: str) -> pl.DataFrame:
    return orders.filter((pl.col("price") >= Decimal(least)) & pl.col("user_id").is_not_null())

def none(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.clear()

def twice(orders: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([orders, orders])

def by_pandas(orders: "pd.DataFrame"):
    return orders[["order_id", "user_id"]].sort_values("order_id").head(3)

def by_duckdb(orders: "duckdb.DuckDBPyRelation"):
    return orders.filter("quantity > 1").project("order_id, user_id, price, seen_at, tags")

def nested(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.select(
        "order_id",
        city=pl.col("address").struct.field("city"),
        lines=pl.col("address").struct.field("lines").list.len().cast(pl.Int32),
        first_tag=pl.col("tags").list.first(),
        pair=pl.struct("order_id", "user_id"),
        texts=pl.concat_list(pl.col("user_id"), pl.lit("é")),
    )

def facts(orders: pl.DataFrame, context, day, label) -> pl.DataFrame:
    return pl.DataFrame({"rows": [len(orders)], "ds": [context.ds], "day": [day], "label": [label]})

def odd(orders: pl.DataFrame, values: list) -> pl.DataFrame:
    return pl.DataFrame({"n": range(len(values)), "v": values}, schema={"n": pl.Int64, "v": pl.String})

def pages(clicks: pl.DataFrame) -> pl.DataFrame:
    return clicks.group_by("page").agg(pl.len().cast(pl.Int64).alias("clicks"))
"""

ODD = ["a'b", 'q"q', "x; drop table raw.orders; --", "../up", "a/b", "%2F", "50% ü", "日本", " x ", "None", None, "a=b"]
HOURS = ["2026-11-01T00", "2026-11-01T01-04:00", "2026-11-01T01-05:00", "2026-11-01T02"]


class Feed(BaseHTTPRequestHandler):
    """Answers every question with one feed."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        items = (
            "<item><title>Käse &amp; 日本</title><link>https://example.org/1</link>"
            "<pubDate>Fri, 20 Nov 2026 08:30:00 +0100</pubDate></item><item><title/></item>"
        )
        self.wfile.write(f"<rss version='2.0'><channel><title>News</title>{items}</channel></rss>".encode())

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def feed() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Feed) as pages:
        thread = threading.Thread(target=pages.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{pages.server_port}/feed.xml"
        pages.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the tables that the cases read; each writes its own."""
    root = tmp_path_factory.mktemp("agreement")
    (root / "agreed_jobs.py").write_text(JOBS)
    (root / "aiflow.toml").write_text("")
    clicks = pa.table({"page": ["home", "cart"] * len(HOURS), "hour": [hour for hour in HOURS for _ in range(2)]})
    odd = pa.table({"n": list(range(len(ODD))), "v": pa.array(ODD)})
    for name, table, by in (
        ("orders", ORDERS, ["dt"]),
        ("users", USERS, []),
        ("clicks", clicks, ["hour"]),
        ("odd", odd, ["v"]),
    ):
        place = root / ".aiflow/lake/raw" / name
        place.mkdir(parents=True)
        write_deltalake(str(place), table, partition_by=by)
    return root


CASES: dict[str, Callable[..., None]] = {}


def case(function: Callable[..., None]) -> Callable[..., None]:
    CASES[function.__name__] = function
    return function


def orders(p: Any, partitions: Any = "{{ ds }}") -> Any:
    return p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": partitions}))


def users(p: Any) -> Any:
    return p.read(source.onelake(id="users", table="raw.users"))


def write(p: Any, dataset: Any, at: Any, name: str = "out", **options: Any) -> None:
    p.write(dataset, sink.onelake(id=f"{name}_sink", table=at.table(name), **options))


@case
def a_copy(p, at):
    write(p, orders(p), at)


@case
def every_type_through_a_function(p, at):
    write(p, orders(p).transform(id="same", engine=at(), fn="agreed_jobs:same"), at, partition_by=["dt"])


@case
def every_type_from_task_to_task(p, at):
    first = orders(p).transform(id="same", engine=at(), fn="agreed_jobs:same", fuse=False)
    second = first.transform(id="keep", engine=at(), fn="agreed_jobs:keep", fuse=False)
    write(p, second.transform(id="again", engine=at(), fn="agreed_jobs:keep", fuse=False), at)


@case
def every_type_through_sql(p, at):
    write(p, orders(p).sql("select * from {orders}", id="all", engine=at()), at)


@case
def groups(p, at):
    write(p, orders(p).transform(id="by_user", engine=at(), fn="agreed_jobs:by_user"), at)


@case
def groups_by_sql(p, at):
    grouped = orders(p).sql(
        "select user_id, count(*) as orders, cast(sum(quantity) as bigint) as quantity, max(price) as price,"
        " min(paid_at) as paid_at, max(seen_at) as seen_at, max(ships) as ships, avg(weight) as weight"
        " from {orders} group by user_id having count(*) > 0",
        id="grouped",
        engine=at(),
    )
    write(p, grouped, at)


@case
def a_join_of_two_inputs(p, at):
    write(p, p.transform(orders(p), users(p), id="enrich", engine=at(), fn="agreed_jobs:enrich"), at)


@case
def an_outer_join_in_arrow(p, at):
    write(p, p.transform(orders(p), users(p), id="enrich_all", engine=at(), fn="agreed_jobs:enrich_all"), at)


@case
def a_join_by_sql(p, at):
    joined = p.sql(
        "select o.order_id, u.user_id, u.since, o.price, o.dt from {orders} o left join {users} as u"
        " on o.user_id = u.user_id where o.order_id <> 2",
        orders(p),
        users(p),
        id="joined",
        engine=at(),
    )
    write(p, joined, at)


@case
def a_join_of_what_two_tasks_made(p, at):
    read = orders(p)
    dear = read.transform(id="dear", engine=at(), fn="agreed_jobs:dear", least="2.00")
    counted = read.sql("select user_id, count(*) as n from {orders} group by user_id", id="counted", engine=at())
    joined = p.sql(
        "select d.order_id, c.n from {dear} d join {counted} c on d.user_id = c.user_id", dear, counted,
        id="joined", engine=at(),
    )  # fmt: skip
    write(p, joined, at)


@case
def filters(p, at):
    dear = orders(p).transform(id="dear", engine=at(), fn="agreed_jobs:dear", least="2.00")
    late = dear.sql(
        "select order_id, user_id, price from {dear} where gift is not null and user_id like '%a%' and price < 100.5",
        id="late",
        engine=at(),
    )
    write(p, late, at)


@case
def templates_in_sql(p, at):
    day = orders(p, window.last(2)).sql(
        "select order_id, '{{ ds }}' as made_for, dt from {orders}"
        " where dt < '{{ ds }}' and quantity >= {{ params.least }}",
        id="day",
        engine=at(),
    )
    write(p, day, at)


@case
def functions_of_the_run(p, at):
    made = orders(p).transform(
        id="facts", engine=at(), fn="agreed_jobs:facts", day=p.vars["run_date"].offset(-1), label="{{ params.label }}"
    )
    write(p, made, at)


@case
def several_sinks_of_one_dataset(p, at):
    read = orders(p)
    twice = read.transform(id="twice", engine=at(), fn="agreed_jobs:twice")
    write(p, twice, at, "one")
    write(p, twice, at, "two", partition_by=["dt"])
    write(p, read, at, "copy")
    write(p, twice.sql("select count(*) as n from {twice}", id="counted", engine=at()), at, "counted")


@case
def nested_values(p, at):
    write(p, orders(p).transform(id="nested", engine=at(), fn="agreed_jobs:nested"), at)


@case
def nested_values_by_sql(p, at):
    made = orders(p).sql(
        "select order_id, o.address.city as city, tags[1] as tag from {orders} o"
        if at.peek == "python"
        else "select order_id, o.address.city as city, get(tags, 0) as tag from {orders} o",
        id="made",
        engine=at(),
    )
    write(p, made, at)


@case
def frames_of_pandas(p, at):
    write(p, orders(p).transform(id="by_pandas", engine=at(), fn="agreed_jobs:by_pandas"), at)


@case
def frames_of_duckdb(p, at):
    write(p, orders(p).transform(id="by_duckdb", engine=at(), fn="agreed_jobs:by_duckdb"), at)


@case
def no_rows(p, at):
    none = orders(p).transform(id="none", engine=at(), fn="agreed_jobs:none")
    write(p, none, at, "whole")
    write(p, none, at, "parts", partition_by=["dt"])
    write(p, none.sql("select * from {none}", id="still", engine=at(), fuse=False), at, "later")


@case
def a_filled_partition(p, at):
    made = orders(p).sql("select user_id, count(*) as n from {orders} group by user_id", id="made", engine=at())
    write(p, made, at, partition_by=["dt"])


@case
def odd_partition_values(p, at):
    made = orders(p).transform(id="odd", engine=at(), fn="agreed_jobs:odd", params={"values": ODD})
    write(p, made.transform(id="keep", engine=at(), fn="agreed_jobs:keep"), at, "parts", partition_by=["v"],
          mode="overwrite_partitions")  # fmt: skip


@case
def a_feed(p, at):
    declared: Any = source
    news = p.read(declared.rss(id="news", url=at.feed))
    write(p, news.transform(id="keep", engine=at(), fn="agreed_jobs:keep"), at, "items")
    write(p, news.sql("select title, published from {news} where link is not null", id="some", engine=at()), at, "some")


def engines(place: str, name: str, feed: str) -> Any:
    """Return ``at``: called it gives the engine of the next node; it knows the tables that are this run's."""
    turns = itertools.cycle(PLACES[place])

    class At(SimpleNamespace):
        peek = PLACES[place][0]

        def __call__(self) -> str:
            engine = next(turns)
            self.used.add(engine)
            return engine

        def table(self, sink_name: str) -> str:
            self.tables.add(sink_name)
            return f"{place}.{name}_{sink_name}"

    return At(used=set(), tables=set(), feed=feed)


def declared(name: str, place: str, feed: str = "") -> tuple[Any, Any]:
    at = engines(place, name, feed)

    @pipeline(id=name, schedule="@daily", params={"least": 1, "label": "é'\""})
    def one(p: Any) -> None:
        CASES[name](p, at)

    return one, at


def lies(project: Path, place: str, table: str) -> dict[str, Any]:
    """Return all that a reader sees of a table, in an order that does not depend on the writer."""
    delta = DeltaTable(str(project / ".aiflow/lake" / place / table))
    found = delta.to_pyarrow_table()
    return {
        "schema": sorted(json.loads(delta.schema().to_json())["fields"], key=lambda field: field["name"]),
        "partitioned by": delta.metadata().partition_columns,
        "partitions": sorted((dict(one) for one in delta.partitions()), key=repr),
        "rows": sorted(found.select(sorted(found.column_names)).to_pylist(), key=repr),
    }


@pytest.mark.parametrize("name", CASES)
def test_a_pipeline_makes_the_same_tables_wherever_its_nodes_run(project, feed, name):
    made = {}
    for place in PLACES:
        definition, at = declared(name, place, feed)
        summary = definition.run(date=DAY, root=project)
        assert summary.succeeded, (place, summary.errors)
        assert at.used <= set(PLACES[place])
        made[place] = {table: lies(project, place, f"{name}_{table}") for table in sorted(at.tables)}
    assert made["spark"] == made["python"]
    assert made["mixed"] == made["python"]
    if "no_rows" not in name:
        assert all(table["rows"] for table in made["python"].values())


@pytest.mark.parametrize("name", ["groups", "a_join_by_sql", "every_type_through_a_function", "nested_values"])
def test_what_a_test_sees_without_a_lake_is_what_the_lake_gets(project, name):
    for place in ("python", "spark"):
        definition, _ = declared(name, place)
        inputs = {"orders": ORDERS.filter(pa.compute.equal(ORDERS["dt"], DAY)), "users": USERS}
        wanted = {node.id for node in definition().node_list}
        given = {key: value for key, value in inputs.items() if key in wanted}
        out = run_pipeline(definition, date=DAY, inputs=given, root=project)["out_sink"].to_arrow()
        definition.run(date=DAY, root=project)
        rows = sorted(out.select(sorted(out.column_names)).to_pylist(), key=repr)
        assert rows == lies(project, place, f"{name}_out")["rows"]


def test_the_rows_are_the_ones_that_were_meant(project):
    """Agreement alone would not notice two engines that are wrong alike."""
    definition, _ = declared("groups", "mixed")
    definition.run(date=DAY, root=project)
    (ana,) = [row for row in lies(project, "mixed", "groups_out")["rows"] if row["user_id"] == "ana"]
    assert ana == {
        "user_id": "ana",
        "orders": 2,
        "quantity": 1,
        "price": Decimal("4.10"),
        "paid_at": NOON.replace(hour=1),
        "seen_at": NOON.replace(tzinfo=None),
        "ships": NOON.date(),
        "weight": 1.5,
        "any_gift": True,
    }


@pytest.mark.parametrize("place", PLACES)
def test_each_hour_has_its_own_rows_though_the_clock_shows_one_twice(project, place):
    at = engines(place, "hours", "")

    @pipeline(id=f"hours_{place}", schedule="5 * * * *", timezone=NEW_YORK)
    def hourly(p: Any) -> None:
        clicks = p.read(source.onelake(id="clicks", table="raw.clicks", partitions={"hour": window.same()}))
        pages = clicks.transform(id="pages", engine=at(), fn="agreed_jobs:pages")
        write(p, pages.transform(id="keep", engine=at(), fn="agreed_jobs:keep"), at, partition_by=["hour"])

    for hour in [*HOURS, HOURS[1]]:
        summary = hourly.run(date=hour, root=project)
        assert summary.succeeded, summary.errors
    made = lies(project, place, "hours_out")
    assert made["partitions"] == [{"hour": hour} for hour in HOURS]
    assert made["rows"] == [{"clicks": 1, "hour": hour, "page": page} for hour in HOURS for page in ("cart", "home")]


@pytest.mark.parametrize("place", PLACES)
def test_an_hour_that_is_a_moment_in_the_table_is_the_runs_hour(project, place):
    """A table whose hours are timestamps gets the moment, in UTC, of the hour in the run's zone."""
    moments = [dt.datetime(2026, 11, 1, hour, tzinfo=ZoneInfo(NEW_YORK)) for hour in (0, 2)]
    root = project / ".aiflow/lake" / place / "moments_out"
    first = pa.table({"page": ["home"], "clicks": [1], "hour": pa.array(moments[:1], pa.timestamp("us", "UTC"))})
    root.parent.mkdir(exist_ok=True)
    write_deltalake(str(root), first, partition_by=["hour"])
    at = engines(place, "moments", "")

    @pipeline(id=f"moments_{place}", schedule="5 * * * *", timezone=NEW_YORK)
    def hourly(p: Any) -> None:
        clicks = p.read(source.onelake(id="clicks", table="raw.clicks", partitions={"hour": window.same()}))
        write(p, clicks.transform(id="pages", engine=at(), fn="agreed_jobs:pages"), at, partition_by=["hour"])

    summary = hourly.run(date=HOURS[1], root=project)
    assert summary.succeeded, summary.errors
    hours = {row["hour"] for row in lies(project, place, "moments_out")["rows"]}
    assert hours == {moments[0].astimezone(dt.UTC), dt.datetime(2026, 11, 1, 5, tzinfo=dt.UTC)}


@pytest.mark.parametrize("number", range(len(ODD)), ids=lambda number: f"value_{number}")
def test_one_odd_partition_is_read_by_its_value_alone(project, number):
    found = {}
    for place in ("python", "spark"):
        at = engines(place, f"odd_{number}", "")

        @pipeline(id="odd", partition="day")
        def one(p: Any, at: Any = at) -> None:
            odd = p.read(source.onelake(id="odd", table="raw.odd", partitions={"v": ODD[number]}))
            write(p, odd.sql("select n, v from {odd}", id="all", engine=at()), at, partition_by=["v"],
                  mode="overwrite_partitions")  # fmt: skip

        summary = one.run(date=DAY, root=project)
        assert summary.succeeded, summary.errors
        found[place] = lies(project, place, f"odd_{number}_out")
    assert found["spark"] == found["python"]
    assert found["python"]["rows"] == [{"n": number, "v": ODD[number]}]
