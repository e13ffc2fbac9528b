"""What is published is read back whole, by whoever, whenever; nobody ever sees a part of it."""

import json
import multiprocessing
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from aiflow_sdk.bundles import (
    BundleStore,
    Collected,
    Content,
    Entry,
    Note,
    StoredFile,
    dag_id_of,
    digest,
    shard_of,
    work,
)
from aiflow_sdk.errors import ConfigurationError, DefinitionError, DocumentError, StoreError, UnknownNameError, Where
from aiflow_sdk.stores import FolderStore

DAY = 86_400


@pytest.fixture
def store(tmp_path) -> BundleStore:
    return BundleStore.open(str(tmp_path / "bundles"), "prod")


def content(plans, project="default", code="code", places=None) -> Content:
    """A version of a project: id → the text that stands for its plan."""
    objects = {digest(text.encode()): text.encode() for text in (code, "lock", "wheel", *plans.values())}
    objects |= {digest(f"ir of {one}".encode()): f"ir of {one}".encode() for one in plans}
    return Content(
        project,
        StoredFile("code-1.0-py3-none-any.whl", digest(code.encode())),
        digest(b"lock"),
        {dag_id_of(project, one): entry(one, plan) for one, plan in plans.items()},
        objects.__getitem__,
        wheels=(StoredFile("own-1.0-py3-none-any.whl", digest(b"wheel")),),
        python="3.11",
        places={
            dag_id_of(project, one): {node: (where.path, where.line) for node, where in found.items()}
            for one, found in (places or {}).items()
        },
    )


def entry(pipeline, plan) -> Entry:
    return Entry(pipeline, digest(plan.encode()), digest(f"ir of {pipeline}".encode()))


def plans(store, project="default") -> dict[str, str]:
    """What an environment runs of a project, read as a reader would."""
    release = store.newest()
    document = store.project(store.bundle(release.version).projects[project])
    assert store.read(document.code.sha)
    assert store.read(document.lock) == b"lock"
    entries = {dag_id: one for sha in document.shards.values() for dag_id, one in store.shard(sha).items()}
    assert all(dag_id in store.shard(document.shards[shard_of(dag_id)]) for dag_id in entries)
    return {dag_id: store.read(one.plan).decode() for dag_id, one in entries.items()}


def test_what_is_published_is_read_back(store):
    places = {"a": {"": Where("pipelines/a.py", 3), "node": Where("pipelines/a.py", 7)}}
    assert store.newest() is None
    done = store.publish(content({"a": "A", "b": "B"}, places=places), by="ana")
    assert [(one.dag_id, one.action) for one in done.changes] == [("a", "added"), ("b", "added")]
    assert plans(store) == {"a": "A", "b": "B"}
    release = store.newest()
    assert (release, release.by, release.action, release.number) == (done.release, "ana", "deploy", 1)
    document = store.project(release.project_version)
    assert (document.python, document.wheels[0].file) == ("3.11", "own-1.0-py3-none-any.whl")
    assert store.places(document.places[shard_of("a")]) == {"a": places["a"]}


def test_equal_content_has_one_version_and_no_second_release(store, tmp_path):
    first = store.publish(content({"a": "A", "b": "B"}))
    again = store.publish(content({"b": "B", "a": "A"}))
    assert (again.version, again.is_new, again.objects, again.release) == (first.version, False, 0, first.release)
    elsewhere = BundleStore.open(str(tmp_path / "elsewhere"), "prod")
    assert elsewhere.publish(content({"a": "A", "b": "B"}), by="somebody else").version == first.version


def test_one_changed_of_a_thousand_writes_few_objects(store):
    many = {f"p{number}": f"plan {number}" for number in range(1000)}
    store.publish(content(many))
    asked = []
    changed = content({**many, "p7": "another"})

    def read(sha):
        asked.append(sha)
        return changed.read(sha)

    told = store.publish(replace(changed, read=read))
    assert [(one.dag_id, one.action) for one in told.changes] == [("p7", "changed")]
    assert (told.objects, len(asked), told.unchanged) == (4, 1, 999), "plan, shard, project and bundle"
    gone = store.publish(content({**many, "new": "N"}))
    assert [(one.dag_id, one.action) for one in gone.changes] == [("new", "added"), ("p7", "changed")]
    assert [one.action for one in store.publish(content(many)).changes] == ["removed"]


