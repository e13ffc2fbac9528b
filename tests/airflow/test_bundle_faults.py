"""What is damaged, missing or of a newer version in a bundle store, as the bundle and its shims meet it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

import pytest
from aiflow_airflow.bundle import AiflowBundle
from aiflow_airflow.deployed import POINTER, Deployed
from aiflow_airflow.layout import file_of
from aiflow_airflow.shims import dags_of
from airflow.dag_processing.bundles.base import BundleVersion
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG

from aiflow_sdk.bundles import BundleDocument, BundleStore, Content, Entry, Release, StoredFile, digest, shard_of
from aiflow_sdk.bundles.airflow import BROKEN_TAG
from aiflow_sdk.bundles.reader import object_key, release_key
from aiflow_sdk.config import load_project
from aiflow_sdk.deployment import deploy_project
from aiflow_sdk.errors import AiflowError, StoreError
from aiflow_sdk.ir import FrozenMap
from aiflow_sdk.plugins import installed_registry
from aiflow_sdk.stores import Store

IDS = tuple(f"p{number}" for number in range(200))
PIPELINE = """
from aiflow_sdk import pipeline

def made(name):
    @pipeline(id=name)
    def body(p):
        p.transform(id="work", engine="python", fn="etl:work", external=True)
    return body

"""


@pytest.fixture
def ids() -> tuple[str, ...]:
    """Three pipelines of the project ``shop`` whose DAGs lie in one shard."""
    wanted = shard_of("shop.p0")
    return tuple([one for one in IDS if shard_of(f"shop.{one}") == wanted][:3])


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the projects lie: what one deployment has built, the next one finds."""
    return tmp_path_factory.mktemp("projects")


@pytest.fixture
def deploy(projects: Path, tmp_path: Path, ids: tuple[str, ...]) -> Callable[..., None]:
    """A function that deploys those pipelines."""

    def publish(project: str = "shop", names: tuple[str, ...] = ids, *, code: str = "", repair: bool = False) -> None:
        root = projects / project
        (root / "pipelines").mkdir(parents=True, exist_ok=True)
        (root / "pipelines" / "__init__.py").touch()
        (root / "pipelines" / "made.py").write_text(PIPELINE + "\n".join(f'{one} = made("{one}")' for one in names))
        (root / "etl.py").write_text(f"def work():\n    return {code!r}\n")
        (root / "requirements.txt").touch()
        (root / "aiflow.toml").write_text(
            f'project = "{project}"\nlock = "requirements.txt"\n[environments.test]\nbundles = "{tmp_path / "store"}"\n'
        )
        found = load_project(root)
        assert not deploy_project(found, found.environment("test"), installed_registry(), repair=repair).problems

    publish()
    return publish


@pytest.fixture
def store(tmp_path: Path, deploy: object) -> BundleStore:
    return BundleStore.open(str(tmp_path / "store"), "test")


@pytest.fixture
def open_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deploy: object) -> Callable[..., AiflowBundle]:
    """A function that opens the bundle as Airflow does: the current one, or a version."""
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "machine"))

    def opened(version: str | None = None) -> AiflowBundle:
        bundle = AiflowBundle(store=str(tmp_path / "store"), environment="test", name="aiflow", version=version)
        bundle.initialize()
        return bundle

    return opened


def shim_of(bundle: AiflowBundle, dag_id: str) -> Path:
    return bundle.path / file_of(dag_id, 0)


def parse(bundle: AiflowBundle, dag_id: str = "shop.p0") -> dict[str, DAG]:
    """Return what Airflow sees of the shard that the DAG lies in."""
    return dags_of(str(shim_of(bundle, dag_id)))


