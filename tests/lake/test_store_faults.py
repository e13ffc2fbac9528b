"""A store that errs, is slow, breaks off or denies: what the run is told, and that nothing is half done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake import OneLakeSink, OneLakeSource
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import DatasetName, FrameWrite, Scan, Session, Sink, Write, Written
from cells.lake import opened
from extent import combinations
from harness.azure import WRONG_KEY
from harness.place import StorePlace
from harness.proxy import (
    EXPIRED_TOKEN,
    INVALID_KEY,
    SERVER_BUSY,
    SERVER_ERROR,
    SLOW_DOWN,
    Answer,
    Call,
    DropAnswer,
    DropRequest,
    Hang,
    Proxy,
    fault_proxy,
)
from harness.s3 import EXPIRED, MISSPELT, UNKNOWN

DAY, NEXT = "2026-11-20", "2026-11-21"
SHORT = {"retry_seconds": "1"}
IMPATIENT = {"timeout_seconds": "2", **SHORT}
"""A busy machine answers late by itself, so only who waits for nothing is impatient."""
COMMIT = r"_delta_log/0+\d+\.json"
DATA = r"\.parquet"


def run_of(generation: int = 1, day: str = DAY, *, pipeline: str = "x", attempt: int = 1) -> Run:
    return Run(
        run_id=f"0193c000-0000-7000-8000-{generation:012d}",
        environment="dev",
        project="p",
        pipeline_id=pipeline,
        partition_key=day,
        partition_grain="day",
        execution=generation,
        generation=generation,
        attempt=attempt,
    )


@pytest.fixture(autouse=True, scope="module")
def brief_polars() -> Iterator[None]:
    """polars tries twice nine times; the number is its own, and told by its environment variables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLARS_CLOUD_MAX_RETRIES", "2")
        yield


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with opened("python", Environment(), run_of()) as session:
        yield session


class Lake:
    """One table of a lake in a store, past a proxy or straight."""

    def __init__(self, place: StorePlace, session: Session, storage: Mapping[str, Any]) -> None:
        self.place, self.session = place, session
        self.environment = Environment(lake=place.address, storage=dict(storage))

    def write(self, ids: Sequence[int], run: Run, *, mode: str = "overwrite", **options: Any) -> Written:
        sink = OneLakeSink.load({"table": "raw.t", "partition_by": ["dt"], "mode": mode, **options}, self.environment)
        frame = pl.LazyFrame({"id": ids}, schema={"id": pl.Int64})
        request = Write("out", run, {"dt": run.partition_key or ""}, "dt" if mode == "overwrite" else None)
        (written,) = self.session.write([FrameWrite(frame, sink, request)])
        return written

    def copy(self, run: Run) -> Written:
        """Write a day's rows in their own place, as the session's engine reads and writes them."""
        source = OneLakeSource.load({"table": "raw.t", "partitions": {"dt": run.partition_key}}, self.environment)
        sink = OneLakeSink.load({"table": "raw.t", "partition_by": ["dt"]}, self.environment)
        request = Write("out", run, {}, "dt")
        (written,) = self.session.write([FrameWrite(self.session.read(source, Scan()), sink, request)])
        return written

    def rows(self) -> list[tuple[int, str]]:
        source = OneLakeSource.load({"table": "raw.t"}, self.environment)
        batches = list(source.scan(Scan()))
        return sorted(pl.DataFrame(pa.Table.from_batches(batches)).select("id", "dt").rows())

    def engine_rows(self) -> Any:
        """Read as a function of a user's does."""
        source = OneLakeSource.load({"table": "raw.t"}, self.environment)
        return self.session.write([FrameWrite(self.session.read(source, Scan()), Nothing(), Write("kept", run_of()))])


class Nothing(Sink, kind="nothing"):
    """Takes all rows."""

    def dataset(self) -> DatasetName:
        return DatasetName("test", "nothing")

    def write(self, batches: pa.RecordBatchReader, request: Write) -> Written:
        return Written(rows=batches.read_all().num_rows)


STORES = ("s3", "azure")


@pytest.fixture(params=STORES)
def place(request, make_place) -> StorePlace:
    return make_place(request.param)


@pytest.fixture
def proxy(place) -> Iterator[Proxy]:
    with fault_proxy(place.host) as proxy:
        yield proxy


@pytest.fixture
def straight(place, session) -> Lake:
    """The lake without the proxy, with two days in its table."""
    lake = Lake(place, session, place.storage())
    lake.write([1], run_of(1, DAY))
    lake.write([2], run_of(1, NEXT))
    return lake


@pytest.fixture
def lake(place, proxy, straight, session) -> Lake:
    return Lake(place, session, {**place.storage(proxy.endpoint), **SHORT})


BEFORE = [(1, DAY), (2, NEXT)]
AFTER = [(2, NEXT), (7, DAY), (8, DAY)]


def told(action: Callable[[], object]) -> AiflowError:
    with pytest.raises(AiflowError) as caught:
        action()
    error = caught.value
    assert error.hint, error
    return error


