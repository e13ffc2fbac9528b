"""How many bytes a read fetches: those of the partitions, columns and row groups asked for, and hardly more."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import WriterProperties, write_deltalake

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSource
from aiflow_sdk.plugins import Predicate, Scan
from cells.lake import opened, run_of
from harness.place import Place
from harness.proxy import Proxy, fault_proxy

DAYS = [f"2026-11-{day}" for day in range(20, 26)]
ROWS = 60_000
GROUP = 10_000
SLACK = 1.05
"""What a read may fetch beside what it needs."""
END_BYTES = 263_000
"""What a reader asks of a file's end before it knows how long the footer is: polars 256 KiB, others less."""


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Place:
    from harness.place import StorePlace

    server = request.getfixturevalue("s3")
    place = StorePlace("s3", server, server.bucket())
    rng = random.Random(1)
    for day in DAYS:
        frame = pl.DataFrame(
            {  # readers fetch two chunks at once that lie close to each other
                "id": range(ROWS),  # in order, so that few row groups hold a range of it
                "note": [f"{rng.getrandbits(200):x}" for _ in range(ROWS)],
                "amount": [rng.random() for _ in range(ROWS)],
                "dt": [day] * ROWS,
            }
        )
        write_deltalake(
            f"{place.address}/raw/orders",
            frame,
            mode="append",
            partition_by=["dt"],
            storage_options=place.options(),
            writer_properties=WriterProperties(max_row_group_size=GROUP, compression="ZSTD"),
        )
    return place


@pytest.fixture
def proxy(place: Place) -> Iterator[Proxy]:
    with fault_proxy(place.host) as proxy:
        yield proxy


def files(place: Place, day: str) -> dict[str, int]:
    return {key: size for key, size in place.files(f"raw/orders/dt={day}/").items() if key.endswith(".parquet")}


def needed(place: Place, days: list[str], columns: list[str], ids: range | None = None) -> int:
    """Return the bytes of the column chunks that a read has to fetch: those whose row group holds one of the ids."""
    found = 0
    for day in days:
        for key in files(place, day):
            about = pq.ParquetFile(io.BytesIO(place.read(key))).metadata
            for number in range(about.num_row_groups):
                group = about.row_group(number)
                chunks = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
                within = chunks["id"].statistics
                if ids is None or (within.min < ids.stop and within.max >= ids.start):
                    found += sum(chunks[column].total_compressed_size for column in columns)
    return found


Read = Callable[[OneLakeSource, Scan, Callable[[Any], Any]], list[tuple[Any, ...]]]
ALL = ["id", "amount", "note"]


@pytest.fixture(params=["python", "spark"])
def read(request: pytest.FixtureRequest, place: Place, proxy: Proxy) -> Iterator[Read]:
    """Read by an engine as a pipeline does, and return the rows; the frame may be narrowed before it is computed."""
    engine = request.param
    if engine == "spark":
        request.getfixturevalue("spark_session")
    environment = Environment(lake=place.address, storage=place.storage(proxy.endpoint))
    with opened(engine, environment, run_of(None, 1)) as session:

        def read(source: OneLakeSource, scan: Scan, narrow: Callable[[Any], Any]) -> list[tuple[Any, ...]]:
            frame = narrow(session.read(source, scan))
            proxy.clear()
            return sorted(frame.collect().rows() if engine == "python" else map(tuple, frame.collect()))

        yield read


def source(place: Place, proxy: Proxy, **options: Any) -> OneLakeSource:
    environment = Environment(lake=place.address, storage=place.storage(proxy.endpoint))
    return OneLakeSource.load({"table": "raw.orders", **options}, environment)


def check_bytes(proxy: Proxy, most: int, count: int) -> None:
    assert most * 0.5 < proxy.bytes_got(r"\.parquet") <= most * SLACK + count * END_BYTES


def within(ids: range) -> tuple[Predicate, Predicate]:
    return Predicate("id", ">=", ids.start), Predicate("id", "<", ids.stop)