def parse_one(bundle: AiflowBundle, dag_id: str) -> DAG | None:
    """Return what a task's process sees of its DAG."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)
        return parse(bundle, dag_id).get(dag_id)


def broken(dags: dict[str, DAG]) -> set[str]:
    return {dag_id for dag_id, dag in dags.items() if BROKEN_TAG in dag.tags}


def newest_of(store: BundleStore) -> Release:
    newest = store.newest()
    assert newest is not None
    return newest


def entry_of(store: BundleStore, dag_id: str) -> Entry:
    newest = newest_of(store)
    project = store.project(store.bundle(newest.version).projects[dag_id.partition(".")[0]])
    return store.shard(project.shards[shard_of(dag_id)])[dag_id]


def damage(tmp_path: Path, sha: str, *, gone: bool = False) -> None:
    """Cut an object in half, or remove it, in the store and on this machine."""
    for folder in (tmp_path / "store" / "test" / "objects", tmp_path / "machine" / "aiflow" / "objects"):
        path = folder / sha[:2] / sha
        if gone:
            path.unlink(missing_ok=True)
        elif path.exists():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_damaged_and_a_missing_plan_say_so_and_heal_when_they_are_repaired(
    tmp_path: Path, ids: tuple[str, ...], deploy: Callable[..., None], store: BundleStore, open_bundle
):
    good, cut, missing = (f"shop.{one}" for one in ids)
    bundle = open_bundle()
    assert broken(parse(bundle)) == set()
    damage(tmp_path, entry_of(store, cut).plan)
    damage(tmp_path, entry_of(store, missing).plan, gone=True)
    dags = parse(bundle)
    assert set(dags) == {good, cut, missing}
    assert broken(dags) == {cut, missing}
    assert "error[damaged-object]" in str(dags[cut].doc_md)
    assert "error[missing-object]" in str(dags[missing].doc_md)

    # Airflow parses again what has another time, and that only once it would help.
    shim = shim_of(bundle, good)
    os.utime(shim, (1, 1))
    bundle.refresh()
    assert shim.stat().st_mtime == 1
    deploy(repair=True)
    bundle.refresh()
    assert shim.stat().st_mtime > 1
    assert broken(parse(bundle)) == set()
    os.utime(shim, (1, 1))
    bundle.refresh()
    assert shim.stat().st_mtime == 1


def test_what_is_damaged_on_this_machine_alone_is_fetched_again(
    tmp_path: Path, ids: tuple[str, ...], store: BundleStore, open_bundle
):
    bundle = open_bundle()
    for path in (tmp_path / "machine" / "aiflow" / "objects").glob("*/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert broken(parse(bundle)) == set()
    assert len(parse(bundle)) == len(ids)


def test_a_plan_of_a_newer_version_is_told_and_the_others_go_on(ids: tuple[str, ...], store: BundleStore, open_bundle):
    good = f"shop.{ids[0]}"
    pipeline = next(one for one in IDS if shard_of(f"future.{one}") == shard_of(good))
    newer = f"future.{pipeline}"
    plan = {**json.loads(store.read(entry_of(store, good).plan)), "plan_version": 99}
    texts = {digest(text): text for text in (json.dumps(plan).encode(), b"code")}
    plan_sha, code_sha = texts
    content = Content(
        "future",
        StoredFile("code.whl", code_sha),
        code_sha,
        {newer: Entry(pipeline, plan_sha, plan_sha)},
        texts.__getitem__,
    )
    store.publish(content)
    dags = parse(open_bundle())
    assert broken(dags) == {newer}
    assert "error[newer-document]" in str(dags[newer].doc_md)
    assert len(dags) == 1 + len(ids)


def publish_newer(store: BundleStore, project: str) -> str:
    """Publish a version of a project as a newer aiflow would, whose document this one cannot read."""
    newest = newest_of(store)
    bundle = store.bundle(newest.version)
    document = json.loads(store.read(bundle.projects[project])) if project in bundle.projects else {"project": project}
    newer = json.dumps({**document, "project_format": 2}).encode()
    whole = BundleDocument("test", {**bundle.projects, project: digest(newer)}).to_bytes()
    for content in (newer, whole):
        store.store.put(object_key(digest(content)), content)
    release = replace(
        newest, number=newest.number + 1, version=digest(whole), project=project, project_version=digest(newer)
    )
    assert store.store.put_if_absent(release_key(release.number), release.to_bytes())
    return digest(newer)


def refusal(bundle: AiflowBundle) -> str:
    """Return the import error that Airflow shows; nothing where there is none."""
    path = bundle.path / "newer_documents.py"
    if not path.exists():
        return ""
    parsed = DagBag(path, load_op_links=False, bundle_path=bundle.path, bundle_name=bundle.name)
    assert not parsed.dags
    (told,) = parsed.import_errors.values()
    return str(told)


@pytest.fixture
def other(ids: tuple[str, ...]) -> str:
    """A pipeline of the project ``other`` whose DAG lies in the same shard."""
    return next(one for one in IDS if shard_of(f"other.{one}") == shard_of(f"shop.{ids[0]}"))


@pytest.mark.parametrize("is_empty", [False, True])
def test_a_project_of_a_newer_format_stays_what_it_was_and_keeps_no_other_back(
    ids: tuple[str, ...],
    deploy: Callable[..., None],
    store: BundleStore,
    open_bundle: Callable[..., AiflowBundle],
    other: str,
    monkeypatch: pytest.MonkeyPatch,
    is_empty: bool,
):
    bundle = None if is_empty else open_bundle()
    newer = publish_newer(store, "shop")
    deploy("other", (other,))
    if bundle is None:
        bundle = open_bundle()
    else:
        os.utime(shim_of(bundle, f"shop.{ids[0]}"), (1, 1))
        bundle.refresh()
    newest = newest_of(store)
    assert bundle.get_current_version() == BundleVersion(newest.version)
    dags = parse(bundle)
    assert len(dags) == len(ids) + 1
    assert broken(dags) == set()
    told = refusal(bundle)
    assert f"project 'shop', version {newer[:12]}" in told
    assert "format 2; this aiflow reads formats up to 1" in told
    assert "upgrade aiflow-sdk (in Airflow's environment too)" in told
    assert "its DAGs stay those of version" in told
    # A task of a run that begins now does what its DAG shows, on a machine that has looked for nothing.
    for dag_id in (f"shop.{ids[0]}", f"other.{other}"):
        assert parse_one(open_bundle(newest.version), dag_id) is not None

    # The next publish of another comes too, and once Airflow's side was upgraded the project itself.
    deploy("other", (other,), code="another")
    bundle.refresh()
    assert bundle.get_current_version() != BundleVersion(newest.version)
    assert refusal(bundle) == told
    monkeypatch.setattr("aiflow_sdk.bundles.model.PROJECT_FORMAT", 2)  # as the newer one has it
    bundle = open_bundle()
    assert refusal(bundle) == ""
    assert Deployed.lying_in(bundle.path).document("shop") == store.project(newer)
    assert len(parse(bundle)) == len(ids) + 1
    # Going back the wrong way round takes nobody else's publishes either.
    monkeypatch.undo()
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(bundle.base_dir.parent))
    deploy("other", (other,), code="a third")
    bundle = open_bundle()
    assert refusal(bundle) == told
    assert broken(parse(bundle)) == set()


def test_a_project_of_which_all_is_of_a_newer_format_is_told_and_not_shown(
    ids: tuple[str, ...],
    deploy: Callable[..., None],
    store: BundleStore,
    open_bundle: Callable[..., AiflowBundle],
    other: str,
):
    bundle = open_bundle()
    publish_newer(store, "future")
    deploy("other", (other,))
    bundle.refresh()
    assert len(parse(bundle)) == len(ids) + 1
    assert "project 'future'" in refusal(bundle)
    assert "none of its DAGs is shown" in refusal(bundle)
    deploy("future", (other,))
    bundle.refresh()
    assert refusal(bundle) == ""


@contextmanager
def in_task(dag_id: str) -> Iterator[None]:
    """Let the block be a task's process, as Airflow's are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)
        patch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "work")
        yield


