"""Faults of a store befall just the requests that were planned, and what readers got is counted."""

import os
import threading

import obstore
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from obstore.exceptions import AlreadyExistsError, BaseError

from harness.place import KINDS
from harness.proxy import (
    EXPIRED_TOKEN,
    SERVER_ERROR,
    SLOW_DOWN,
    Answer,
    Call,
    DropAnswer,
    DropRequest,
    Hang,
    fault_proxy,
)


@pytest.fixture(params=[kind for kind in KINDS if kind != "folder"])
def place(request, make_place):
    return make_place(request.param)


@pytest.fixture
def proxy(place):
    with fault_proxy(place.host) as proxy:
        yield proxy


def test_all_clients_work_through_it_and_every_request_is_written_down(place, proxy):
    options = place.options(proxy.endpoint)
    write_deltalake(f"{place.address}/t", pa.table({"x": [1, 2]}), storage_options=options)
    assert DeltaTable(f"{place.address}/t", storage_options=options).version() == 0
    pl.LazyFrame({"x": range(9)}).sink_parquet(f"{place.address}/f.parquet", storage_options=options)
    assert pl.scan_parquet(f"{place.address}/f.parquet", storage_options=options).collect().height == 9
    assert [request.method for request in proxy.seen("PUT|POST", r"_delta_log/0+\.json")] == ["PUT"]
    assert all(request.status for request in proxy.requests)
    assert [request.number for request in proxy.requests] == list(range(1, len(proxy.requests) + 1))


def test_what_a_reader_gets_is_counted(place, proxy):
    place.write("x", bytes(10_000))
    obstore.get_range(place.open(proxy.endpoint), "x", start=10, end=110)
    assert proxy.bytes_got("x") == 100
    assert [request.range for request in proxy.seen("GET")] == ["bytes=10-109"]


@pytest.mark.parametrize("fault", [SERVER_ERROR, SLOW_DOWN, DropRequest(3), DropRequest(), Hang(0.2)])
def test_a_fault_befalls_the_request_it_is_planned_for_and_the_server_hears_nothing(place, proxy, fault):
    proxy.plan(fault, "PUT", "x", first=2)
    bucket = place.open(proxy.endpoint, tries_again=False)
    obstore.put(bucket, "x1", b"one", use_multipart=False)
    with pytest.raises(Exception, match=r"error|status|closed"):
        obstore.put(bucket, "x2", b"two two", use_multipart=False)
    obstore.put(bucket, "x3", b"three", use_multipart=False)
    assert set(place.files()) == {"x1", "x3"}
    assert [request.fault for request in proxy.requests] == [None, fault, None]
    if isinstance(fault, DropRequest):
        assert proxy.requests[1].sent_bytes == fault.after_bytes


def test_a_client_that_tries_again_gets_over_a_slow_down(place, proxy):
    proxy.plan(SLOW_DOWN, times=2)
    obstore.put(place.open(proxy.endpoint), "x", b"one")
    assert place.read("x") == b"one"


def test_the_put_lands_and_the_answer_is_lost(place, proxy):
    proxy.plan(DropAnswer(), "PUT")
    with pytest.raises(AlreadyExistsError):  # object_store tries again, and finds its own object
        obstore.put(place.open(proxy.endpoint), "x", b"one", mode="create")
    assert place.read("x") == b"one"


def test_an_answer_breaks_off_in_the_middle(place, proxy):
    place.write("x", bytes(100_000))
    proxy.plan(DropAnswer(50_000), "GET", times=None)
    with pytest.raises(Exception, match=r"error"):
        obstore.get(place.open(proxy.endpoint, tries_again=False), "x").bytes()


def test_a_credential_expires(place, proxy):
    proxy.plan(EXPIRED_TOKEN if place.kind == "s3" else Answer(403, "AuthenticationFailed"), times=None)
    with pytest.raises(Exception, match=r"ExpiredToken|AuthenticationFailed"):
        obstore.put(place.open(proxy.endpoint), "x", b"one")


def test_functions_are_called_before_and_after_the_request_takes_effect(place, proxy):
    seen = []
    proxy.plan(Call(lambda: seen.append(set(place.files())), lambda: seen.append(set(place.files()))), "PUT")
    obstore.put(place.open(proxy.endpoint), "x", b"one")
    assert seen == [set(), {"x"}]


def test_it_ends_while_a_request_hangs(place):
    with fault_proxy(place.host) as proxy:
        proxy.plan(Hang())
        bucket = place.open(proxy.endpoint, tries_again=False)
        failures: list[BaseException] = []

        def put() -> None:
            try:
                obstore.put(bucket, "x", b"one")
            except BaseError as error:
                failures.append(error)

        thread = threading.Thread(target=put)
        thread.start()
        while not proxy.requests:
            os.sched_yield()
    thread.join(20)
    assert failures