def test_a_dry_publication_tells_and_writes_nothing(store, tmp_path):
    told = store.publish(content({"a": "A"}), dry=True)
    assert (told.is_new, len(told.changes), told.objects, told.release) == (True, 1, 8, None)
    assert not (tmp_path / "bundles").exists()


def test_projects_stay_what_they_are_when_another_is_published(store):
    store.publish(content({"a": "A"}))
    store.publish(content({"a": "X"}, project="shop"))
    assert plans(store) == {"a": "A"}
    assert plans(store, "shop") == {"shop.a": "X"}


def test_environments_are_apart(tmp_path):
    for name in ("dev", "prod"):
        store = BundleStore.open(str(tmp_path), name)
        assert store.newest() is None
        store.publish(content({"a": name}))
    assert plans(BundleStore.open(str(tmp_path), "dev")) == {"a": "dev"}


def test_two_projects_cannot_have_one_dag_id(store):
    store.publish(content({"a.b": "A"}))
    with pytest.raises(DefinitionError) as caught:
        store.publish(content({"b": "B"}, project="a"))
    assert caught.value.code == "duplicate-dag-id"
    assert "a/b and default/a.b" in str(caught.value)
    assert store.newest().number == 1
    store.publish(content({"c": "C"}))
    store.publish(content({"b": "B"}, project="a"))
    with pytest.raises(DefinitionError):
        store.roll_back("default", store.releases()[-1].project_version[:10])


def test_a_rollback_is_a_pointer(store):
    first = store.publish(content({"a": "A"}))
    store.publish(content({"a": "B"}, code="newer"))
    store.publish(content({"x": "X"}, project="shop"))
    back = store.roll_back("default", first.project_version[:8].upper(), by="ben")
    assert (back.action, back.by, back.number) == ("rollback", "ben", 4)
    assert plans(store) == {"a": "A"}
    assert plans(store, "shop") == {"shop.x": "X"}
    assert store.roll_back("default", first.project_version) == back, "it is that version already"
    assert [one.action for one in store.releases()] == ["rollback", "deploy", "deploy", "deploy"]


@pytest.mark.parametrize("version", ["", "xyz", "0" * 64])
def test_a_version_that_is_none_is_refused(store, version):
    store.publish(content({"a": "A"}))
    with pytest.raises(UnknownNameError) as caught:
        store.roll_back("default", version)
    assert caught.value.code == "unknown-release"


def test_a_prefix_of_two_versions_is_refused(store):
    number = 0
    while len({one.project_version[0] for one in store.releases()}) == len(store.releases()):
        number += 1
        store.publish(content({"a": str(number)}))
    both = [one.project_version[0] for one in store.releases()]
    with pytest.raises(ConfigurationError) as caught:
        store.roll_back("default", next(one for one in both if both.count(one) == 2))
    assert caught.value.code == "ambiguous-release"
    assert len(caught.value.notes) == 2


def publish_many(address: str, project: str, count: int, start: object) -> None:
    store = BundleStore.open(address, "prod")
    start.wait()  # type: ignore[attr-defined]  # a multiprocessing event
    for number in range(count):
        store.publish(content({"a": f"{project} {number}"}, project=project))