def same(frame: Any) -> Any:
    return frame


def test_a_partition_is_read_and_no_other(place, proxy, read):
    rows = read(source(place, proxy, partitions={"dt": DAYS[2]}), Scan(), same)
    assert len(rows) == ROWS
    check_bytes(proxy, needed(place, [DAYS[2]], ALL), 1)
    fetched = {request.path.partition("dt=")[2][:10] for request in proxy.seen("GET", r"\.parquet")}
    assert fetched == {DAYS[2]}


def test_a_range_of_partitions_is_read_and_no_other(place, proxy, read):
    rows = read(source(place, proxy, partitions={"dt": DAYS[1:4]}), Scan(), same)
    assert len(rows) == 3 * ROWS
    check_bytes(proxy, needed(place, DAYS[1:4], ALL), 3)


def test_columns_that_are_not_asked_for_are_not_fetched(place, proxy, read):
    rows = read(source(place, proxy, partitions={"dt": DAYS[0]}), Scan(columns=("amount",)), same)
    assert len(rows) == ROWS
    check_bytes(proxy, needed(place, DAYS[:1], ["amount"]), 1)


def test_a_filter_leaves_out_row_groups_and_partitions(place, proxy, read):
    wanted = range(25_000, 25_010)
    predicates = (
        Predicate("id", ">=", wanted.start),
        Predicate("id", "<", wanted.stop),
        Predicate("dt", "==", DAYS[3]),
    )
    rows = read(source(place, proxy), Scan(columns=("id", "note"), predicates=predicates), same)
    assert [row[0] for row in rows] == list(wanted)
    check_bytes(proxy, needed(place, [DAYS[3]], ["id", "note"], wanted), 1)


def test_what_a_function_selects_is_pushed_down_too(request, place, proxy, read):
    """The transform is given the whole partition, lazily, and asks for little of it."""
    wanted = range(41_000, 41_003)

    def narrow(frame: Any) -> Any:
        if isinstance(frame, pl.LazyFrame):
            return frame.filter(pl.col("id").is_between(wanted.start, wanted.stop - 1)).select("id", "note")
        return frame.where(f"id BETWEEN {wanted.start} AND {wanted.stop - 1}").select("id", "note")

    rows = read(source(place, proxy, partitions={"dt": DAYS[5]}), Scan(), narrow)
    assert [row[0] for row in rows] == list(wanted)
    check_bytes(proxy, needed(place, [DAYS[5]], ["id", "note"], wanted), 1)


def test_arrow_batches_are_narrowed_as_well(place, proxy):
    wanted = range(100, 110)
    predicates = (
        Predicate("id", ">=", wanted.start),
        Predicate("id", "<", wanted.stop),
        Predicate("dt", "==", DAYS[1]),
    )
    one = source(place, proxy)
    one.arrow_schema()
    proxy.clear()
    batches = one.scan(Scan(columns=("id", "note"), predicates=predicates))
    assert sorted(number for batch in batches for number in batch.column("id").to_pylist()) == list(wanted)
    check_bytes(proxy, needed(place, [DAYS[1]], ["id", "note"], wanted), 1)


def test_counts_are_told_by_the_log_alone(place, proxy):
    one = source(place, proxy, partitions={"dt": DAYS[:2]})
    assert one.measure(run_of(None, 1)) == (2 * ROWS, sum(sum(files(place, day).values()) for day in DAYS[:2]))
    assert list(one.present("dt")) == DAYS
    assert {key: facts.rows for key, facts in one.partition_facts("dt", DAYS).items()} == dict.fromkeys(DAYS, ROWS)
    environment = Environment(lake=place.address, storage=place.storage(proxy.endpoint))
    facts = OneLakeSource.table_facts(environment, "raw.orders")
    assert facts is not None
    assert facts.rows == len(DAYS) * ROWS
    assert proxy.seen("GET", r"\.parquet$") == []