def check_clean(straight: Lake, before: Sequence[tuple[int, str]] = BEFORE) -> None:
    """Nothing of the failed execution is seen, and when it is repeated its rows are there once."""
    assert straight.rows() == list(before)
    straight.write([7, 8], run_of(2, attempt=2))
    assert straight.rows() == AFTER


@pytest.mark.parametrize("fault", [SLOW_DOWN, SERVER_BUSY, SERVER_ERROR, DropRequest(0)], ids=str)
def test_a_store_that_errs_a_few_times_is_asked_again(place, proxy, lake, fault):
    if isinstance(fault, Answer) and fault.code == ("ServerBusy" if place.kind == "s3" else "SlowDown"):
        pytest.skip("the other store's word")
    for path in (COMMIT, DATA, "_delta_log"):
        proxy.plan(fault, ".*", path, times=2)
    long = Lake(place, lake.session, {**lake.environment.storage, "retry_seconds": "20"})
    if isinstance(fault, DropRequest):
        # Whether a put took effect whose connection broke is known to nobody but the store: a later attempt asks it.
        attempts = range(1, 5)
        assert any(unless_lost(lambda: long.write([7, 8], run_of(2, attempt=number))) for number in attempts)  # noqa: B023  # called at once
    else:
        long.write([7, 8], run_of(2))
    assert long.rows() == AFTER


def unless_lost(action: Callable[[], Written]) -> Written | None:
    """Return what was written, or None where the driver found out only that its connection broke."""
    try:
        return action()
    except AiflowError as error:
        if (error.code, error.retryable) != ("store-unavailable", True):
            raise
        return None


FOR_EVER = [SLOW_DOWN, SERVER_ERROR, DropRequest(0), DropRequest(100), Hang()]


@pytest.mark.parametrize(
    ("place", "fault", "what"), combinations(STORES, FOR_EVER, ["commit", "data", "all"]), indirect=["place"], ids=str
)
def test_a_write_to_a_store_that_errs_for_ever_says_so_soon(place, proxy, lake, straight, fault, what):
    path = {"commit": COMMIT, "data": DATA, "all": ""}[what]
    proxy.plan(fault, "PUT" if path else ".*", path, times=None)
    if isinstance(fault, Hang):
        lake = Lake(place, lake.session, {**lake.environment.storage, **IMPATIENT})
    began = time.monotonic()
    error = told(lambda: lake.write([7, 8], run_of(2)))
    assert time.monotonic() - began < 90
    assert (error.code, error.retryable) == ("store-unavailable", True), error.to_dict()
    proxy.clear()
    check_clean(straight)


@pytest.mark.parametrize(
    ("place", "fault", "what"),
    combinations(STORES, [SLOW_DOWN, DropAnswer(20), Hang()], ["data", "log"]),
    indirect=["place"],
    ids=str,
)
def test_a_read_of_a_store_that_errs_for_ever_says_so_soon(place, proxy, lake, straight, fault, what):
    proxy.plan(fault, "GET", {"data": DATA, "log": "_delta_log"}[what], times=None)
    impatient = Lake(place, lake.session, {**lake.environment.storage, **IMPATIENT})
    error = told(impatient.engine_rows if isinstance(fault, Hang) else lake.engine_rows)
    assert (error.code, error.retryable) == ("store-unavailable", True), error.to_dict()
    proxy.clear()
    assert lake.rows() == BEFORE


@pytest.mark.parametrize("mode", ["overwrite", "append"])
def test_a_commit_whose_answer_is_lost_lands_once(proxy, lake, straight, mode):
    proxy.plan(DropAnswer(), "PUT", COMMIT, times=1)
    written = unless_lost(lambda: lake.write([7, 8], run_of(2), mode=mode))
    assert written is None or (written.rows, written.superseded) == (2, False)
    assert straight.rows() == AFTER  # in either mode a newer execution takes the place of the sink's older rows
    lake.write([7, 8], run_of(2, attempt=2), mode=mode)
    assert straight.rows() == AFTER


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_a_commit_whose_answer_is_lost_lands_once_though_others_go_on(proxy, lake, straight, mode):
    """By the time that the writer looks again, somebody has replaced some of its rows."""
    keys = {"keys": ["id"]}

    def other() -> bool:
        straight.write([8, 9], run_of(5, NEXT, pipeline="other"), mode="upsert", **keys)
        return False

    proxy.plan(Call(after=other), "PUT", COMMIT, times=1)
    unless_lost(lambda: lake.write([7, 8], run_of(2), mode=mode, **(keys if mode == "upsert" else {})))
    wanted = [(2, NEXT), (7, DAY), (8, NEXT), (9, NEXT)]
    assert straight.rows() == wanted


def test_a_commit_that_takes_effect_after_it_was_given_up_finds_its_files(place, proxy, lake, straight):
    lake = Lake(place, lake.session, {**lake.environment.storage, **IMPATIENT})
    proxy.plan(Call(before=lambda: time.sleep(4)), "PUT", COMMIT, times=1)
    error = told(lambda: lake.write([7, 8], run_of(2)))
    assert (error.code, error.retryable) == ("store-unavailable", True)
    proxy.settle()
    assert straight.rows() in (BEFORE, AFTER)
    straight.write([7, 8], run_of(2, attempt=2))
    assert straight.rows() == AFTER