def test_of_publishers_at_once_nobody_is_lost(store, tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Event()
    names = ["default", "one", "two", "three"]
    processes = [
        context.Process(target=publish_many, args=(str(tmp_path / "bundles"), name, 10, start)) for name in names
    ]
    for process in processes:
        process.start()
    start.set()
    seen = 0
    while any(process.is_alive() for process in processes):
        if release := store.newest():
            for project in store.bundle(release.version).projects:
                assert len(plans(store, project)) == 1
                seen += 1
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert seen
    assert [one.number for one in store.releases()] == list(range(40, 0, -1))
    for name in names:
        assert list(plans(store, name).values()) == [f"{name} 9"]
        assert [one.project for one in store.releases()].count(name) == 10


def test_of_two_publishers_of_one_project_the_later_wins_whole(store):
    start = threading.Barrier(2)

    def publish(code):
        start.wait()
        for number in range(10):
            store.publish(content({"a": f"{code}{number}", "b": f"{code}{number}"}, code=code))

    threads = [threading.Thread(target=publish, args=(code,)) for code in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = plans(store)
    assert found["a"] == found["b"]
    assert store.newest().number == 20


def place_of(tmp_path: Path, sha: str) -> Path:
    return tmp_path / "bundles/prod/objects" / sha[:2] / sha


@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
@pytest.mark.parametrize("which", ["plan", "shard", "project", "bundle"])
def test_a_spoilt_object_is_said_and_can_be_repaired(store, tmp_path, which, damage):
    store.publish(content({"x": "X"}, project="shop"))
    done = store.publish(content({"a": "A plan that is long enough"}))
    shard = store.project(done.project_version).shards[shard_of("a")]
    sha = {
        "plan": digest(b"A plan that is long enough"),
        "shard": shard,
        "project": done.project_version,
        "bundle": done.version,
    }[which]
    path = place_of(tmp_path, sha)
    match damage:
        case "gone":
            path.unlink()
        case "cut":
            path.write_bytes(path.read_bytes()[:10])
        case _:
            path.write_bytes(b"{}")
    with pytest.raises(StoreError) as caught:
        plans(store)
    assert caught.value.code == ("missing-object" if damage == "gone" else "damaged-object")
    assert sha in str(caught.value)
    again = store.publish(content({"a": "A plan that is long enough"}), repair=True)
    assert (again.version, again.is_new) == (done.version, False)
    assert plans(store) == {"a": "A plan that is long enough"}
    assert plans(store, "shop") == {"shop.x": "X"}


def test_other_pipelines_do_not_suffer_from_a_spoilt_one(store, tmp_path):
    store.publish(content({"a": "A", "b": "B"}))
    place_of(tmp_path, digest(b"A")).unlink()
    document = store.project(store.newest().project_version)
    assert store.read(store.shard(document.shards[shard_of("b")])["b"].plan) == b"B"


def put_document(store: BundleStore, data) -> str:
    text = json.dumps(data).encode()
    store.store.put(f"objects/{digest(text)[:2]}/{digest(text)}", text)
    return digest(text)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"project_format": 2}, "newer-document"),
        ({"bundle_format": 7}, "newer-document"),
        ({"project_format": 1}, "bad-document"),
        ({"project_format": "1"}, "bad-document"),
        ({"bundle_format": 1, "environment": "prod", "projects": {"a": 1}}, "bad-document"),
        ([], "bad-document"),
    ],
)
def test_a_document_of_another_kind_is_refused(store, data, code):
    sha = put_document(store, data)
    read = store.bundle if "bundle_format" in data else store.project
    with pytest.raises(DocumentError) as caught:
        read(sha)
    assert caught.value.code == code


def test_a_release_of_a_newer_aiflow_is_refused_and_not_skipped(store):
    store.publish(content({"a": "A"}))
    store.store.put("releases/00000000000000000002", b'{"release_format":2}')
    for act in (store.newest, store.releases, lambda: store.publish(content({"a": "B"}))):
        with pytest.raises(DocumentError) as caught:
            act()
        assert caught.value.code == "newer-document"


def test_strange_files_are_no_releases(store):
    store.publish(content({"a": "A"}))
    store.store.put("releases/readme.txt", b"?")
    store.store.put("releases/2", b"?")
    assert store.newest().number == 1


