"""The servers hold what real stores promise: conditional puts are atomic, signatures count, all our clients work."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import polars as pl
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from obstore.exceptions import AlreadyExistsError, PreconditionError

from harness.azure import WRONG_KEY
from harness.place import KINDS, StorePlace
from harness.s3 import EXPIRED, MISSPELT, UNKNOWN

STORES = [kind for kind in KINDS if kind != "folder"]
MANY_BYTES = bytes(range(256)) * 50_000
"""12.8 MB: three parts of an upload."""


@pytest.fixture(params=STORES)
def place(request, make_place):
    return make_place(request.param)


def race(put, *arguments) -> list[int]:
    """Let eight put at once, each given its number; return who won."""
    start = threading.Barrier(8)

    def wins(number: int) -> bool:
        start.wait()
        try:
            put(number, *arguments)
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        return [number for number, won in enumerate(pool.map(wins, range(8))) if won]


def test_files_with_any_name_go_in_and_out(place):
    for key in ("a", "a b/x=1", "ü/日本.json", "a+b", "x%2Fy", "a'b"):
        place.write(key, key.encode())
        assert bytes(obstore.get(place.open(), key).bytes()) == key.encode()
    assert len(place.files()) == 6
    place.delete("a")
    assert "a" not in place.files("a")


def test_of_racing_puts_that_need_absence_one_wins(place):
    bucket = place.open()
    contents = [str(number).encode() * 2000 for number in range(8)]

    def put(number: int, key: str) -> None:
        obstore.put(bucket, key, contents[number], mode="create")

    for key in (f"{number}.json" for number in range(50 if place.kind == "s3" else 10)):
        winners = race(put, key)
        assert len(winners) == 1
        assert place.read(key) == contents[winners[0]]


def test_of_racing_puts_that_replace_one_version_one_wins(place):
    bucket = place.open()

    def put(_: int, version: str | None) -> None:
        obstore.put(bucket, "x", b"after", mode={"e_tag": version})  # type: ignore[typeddict-item]

    for _ in range(10):
        assert len(race(put, obstore.put(bucket, "x", b"before")["e_tag"])) == 1


def test_an_upload_in_parts_arrives_whole(place):
    obstore.put(place.open(), "big", MANY_BYTES, use_multipart=True, chunk_size=5 << 20)
    assert place.read("big") == MANY_BYTES
    assert bytes(obstore.get_range(place.open(), "big", start=255, end=259)) == bytes([255, 0, 1, 2])


@pytest.mark.parametrize(("kind", "commits"), [("s3", 32), ("azure", 8)])
def test_racing_commits_lose_nothing(make_place, kind, commits):
    place = make_place(kind)
    address = f"{place.address}/t"
    write_deltalake(address, pa.table({"writer": [-1]}), storage_options=place.options())

    def commit(writer: int) -> None:
        table = DeltaTable(address, storage_options=place.options())
        for number in range(writer, commits, 8):
            row = pa.table({"writer": [number]})
            write_deltalake(table, row, mode="append", commit_properties=CommitProperties(max_commit_retries=1000))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(commit, range(8)))
    table = DeltaTable(address, storage_options=place.options())
    assert table.version() == commits
    assert sorted(pl.scan_delta(table).collect()["writer"]) == list(range(-1, commits))


def test_polars_and_delta_write_and_read(place):
    frame = pl.DataFrame(
        {"number": range(400_000), "text": [f"text {number * 7919 % 400_000}" for number in range(400_000)]}
    )
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
    bucket = StorePlace("s3", s3, s3.bucket()).open(tries_again=False, **s3.options(credentials))
    with pytest.raises(Exception, match=code):
        obstore.put(bucket, "x", b"x")


def test_azure_refuses_another_key(azure):
    place = StorePlace("azure", azure.plain, azure.plain.container())
    bucket = place.open(tries_again=False, **azure.plain.options(key=WRONG_KEY))
    with pytest.raises(Exception, match="AuthorizationFailure"):
        obstore.put(bucket, "x", b"x")


def test_postgres_ends_with_the_process_that_started_it():
    program = (
        "import sys, time; from harness.postgres import postgres_server\n"
        "with postgres_server() as server:\n"
        "    server.database()\n"
        "    print(server.port, server.folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    library = {"PYTHONPATH": str(Path(__file__).parents[1] / "lib")}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=os.environ | library) as owner:
        assert owner.stdout
        number, folder = owner.stdout.readline().decode().split()
        port = int(number)
        assert is_open(port)
        owner.kill()
    deadline = time.monotonic() + 20
    while is_open(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_open(port)
    shutil.rmtree(folder)


def is_open(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