S3_CREDENTIALS = [(EXPIRED, "credentials-expired"), (UNKNOWN, "store-denied"), (MISSPELT, "store-denied")]


@pytest.mark.parametrize("what", ["write", "read"])
@pytest.mark.parametrize(("credentials", "code"), S3_CREDENTIALS, ids=["expired", "unknown", "misspelt"])
def test_s3_credentials_that_are_wrong_are_told_at_once(make_place, session, credentials, code, what):
    place = make_place("s3")
    good = Lake(place, session, place.storage())
    good.write([1], run_of(1, DAY))
    bad = Lake(place, session, place.server.storage(credentials))
    error = told((lambda: bad.write([7], run_of(2))) if what == "write" else bad.engine_rows)
    assert (error.code, error.retryable) == (code, False)
    assert "storage" in (error.hint or "")
    assert credentials.secret_access_key not in repr(error.to_dict())
    assert good.rows() == [(1, DAY)]


@pytest.mark.parametrize("what", ["write", "read"])
def test_an_azure_key_that_is_wrong_is_told_at_once(make_place, session, what):
    place = make_place("azure")
    good = Lake(place, session, place.storage())
    good.write([1], run_of(1, DAY))
    bad = Lake(place, session, place.server.storage(WRONG_KEY))
    error = told((lambda: bad.write([7], run_of(2))) if what == "write" else bad.engine_rows)
    assert (error.code, error.retryable) == ("store-denied", False)
    assert good.rows() == [(1, DAY)]


@pytest.mark.parametrize("path", [COMMIT, DATA], ids=["commit", "data"])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (EXPIRED_TOKEN, "credentials-expired"),
        (INVALID_KEY, "store-denied"),
        (Answer(403, "AccessDenied"), "store-denied"),
    ],
    ids=["expired", "unknown", "denied"],
)
def test_credentials_that_end_in_the_middle_of_a_write_leave_nothing_half_done(
    proxy, lake, straight, fault, code, path
):
    proxy.plan(fault, "PUT", path, times=None)
    error = told(lambda: lake.write([7, 8], run_of(2)))
    assert (error.code, error.retryable) == (code, False), error.to_dict()
    proxy.clear()
    check_clean(straight)


@pytest.mark.parametrize("path", [DATA, "_delta_log"], ids=["data", "log"])
def test_credentials_that_end_in_the_middle_of_a_read_are_told(proxy, lake, straight, path):
    proxy.plan(EXPIRED_TOKEN, "GET", path, times=None)
    error = told(lake.engine_rows)
    assert (error.code, error.retryable) == ("credentials-expired", False), error.to_dict()


def test_a_widening_whose_answer_is_lost_keeps_its_files(proxy, place, session):
    good = Lake(place, session, place.storage())

    def write(lake: Lake, kind: Any, generation: int) -> Written:
        options = {"table": "raw.t", "mode": "append", "schema_evolution": "widen"}
        frame = pl.DataFrame({"id": [generation]}, schema={"id": kind})
        sink = OneLakeSink.load(options, lake.environment)
        return sink.write(frame.to_arrow().to_reader(), Write("out", run_of(generation, f"2026-11-0{generation}")))

    def rows() -> list[int]:
        source = OneLakeSource.load({"table": "raw.t"}, good.environment)
        return sorted(row["id"] for batch in source.scan(Scan()) for row in batch.to_pylist())

    write(good, pl.Int32, 1)
    lake = Lake(place, session, {**place.storage(proxy.endpoint), **SHORT})
    proxy.plan(DropAnswer(), "PUT", COMMIT, times=1)
    if unless_lost(lambda: write(lake, pl.Int64, 2)) is None:
        assert rows() == [1]
        write(lake, pl.Int64, 2)
    assert rows() == [1, 2]


SPARK_FAULTS = [
    (Answer(403, "AccessDenied"), "PUT", "store-denied"),
    (Answer(403, "AccessDenied"), "GET", "store-denied"),
    (EXPIRED_TOKEN, "GET", "credentials-expired"),
]
"""What Sail does not try again for minutes."""


@pytest.mark.usefixtures("spark_session")
@pytest.mark.parametrize(("fault", "method", "code"), SPARK_FAULTS, ids=["put", "get", "expired"])
def test_spark_tells_the_failures_of_a_store_alike(proxy, place, straight, fault, method, code):
    lake = Environment(lake=place.address, storage={**place.storage(proxy.endpoint), **SHORT})
    with opened("spark", lake, run_of()) as session:
        spark = Lake(place, session, lake.storage)
        proxy.plan(fault, method, DATA, times=None)
        error = told(lambda: spark.copy(run_of(2)))
        assert (error.code, error.retryable) == (code, False), error.to_dict()
        proxy.clear()
        assert straight.rows() == BEFORE
        spark.copy(run_of(2, attempt=2))
    assert straight.rows() == BEFORE