@pytest.mark.parametrize("sha", ["", "../../etc/passwd", "A" * 64, "a" * 63])
def test_what_is_no_digest_is_not_looked_for(store, sha):
    with pytest.raises(StoreError) as caught:
        store.read(sha)
    assert caught.value.code == "bad-key"


def test_a_folder_that_cannot_be_read_is_a_store_that_may_come_back(tmp_path):
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles/prod").write_text("no folder")
    with pytest.raises(StoreError):
        BundleStore.open(str(tmp_path / "bundles"), "prod").publish(content({"a": "A"}))


def objects_in(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "bundles/prod/objects").rglob("*") if path.is_file()}


def test_old_versions_are_collected_and_what_is_needed_stays(store, tmp_path):
    shop = store.publish(content({"x": "X"}, project="shop"))
    for number in range(6):
        store.publish(content({"a": f"A{number}", "b": "B"}, code=f"code {number}"))
    store.store.put(f"objects/ab/{'ab' * 32}", b"of a publication that died")
    now = time.time()
    assert store.collect("default", keep=2, keep_days=30, now=now) == store.collect("shop", keep=1, now=now)
    assert store.collect("default", keep=2, keep_days=0.0001, now=now).releases == (), "released just now"
    early = store.collect("default", keep=2, keep_days=0.5, now=now + DAY * 0.6)
    assert [one.number for one in early.releases] == [5, 4, 3, 2]
    assert early.objects == 0, "younger than a day"
    store.publish(content({"a": "A9", "b": "B"}))
    later = store.collect("default", keep=2, keep_days=0.5, now=now + DAY * 3)
    assert [one.number for one in later.releases] == [6]
    assert [one.number for one in store.releases()] == [8, 7, 1]
    left = objects_in(tmp_path)
    assert {digest(f"A{number}".encode()) for number in range(6)} & left == {digest(b"A5")}
    assert "ab" * 32 not in left
    assert plans(store) == {"a": "A9", "b": "B"}
    assert plans(store, "shop") == {"shop.x": "X"}
    assert all(plans_of(store, release.project_version) for release in store.releases())
    assert shop.version not in left, "no run can have begun with it lately, and a rollback needs the project alone"
    assert plans_of(store, store.releases()[1].project_version) == {"A5", "B"}


def plans_of(store, version) -> set[str]:
    shards = store.project(version).shards.values()
    return {store.read(one.plan).decode() for sha in shards for one in store.shard(sha).values()}


def test_what_was_current_lately_is_kept_however_old_it_is(store):
    for number in range(4):
        store.publish(content({"a": str(number)}))
    releases = list(store.releases())
    at = {4: "2026-11-29T00:00:00+00:00", 3: "2026-01-03T00:00:00+00:00", 2: "2026-01-02T00:00:00+00:00"}
    aged = tuple(
        type(one)(one.number, "", "default", "", "deploy", "", at.get(one.number, "2026-01-01T00:00:00+00:00"))
        for one in releases
    )
    now = 1_795_910_400.0  # 2026-11-29
    found = store.dispensable(aged, "default", 1, now - 30 * DAY)
    assert [one.number for one in found] == [2, 1], "3 was current until today"


def test_a_collection_spares_what_somebody_rolls_back_to_meanwhile(store, tmp_path, monkeypatch):
    for number in range(3):
        store.publish(content({"a": str(number)}))
    first = store.releases()[-1].project_version
    moments = type(store.store).moments

    def roll_back_first(self, prefix=""):
        found = list(moments(self, prefix))
        text = store.bundle(store.releases()[-1].version)
        store._announce(store.newest(), digest(text.to_bytes()), "default", first, "rollback", "ben", Note())
        return iter(found)

    releases = store.releases()
    # A real rollback, at just the moment between the two looks of a collection.
    monkeypatch.setattr(type(store), "releases", lambda self: releases)
    monkeypatch.setattr(type(store.store), "moments", roll_back_first)
    store.collect("default", keep=1, keep_days=0.1, now=time.time() + 5 * DAY)
    assert plans(store) == {"a": "0"}


