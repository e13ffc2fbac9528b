"""The test servers hold what the real stores promise: conditional puts are atomic, signatures count, all our clients work."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import obstore
import polars as pl
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from harness.place import KINDS
from harness.s3 import EXPIRED, MISSPELT, UNKNOWN
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import AzureStore, S3Store

STORES = [kind for kind in KINDS if kind != "folder"]
NO_RETRY = {"max_retries": 0, "retry_timeout": timedelta(seconds=5)}
MANY_BYTES = bytes(range(256)) * 50_000
"""12.8 MB: three parts of an upload."""


@pytest.fixture(params=STORES)
def place(request, make_place):
    return make_place(request.param)


def store(place, **options):
    if place.kind == "s3":
        return S3Store(place.bucket, prefix=place.prefix, config={**place.options(), **options})
    return AzureStore(place.bucket, prefix=place.prefix, config={**place.options(), **options})


def won(function) -> int:
    try:
        function()
    except (AlreadyExistsError, PreconditionError):
        return 0
    return 1


def race(functions) -> list[int]:
    """Start all at once."""
    start = threading.Barrier(len(functions))
    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(lambda function: (start.wait(), won(function))[1], functions))


def test_files_with_any_name_go_in_and_out(place):
    for key in ("a", "a b/x=1", "ü/日本.json", "a+b", "x%2Fy", "a'b"):
        place.write(key, key.encode())
        assert bytes(obstore.get(store(place), key).bytes()) == key.encode()
    assert len(place.files()) == 6
    place.delete("a")
    assert "a" not in place.files("a")


def test_of_racing_puts_that_need_absence_one_wins(place):
    bucket = store(place)
    for round in range(50 if place.kind == "s3" else 15):
        puts = [
            lambda name=f"{number}".encode() * 2000: obstore.put(bucket, f"{round}.json", name, mode="create")
            for number in range(8)
        ]
        winners = race(puts)
        assert sum(winners) == 1
        assert place.read(f"{round}.json")[:1] == str(winners.index(1)).encode()


def test_of_racing_puts_that_replace_one_version_one_wins(place):
    bucket = store(place)
    for round in range(10):
        version = {"e_tag": obstore.put(bucket, f"{round}.json", b"before")["e_tag"]}
        puts = [lambda: obstore.put(bucket, f"{round}.json", b"after", mode=version) for _ in range(8)]
        assert sum(race(puts)) == 1


def test_an_upload_in_parts_arrives_whole(place):
    obstore.put(store(place), "big", MANY_BYTES, use_multipart=True, chunk_size=5 << 20)
    assert place.read("big") == MANY_BYTES
    assert bytes(obstore.get_range(store(place), "big", start=255, end=259)) == bytes([255, 0, 1, 2])


@pytest.mark.parametrize(("kind", "writers"), [("s3", 32), ("azure", 8)])
def test_racing_commits_lose_nothing(make_place, kind, writers):
    place = make_place(kind)
    address = f"{place.address}/t"
    write_deltalake(address, pa.table({"writer": [-1]}), storage_options=place.options())

    def commit(number: int) -> None:
        row = pa.table({"writer": [number]})
        patient = CommitProperties(max_commit_retries=1000)
        write_deltalake(address, row, mode="append", storage_options=place.options(), commit_properties=patient)

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(commit, range(writers)))
    table = DeltaTable(address, storage_options=place.options())
    assert table.version() == writers
    assert sorted(pl.scan_delta(table).collect()["writer"]) == list(range(-1, writers))


def test_polars_and_delta_write_and_read(place):
    frame = pl.DataFrame({"number": range(400_000), "text": [f"text {number * 7919 % 400_000}" for number in range(400_000)]})
    frame.lazy().sink_parquet(f"{place.address}/f.parquet", storage_options=place.options(), compression="uncompressed")
    assert place.files("f.parquet")["f.parquet"] > 5 << 20
    scan = pl.scan_parquet(f"{place.address}/f.parquet", storage_options=place.options())
    assert scan.filter(pl.col("number") == 399_999).collect().equals(frame[-1:])
    write_deltalake(f"{place.address}/s/t", frame, storage_options=place.options())
    assert pl.scan_delta(f"{place.address}/s/t", storage_options=place.options()).collect().height == 400_000


@pytest.mark.parametrize("account", ["plain", "onelake"])
def test_azure_answers_by_every_spelling_of_an_address(azure, account):
    account = getattr(azure, account)
    container = account.container()
    address = account.address(container, "lh.Lakehouse/Tables/dbo/t")
    write_deltalake(address, pa.table({"x": [1]}), storage_options=account.options())
    for spelling in (address, account.address(container, "lh.Lakehouse/Tables/dbo/t", "az")):
        assert DeltaTable(spelling, storage_options=account.options()).version() == 0


@pytest.mark.parametrize(
    ("credentials", "code"),
    [(EXPIRED, "ExpiredToken"), (UNKNOWN, "InvalidAccessKeyId"), (MISSPELT, "SignatureDoesNotMatch")],
)
def test_s3_refuses_as_s3_does(s3, credentials, code):
    bucket = S3Store(s3.bucket(), config=s3.options(credentials), retry_config=NO_RETRY)
    with pytest.raises(Exception, match=code):
        obstore.put(bucket, "x", b"x")


def test_azure_refuses_another_key(azure):
    bucket = AzureStore(azure.plain.container(), config=azure.plain.options(key="d3Jvbmc="), retry_config=NO_RETRY)
    with pytest.raises(Exception, match="AuthorizationFailure|AuthenticationFailed|InvalidAuthenticationInfo"):
        obstore.put(bucket, "x", b"x")