@contextmanager
def store_away(tmp_path: Path) -> Iterator[None]:
    """Leave an empty folder in the place of the store, as where nothing is mounted."""
    (tmp_path / "store").rename(tmp_path / "away")
    (tmp_path / "store").mkdir()
    yield
    (tmp_path / "store").rmdir()
    (tmp_path / "away").rename(tmp_path / "store")


@pytest.fixture
def reads(store: BundleStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that are read from the store, as they are."""
    kind, keys = type(store.store), list[str]()
    real = kind.read

    def read(one: Store, key: str) -> bytes | None:
        keys.append(key)
        return real(one, key)

    monkeypatch.setattr(kind, "read", read)  # the real one, counted
    return keys


def test_a_task_asks_once_what_stands_for_a_newer_version_and_goes_on_while_the_store_is_away(
    tmp_path: Path, ids: tuple[str, ...], store: BundleStore, open_bundle: Callable[..., AiflowBundle], reads: list[str]
):
    dag_id = f"shop.{ids[0]}"
    first = newest_of(store)
    publish_newer(store, "shop")
    newest = newest_of(store)
    with in_task(dag_id):
        reads.clear()
        bundle = open_bundle(newest.version)
        assert [reads.count(release_key(number)) for number in (1, 2)] == [1, 1]
        assert Deployed.lying_in(bundle.path).standing == {"shop": first.project_version}
        assert set(parse(bundle)) == {dag_id}
        reads.clear()
        with store_away(tmp_path):
            assert set(parse(open_bundle(newest.version))) == {dag_id}
        assert reads == []

        # All is on the machine but what nobody has looked for: that passes.
        shutil.rmtree(bundle.path)
        with store_away(tmp_path):
            bundle = open_bundle(newest.version)
            with pytest.raises(StoreError, match="no release of project 'shop'") as told:
                parse(bundle)
        assert (told.value.code, told.value.retryable) == ("store-unavailable", True)
        assert set(parse(open_bundle(newest.version))) == {dag_id}
        assert Deployed.lying_in(bundle.path).standing == {"shop": first.project_version}


def test_whoever_looks_at_a_version_reads_the_releases_once(
    ids: tuple[str, ...], store: BundleStore, open_bundle: Callable[..., AiflowBundle], reads: list[str]
):
    for project in ("future", "shop"):
        publish_newer(store, project)
    newest = newest_of(store)
    reads.clear()
    bundle = open_bundle(newest.version)
    assert set(parse(bundle)) == {f"shop.{one}" for one in ids}
    assert [reads.count(release_key(number)) for number in (1, 2, 3)] == [1, 1, 1]
    deployed = Deployed.lying_in(bundle.path)
    assert deployed.standing["future"] is None
    assert deployed.unknown().keys() == {"future"}


def test_what_stands_for_a_newer_version_stays_when_it_is_rolled_back_to(
    tmp_path: Path,
    ids: tuple[str, ...],
    deploy: Callable[..., None],
    store: BundleStore,
    open_bundle: Callable[..., AiflowBundle],
    other: str,
    monkeypatch: pytest.MonkeyPatch,
):
    first = newest_of(store)
    newer = publish_newer(store, "shop")
    newest = newest_of(store)
    deploy(code="later")
    with monkeypatch.context() as patch:
        patch.setattr("aiflow_sdk.bundles.model.PROJECT_FORMAT", 2)  # as who rolls back has it
        again = store.roll_back("shop", newer)
    assert again.version == newest.version

    # On a machine that has looked for nothing, in the newest version as in a run's.
    for version in (None, newest.version):
        monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / f"machine-{version}"))
        deployed = Deployed.lying_in(open_bundle(version).path)
        assert deployed.document("shop") == store.project(first.project_version)
    deploy("other", (other,))
    bundle = open_bundle()
    assert Deployed.lying_in(bundle.path).instead == {"shop": first.project_version}
    assert len(parse(bundle)) == len(ids) + 1


def test_a_store_that_goes_away_during_a_refresh_takes_no_newer_project_down(
    tmp_path: Path,
    ids: tuple[str, ...],
    store: BundleStore,
    open_bundle: Callable[..., AiflowBundle],
    monkeypatch: pytest.MonkeyPatch,
):
    bundle = open_bundle()
    before = bundle.get_current_version()
    publish_newer(store, "shop")
    newest = newest_of(store)
    with in_task(f"shop.{ids[0]}"):
        open_bundle(newest.version)  # brings the documents to this machine
    with monkeypatch.context() as patch, store_away(tmp_path):
        patch.setattr(BundleStore, "newest", lambda self: newest)  # what was there a moment ago
        with pytest.raises(StoreError) as told:
            bundle.refresh()
    assert (told.value.code, told.value.retryable) == ("store-unavailable", True)
    assert bundle.get_current_version() == before
    assert len(parse(bundle)) == len(ids)
    bundle.refresh()
    assert bundle.get_current_version() == BundleVersion(newest.version)
    assert len(parse(bundle)) == len(ids)


def test_an_airflow_that_goes_back_while_the_store_is_away_looks_again_once_it_is_there(
    tmp_path: Path,
    ids: tuple[str, ...],
    store: BundleStore,
    open_bundle: Callable[..., AiflowBundle],
    monkeypatch: pytest.MonkeyPatch,
):
    open_bundle()  # what stands for it is on this machine
    publish_newer(store, "shop")
    with monkeypatch.context() as patch:
        patch.setattr("aiflow_sdk.bundles.model.PROJECT_FORMAT", 2)  # as the newer one has it
        assert refusal(open_bundle()) == ""
    with store_away(tmp_path):
        bundle = open_bundle()
        with pytest.raises(StoreError, match="no release of project 'shop'"):
            bundle.refresh()
    bundle.refresh()
    assert "its DAGs stay those of version" in refusal(bundle)
    assert len(parse(bundle)) == len(ids)


def test_what_was_shown_before_and_cannot_be_read_for_a_moment_is_looked_at_again(
    deploy: Callable[..., None],
    store: BundleStore,
    open_bundle: Callable[..., AiflowBundle],
    monkeypatch: pytest.MonkeyPatch,
):
    bundle = open_bundle()
    before = newest_of(store)
    deploy(code="new")
    real = Deployed.read

    def away(deployed: Deployed, sha: str) -> bytes:
        if sha == before.project_version:
            raise StoreError("store-unavailable", "503", retryable=True)
        return real(deployed, sha)

    with monkeypatch.context() as patch:
        patch.setattr(Deployed, "read", away)  # the real one, away for one document
        with pytest.raises(StoreError, match="503"):
            bundle.refresh()
    assert bundle.get_current_version() == BundleVersion(before.version)
    bundle.refresh()
    assert bundle.get_current_version() != BundleVersion(before.version)


def test_a_document_that_is_gone_leaves_what_was_there_before(
    tmp_path: Path, ids: tuple[str, ...], deploy: Callable[..., None], store: BundleStore, open_bundle
):
    bundle = open_bundle()
    before = bundle.get_current_version()
    deploy(code="another")
    newest = newest_of(store)
    for sha in (*store.project(newest.project_version).shards.values(), newest.project_version):
        damage(tmp_path, sha)
        with pytest.raises(AiflowError):
            bundle.refresh()
        assert bundle.get_current_version() == before
        assert len(parse(bundle)) == len(ids)
        assert broken(parse(bundle)) == set()
    deploy(code="another", repair=True)
    bundle.refresh()
    assert bundle.get_current_version() != before


def test_a_shard_whose_document_is_gone_takes_no_other_project_down(
    tmp_path: Path, ids: tuple[str, ...], other: str, deploy: Callable[..., None], store: BundleStore, open_bundle
):
    deploy("other", (other,))
    newest = newest_of(store)
    bundle = open_bundle()
    shop = store.project(store.bundle(newest.version).projects["shop"])
    damage(tmp_path, shop.shards[shard_of(f"shop.{ids[0]}")])
    assert set(parse(bundle)) == {f"other.{other}"}
    with pytest.raises(AiflowError):
        parse_one(bundle, f"shop.{ids[0]}")
    deploy(repair=True)
    os.utime(shim_of(bundle, f"shop.{ids[0]}"), (1, 1))
    bundle.refresh()
    assert shim_of(bundle, f"shop.{ids[0]}").stat().st_mtime > 1
    assert len(parse(bundle)) == 1 + len(ids)


def test_a_project_that_is_gone_keeps_no_other_from_an_empty_machine(
    tmp_path: Path, ids: tuple[str, ...], other: str, deploy: Callable[..., None], store: BundleStore, open_bundle
):
    deploy("other", (other,))
    newest = newest_of(store)
    damage(tmp_path, store.bundle(newest.version).projects["shop"], gone=True)
    bundle = open_bundle()
    assert set(parse(bundle)) == {f"other.{other}"}
    # It keeps no publish back either, and comes as soon as it can be had.
    deploy("other", (other,), code="another")
    bundle.refresh()
    version = bundle.get_current_version()
    assert version is not None
    assert version.version != newest.version
    assert set(parse(bundle)) == {f"other.{other}"}
    deploy(repair=True)
    bundle.refresh()
    assert len(parse(bundle)) == 1 + len(ids)
    assert broken(parse(bundle)) == set()


@pytest.mark.parametrize("plan", [5, None, "../../../etc/passwd", "x\n"])
def test_an_entry_that_names_no_object_takes_no_other_project_down(
    tmp_path: Path,
    ids: tuple[str, ...],
    other: str,
    deploy: Callable[..., None],
    store: BundleStore,
    open_bundle,
    plan: object,
):
    deploy("other", (other,))
    newest_of(store)  # there is one
    bundle = open_bundle()
    # What somebody has put among the objects that this machine keeps, under its right name.
    number = shard_of(f"shop.{ids[0]}")
    evil = json.dumps({f"shop.{ids[0]}": {"pipeline": ids[0], "plan": plan, "ir": "0" * 64}}).encode()
    deployed = Deployed.lying_in(bundle.path)
    project = deployed.project(deployed.projects["shop"])
    document = replace(project, shards=FrozenMap({**project.shards, number: digest(evil)})).to_bytes()
    version = BundleDocument("test", {**deployed.projects, "shop": digest(document)}).to_bytes()
    for content in (evil, document, version):
        deployed.kept.keep(digest(content), content)
    replace(deployed, version=digest(version), standing={}).write(bundle.path)
    dags = parse(bundle)
    assert f"other.{other}" in dags
    assert broken(dags) == dags.keys() - {f"other.{other}"}


def test_a_task_needs_its_own_project_alone(
    tmp_path: Path, ids: tuple[str, ...], deploy: Callable[..., None], store: BundleStore, open_bundle
):
    deploy("another", ("p",))
    newest = newest_of(store)
    damage(tmp_path, store.bundle(newest.version).projects["another"], gone=True)
    bundle = open_bundle(newest.version)
    dag = parse_one(bundle, f"shop.{ids[0]}")
    assert dag is not None
    assert broken({dag.dag_id: dag}) == set()


def test_a_pointer_cut_in_half_is_written_again(tmp_path: Path, ids: tuple[str, ...], store: BundleStore, open_bundle):
    newest = newest_of(store)
    for version in (None, newest.version):
        pointer = open_bundle(version).path / POINTER
        pointer.write_text(pointer.read_text()[:20])
        bundle = open_bundle(version)
        assert Deployed.lying_in(bundle.path).version == newest.version
        assert len(parse(bundle)) == len(ids)


def test_while_the_store_is_away_all_is_as_it_was(
    tmp_path: Path, ids: tuple[str, ...], deploy: Callable[..., None], store: BundleStore, open_bundle
):
    bundle = open_bundle()
    before = bundle.get_current_version()
    (tmp_path / "store").rename(tmp_path / "away")
    bundle.refresh()
    for one in (bundle, open_bundle(), open_bundle(before.version)):
        assert one.get_current_version() == before
        assert broken(parse(one)) == set()
    with pytest.raises(AiflowError) as told:
        store.read("0" * 64)
    assert (told.value.code, told.value.retryable) == ("store-unavailable", True)
    (tmp_path / "away").rename(tmp_path / "store")
    deploy(code="another")
    bundle.refresh()
    assert bundle.get_current_version() != before


def test_a_layout_that_was_broken_off_is_done_again(
    open_bundle: Callable[..., AiflowBundle],
    deploy: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    ids: tuple[str, ...],
):
    bundle = open_bundle()
    other = next(one for one in IDS if shard_of(f"shop.{one}") != shard_of("shop.p0"))
    deploy("shop", (*ids, other))
    with monkeypatch.context() as patch:
        # A disk that is full at just this file cannot be had otherwise.
        patch.setattr("aiflow_airflow.bundle.write_shim", lambda path: (_ for _ in ()).throw(OSError("no space")))
        with pytest.raises(OSError, match="no space"):
            bundle.refresh()
    assert not shim_of(bundle, f"shop.{other}").exists()
    bundle.refresh()
    assert f"shop.{other}" in parse(bundle, f"shop.{other}")


def test_a_store_that_is_away_for_a_moment_takes_no_dag_down(
    open_bundle: Callable[..., AiflowBundle],
    deploy: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    ids: tuple[str, ...],
):
    bundle = open_bundle()
    before = bundle.get_current_version()
    deploy(code="new")
    real = Deployed.read

    def away(deployed: Deployed, sha: str) -> bytes:
        if b'"plan_version"' in (content := real(deployed, sha)):
            raise StoreError("store-unavailable", "503", retryable=True)
        return content

    with monkeypatch.context() as patch:
        patch.setattr(Deployed, "read", away)  # the real one, away for plans alone
        with pytest.raises(StoreError, match="503"):
            bundle.refresh()
    assert bundle.get_current_version() == before
    assert broken(parse(bundle)) == set()
    bundle.refresh()
    assert bundle.get_current_version() != before