def forsaken(store) -> None:
    """Two versions, of which the first may go, and with it the plan that the next publication brings back."""
    store.publish(content({"a": "back again"}, code="code 0"))
    for number in range(2):
        store.publish(content({"a": str(number)}))
    for path in Path(store.address).glob("objects/*/*"):
        os.utime(path, (time.time() - 2 * DAY, time.time() - 2 * DAY))


def test_a_collection_takes_nothing_from_who_publishes_when_it_has_looked(store, monkeypatch):
    """The publisher comes just when what it needs is about to be deleted."""
    forsaken(store)
    delete = FolderStore.delete
    published = threading.Thread(target=lambda: store.publish(content({"a": "back again"}, code="code 0")))

    def publish_before(self, keys):
        if any(digest(b"back again") in key for key in keys) and not published.ident:
            published.start()
            published.join(3)
        delete(self, keys)

    monkeypatch.setattr(FolderStore, "delete", publish_before)  # the real one, held up at the worst moment
    done = store.collect("default", keep=1, keep_days=0, now=time.time() + 1)
    assert done.objects > 0
    published.join()
    assert plans(store) == {"a": "back again"}


def test_who_publishes_is_left_alone_by_a_collection(store, monkeypatch):
    """The collection comes when objects are there and the release is not."""
    forsaken(store)
    announce = BundleStore._announce
    collected = []

    def collect_before(self, *arguments):
        monkeypatch.setattr(BundleStore, "_announce", announce)
        for path in Path(store.address).glob("objects/*/*"):  # a slow publisher: all that it wrote has become old
            os.utime(path, (time.time() - 2 * DAY, time.time() - 2 * DAY))
        collected.append(store.collect("default", keep=1, keep_days=0, now=time.time() + 1))
        return announce(self, *arguments)

    monkeypatch.setattr(BundleStore, "_announce", collect_before)  # likewise
    store.publish(content({"a": "back again"}, code="code 0"))
    assert collected == [Collected()]
    assert plans(store) == {"a": "back again"}
    assert not list(Path(store.address, "work").glob("*"))


def test_a_base_that_was_collected_meanwhile_is_none(store, monkeypatch):
    """What a publisher takes for there, because it was current when it looked, may be gone when it writes."""
    store.publish(content({"a": "kept", "b": "0"}))
    publishing = work.publishing

    def others_first(place, waits):
        monkeypatch.setattr("aiflow_sdk.bundles.store.publishing", publishing)
        for number in range(2):
            store.publish(content({"c": str(number)}, code="other"))
        for path in Path(store.address).glob("objects/*/*"):
            os.utime(path, (time.time() - 2 * DAY, time.time() - 2 * DAY))
        assert store.collect("default", keep=1, keep_days=0, now=time.time() + 1).objects
        return publishing(place, waits)

    monkeypatch.setattr("aiflow_sdk.bundles.store.publishing", others_first)  # likewise
    store.publish(content({"a": "kept", "b": "1"}))
    assert plans(store) == {"a": "kept", "b": "1"}


def test_the_dead_hold_nobody_up(store):
    forsaken(store)
    for name, age in (("publishing-dead", 2 * DAY), ("collecting-dead", 700)):
        store.store.put(f"work/{name}", b"")
        os.utime(Path(store.address, "work", name), (time.time() - age, time.time() - age))
    store.publish(content({"a": "2"}))
    assert store.collect("default", keep=1, keep_days=0, now=time.time() + 1).releases
    assert [path.name for path in Path(store.address, "work").glob("*")] == ["collecting-dead"]


def test_who_collects_gives_up_once_its_machine_slept(store):
    now = [100.0, 5.0]
    collection = work.Collection(store.store, "work/collecting-me", lambda: tuple(now))
    assert collection.is_late
    assert collection.may_go_on()
    now[0] += 299
    assert not collection.is_late
    now[1] += 301  # the other clock alone stood still
    assert collection.is_late


