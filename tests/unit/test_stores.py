"""A store answers "not there yet" to exactly one, and shows nothing half."""

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aiflow_sdk.errors import ConfigurationError, StoreError
from aiflow_sdk.stores import FolderStore, Store, discard_folder, make_folder, open_store


@pytest.fixture
def store(tmp_path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_what_is_put_is_read_and_listed(store):
    assert store.put_if_absent("a/b.json", b"{}")
    assert store.put_if_absent("a/c/d.json", b"1")
    assert store.read("a/b.json") == b"{}"
    assert store.list() == ["a/b.json", "a/c/d.json"]
    assert store.list("a/c") == ["a/c/d.json"]
    assert store.list("a/b.json") == ["a/b.json"]
    assert store.list("nowhere") == []


def test_what_is_absent_reads_as_none(store):
    assert store.read("a/b") is None
    store.put_if_absent("a", b"")
    assert store.read("a/b") is None


def test_a_second_put_changes_nothing(store):
    assert store.put_if_absent("key", b"first")
    assert not store.put_if_absent("key", b"second")
    assert store.read("key") == b"first"


@pytest.mark.parametrize("key", ["out/a", "out/deep/a", "in/out/a", "loop/a"])
def test_nothing_is_written_where_a_link_leads_out(store, tmp_path, key):
    (tmp_path / "outside").mkdir()
    (store.root / "in").mkdir(parents=True)
    for link in (store.root / "out", store.root / "in/out"):
        link.symlink_to(tmp_path / "outside")
    (store.root / "loop").symlink_to("in/out")
    for write in (store.put_if_absent, store.put):
        with pytest.raises(StoreError) as caught:
            write(key, b"1")
        assert caught.value.code == "outside-store"
    assert os.listdir(tmp_path / "outside") == []


def test_a_link_within_the_store_is_followed_and_so_is_one_to_it(store, tmp_path):
    (store.root / "there").mkdir(parents=True)
    (store.root / "link").symlink_to("there")
    (tmp_path / "other").symlink_to(store.root)
    assert store.put_if_absent("link/deep/a", b"1")
    assert FolderStore(tmp_path / "other").put_if_absent("there/b", b"2")
    assert store.list("there") == ["there/b", "there/deep/a"]


def test_put_replaces(store):
    store.put("key", b"first")
    store.put("key", b"second")
    assert store.read("key") == b"second"
    assert store.list() == ["key"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_who_may_read_it_is_said_by_the_umask_as_of_any_file(store, mask, mode):
    before = os.umask(mask)
    try:
        store.put("put", b"")
        store.put_if_absent("absent", b"")
    finally:
        os.umask(before)
    assert [store.path(key).stat().st_mode & 0o777 for key in ("put", "absent")] == [mode, mode]


@pytest.mark.parametrize("round_", range(5))
def test_of_many_threads_one_wins(store, round_):
    start, won = threading.Barrier(8), []

    def put(number):
        start.wait()
        if store.put_if_absent(f"k/{round_}", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read(f"k/{round_}") == str(won[0]).encode()
    assert store.list() == [f"k/{round_}"]


def test_delete_prefix_stops_at_a_name(store):
    for key in ("run/1/a", "run/1/b", "run/10/a", "run/2"):
        store.put_if_absent(key, b"")
    store.delete_prefix("run/1")
    assert store.list() == ["run/10/a", "run/2"]
    store.delete_prefix("run/2")
    store.delete_prefix("run/nothing")
    assert store.list() == ["run/10/a"]


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/../b", "a/.", "a\0b", "a\\b"])
def test_a_key_cannot_leave_the_store(store, key):
    with pytest.raises(StoreError) as caught:
        store.put_if_absent(key, b"")
    assert caught.value.code == "bad-key"


def folder_of(parent: Path, name: str, text: str) -> Path:
    folder = parent / name
    folder.mkdir(parents=True)
    (folder / "one").write_text(text)
    (folder / "two").write_text(text)
    return folder


def test_a_folder_is_published_once(store, tmp_path):
    assert store.publish(folder_of(tmp_path, "x", "1"), "a/b")
    second = folder_of(tmp_path, "y", "2")
    assert not store.publish(second, "a/b")
    assert store.read("a/b/one") == b"1"
    assert second.is_dir()


def test_a_file_is_published_once(store, tmp_path):
    for number in ("1", "2"):
        (tmp_path / number).write_text(number)
    assert store.publish(tmp_path / "1", "f")
    assert not store.publish(tmp_path / "2", "f")
    assert store.publish(tmp_path / "2", "f", replace=True)
    assert store.read("f") == b"2"
    assert not (tmp_path / "2").exists()


def test_a_file_may_take_the_place_of_a_folder_and_back(store, tmp_path):
    store.publish(folder_of(tmp_path, "x", "1"), "a")
    (tmp_path / "file").write_text("2")
    assert store.publish(tmp_path / "file", "a", replace=True)
    assert store.read("a") == b"2"
    assert store.publish(folder_of(tmp_path, "y", "3"), "a", replace=True)
    assert store.list() == ["a/one", "a/two"]


def test_readers_never_see_half_of_a_replaced_folder(store, tmp_path):
    store.publish(folder_of(tmp_path, "first", "0"), "data", replace=True)
    done, seen = threading.Event(), set()

    def look():
        while not done.is_set():
            seen.add(tuple(sorted(path.name for path in (store.root / "data").iterdir())))

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(200):
        store.publish(folder_of(tmp_path, f"next-{number}", str(number)), "data", replace=True)
    done.set()
    reader.join()
    assert seen == {("one", "two")}
    assert store.read("data/one") == b"199"
    assert (tmp_path / "next-199" / "one").read_text() == "198", "who read the old one may go on"


def hold(root: Path, ready: object, go: object) -> None:
    with FolderStore(root).lock("lock"):
        ready.set()  # type: ignore[attr-defined]  # a multiprocessing event
        go.wait()  # type: ignore[attr-defined]  # likewise


def test_folders_are_made_while_others_remove_the_empty_ones(tmp_path):
    def make_and_discard(number: int) -> None:
        for round_ in range(200):
            folder = tmp_path / f"keep/a/b/{number}/{round_}"
            make_folder(folder)
            (folder / "x").write_text("")
            discard_folder(str(folder), {}, str(tmp_path / "keep"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make_and_discard, range(4)))
    assert list(tmp_path.iterdir()) == [tmp_path / "keep"]
    assert not list((tmp_path / "keep").iterdir())


def test_a_lock_is_free_when_its_holder_dies(store):
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(store.root, ready, go))
    holder.start()
    assert ready.wait(30)
    holder.kill()
    holder.join()
    with store.lock("lock"):
        pass


def root_of(store: Store) -> Path:
    assert isinstance(store, FolderStore)
    return store.root


def test_addresses_of_folders(tmp_path):
    assert root_of(open_store("lake", root=tmp_path)) == tmp_path / "lake"
    assert root_of(open_store(str(tmp_path / "x"))) == tmp_path / "x"
    assert root_of(open_store(f"file://{tmp_path}/a%20b")) == tmp_path / "a b"
    assert root_of(open_store("lake")) == Path.cwd() / "lake"


@pytest.mark.parametrize(
    "address",
    [
        "gs://b",
        "s3://b/../c",
        "s3://b/a%2Fb",
        "abfss://w@example.com/l",
        "s3://b/x?pw=1",
        "file://host/x",
        "S3://user:pw@b/x",
        "",
    ],
)
def test_other_addresses_are_refused(address):
    with pytest.raises(ConfigurationError) as caught:
        open_store(address)
    assert caught.value.code == "unsupported-store"
    assert "pw" not in str(caught.value)