def test_the_clock_goes_on_in_sleep():
    names = [name for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC") if hasattr(time, name)]
    assert abs(work.since_boot()[0] - time.clock_gettime(getattr(time, names[0]))) < 5
    assert abs(work.since_boot()[1] - time.time()) < 5


def test_one_who_died_while_collecting_is_waited_for_and_that_is_said(store):
    store.store.put("work/collecting-dead", b"")
    moments, said = iter([0.0, 10.0, 10.0, 20.0, 20.0, 650.0]), []
    with work.publishing(store.store, lambda: said.append("waits"), clock=lambda: (next(moments),), pause=0):
        assert said == ["waits"]
    assert not list(moments)
    assert os.listdir(Path(store.address, "work")) == ["collecting-dead"]


@pytest.mark.parametrize("skew", [-DAY, DAY])
def test_the_store_s_clock_is_the_one_that_counts(store, skew, monkeypatch):
    moments = store.store.moments
    # No machine here has another clock.
    monkeypatch.setattr(store.store, "moments", lambda prefix: [(key, one + skew) for key, one in moments(prefix)])
    for name, age in (("collecting-dead", 700), ("publishing-dead", 2 * DAY), ("publishing-alive", 60)):
        store.store.put(f"work/{name}", b"")
        os.utime(Path(store.address, "work", name), (time.time() - age, time.time() - age))
    with work.publishing(store.store, lambda: pytest.fail("nobody is to be waited for")):
        pass
    with work.collecting(store.store) as collection:
        assert not collection.may_go_on()
    assert sorted(os.listdir(Path(store.address, "work"))) == ["collecting-dead", "publishing-alive"]


def test_nothing_is_removed_where_a_document_is_not_understood(store, tmp_path):
    for number in range(3):
        store.publish(content({"a": str(number)}))
    newer = put_document(store, {"project_format": 2})
    bundle = put_document(store, {"bundle_format": 1, "environment": "prod", "projects": {"new": newer}})
    store._announce(store.newest(), bundle, "new", newer, "deploy", "", Note())
    before = objects_in(tmp_path), len(store.releases())
    with pytest.raises(DocumentError):
        store.collect("default", keep=1, keep_days=0.1, now=time.time() + 5 * DAY)
    assert (objects_in(tmp_path), len(store.releases())) == before


@pytest.mark.parametrize("kind", ["s3", "azure", "onelake"])
def test_all_of_it_in_a_store_of_objects(make_place, kind):
    place = make_place(kind)
    store = BundleStore.open(place.address, "prod", storage=place.storage())
    assert store.newest() is None
    first = store.publish(content({f"p{number}": str(number) for number in range(30)}))
    store.publish(content({"x": "X"}, project="shop"))
    store.publish(content({"p1": "another"}))
    assert plans(store) == {"p1": "another"}
    store.roll_back("default", first.project_version[:12])
    assert plans(store) == {f"p{number}": str(number) for number in range(30)}
    store.publish(content({"p1": "last"}))
    done = store.collect("default", keep=1, keep_days=0.1, now=time.time() + 5 * DAY)
    assert (len(done.releases), done.objects > 60) == (3, True)
    assert (plans(store), plans(store, "shop")) == ({"p1": "last"}, {"shop.x": "X"})
    with pytest.raises(StoreError) as caught:
        store.read("0" * 64)
    assert caught.value.code == "missing-object"


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_of_publishers_at_once_in_a_store_of_objects_nobody_is_lost(make_place, kind):
    place = make_place(kind)
    store = BundleStore.open(place.address, "prod", storage=place.storage())

    def publish(name):
        for number in range(4):
            store.publish(content({"a": f"{name} {number}"}, project=name))

    threads = [threading.Thread(target=publish, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.releases()) == 12
    assert {name: plans(store, name) for name in ("one", "two", "three")} == {
        name: {f"{name}.a": f"{name} 3"} for name in ("one", "two", "three")
    }
