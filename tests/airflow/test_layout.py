"""Which file shows which DAG, as more and more come to a shard."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

import pytest
from aiflow_airflow.bundle import AiflowBundle
from aiflow_airflow.deployed import POINTER
from aiflow_airflow.layout import MOST, depth_of, file_of, files_of, shown_in, undivided
from aiflow_airflow.shims import dags_of

from aiflow_sdk.bundles import BundleStore, Content, Entry, StoredFile, digest, shard_of

GOLDEN = Path(__file__).parents[1] / "golden" / "plans" / "hourly_daily" / "clicks" / "clicks_daily" / "plan.json"
IDS = [name for number in range(3000) if shard_of(name := f"p{number}") == "03"]
UNDIVIDED = "aiflow_03.py"
Publish = Callable[..., None]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """A function that publishes so many pipelines of one shard; that of ``other`` has another plan."""
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "machine"))
    store = BundleStore.open(str(tmp_path / "store"), "test")
    text = GOLDEN.read_bytes()
    plans = {digest(one): one for one in (text, text + b"\n")}
    usual, another = plans

    def made(count: int, other: str = "") -> None:
        entries = {name: Entry(name, another if name == other else usual, usual) for name in IDS[:count]}
        code = StoredFile("code-1.0-py3-none-any.whl", digest(b"code"))
        objects = {**plans, digest(b"code"): b"code", digest(b""): b""}
        store.publish(Content("default", code, digest(b""), entries, objects.__getitem__))

    return made


def opened(tmp_path: Path, version: str | None = None) -> AiflowBundle:
    """Open the bundle as Airflow does: the current one, or a version."""
    bundle = AiflowBundle(store=str(tmp_path / "store"), environment="test", name="aiflow", version=version)
    bundle.initialize()
    return bundle


def shown(bundle: AiflowBundle) -> dict[str, set[str]]:
    """Return what Airflow sees: file → ids of its DAGs."""
    return {path.name: set(dags_of(str(path))) for path in bundle.path.glob("aiflow_*.py")}


def touched(bundle: AiflowBundle) -> set[str]:
    """Return the files that were touched since they were asked for last."""
    found = {path for path in bundle.path.glob("aiflow_*.py") if path.stat().st_mtime > 1}
    for path in found:
        os.utime(path, (1, 1))
    return {path.name for path in found}


def test_a_dag_is_shown_by_one_file_however_often_its_shard_is_divided():
    for depth in range(4):
        files = {dag_id: file_of(dag_id, depth) for dag_id in IDS}
        for name in set(files.values()):
            assert shown_in(name, IDS, depth) == {dag_id for dag_id in IDS if files[dag_id] == name}
            assert shown_in(name, IDS, None) >= shown_in(name, IDS, depth)
        assert all(files[dag_id] in files_of(dag_id) for dag_id in IDS)


def test_an_eighth_stays_where_it_was_when_a_shard_is_divided():
    stay = [dag_id for dag_id in IDS if file_of(dag_id, 1) == file_of(dag_id, 0)]
    assert 0.05 < len(stay) / len(IDS) < 0.2
    counts = (0, MOST, MOST + 1, 8 * MOST, 8 * MOST + 1, 64 * MOST + 1, 10**7)
    assert [depth_of(count) for count in counts] == [0, 0, 1, 1, 2, 3, 3]


def test_a_file_is_for_ever():
    # A DAG that moved to another file would get a version that nobody made: these hold for every version of aiflow.
    assert files_of("daily_revenue") == ("aiflow_03.py", "aiflow_03_6.py", "aiflow_03_65.py", "aiflow_03_652.py")
    assert files_of("p3") == ("aiflow_03.py", "aiflow_03_4.py")
    assert len(undivided()) == 32


def test_a_shard_is_divided_as_it_grows_and_one_file_again_when_it_shrinks(tmp_path: Path, publish: Publish):
    publish(MOST)
    bundle = opened(tmp_path)
    assert shown(bundle) == {UNDIVIDED: set(IDS[:MOST])}
    touched(bundle)
    publish(MOST + 1)
    bundle.refresh()
    files = shown(bundle)
    assert len(files) == 8
    assert all(
        dag_ids == {one for one in IDS[: MOST + 1] if file_of(one, 1) == name} for name, dag_ids in files.items()
    )
    assert touched(bundle) == set(files)
    publish(MOST)
    bundle.refresh()
    assert shown(bundle) == {UNDIVIDED: set(IDS[:MOST])}


def test_of_a_divided_shard_one_changed_pipeline_has_one_file_parsed(tmp_path: Path, publish: Publish):
    publish(MOST + 5)
    bundle = opened(tmp_path)
    touched(bundle)
    publish(MOST + 5, other=IDS[7])
    bundle.refresh()
    assert touched(bundle) == {file_of(IDS[7], 1)}
    publish(MOST + 6, other=IDS[7])
    bundle.refresh()
    assert touched(bundle) == {file_of(IDS[MOST + 5], 1)}
    bundle.refresh()
    assert touched(bundle) == set()


@pytest.mark.parametrize(("before", "after"), [(MOST, MOST + 1), (MOST + 1, MOST)])
@pytest.mark.parametrize("knows_the_dag", [True, False])
def test_a_version_from_before_shows_a_dag_in_the_file_that_shows_it_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publish: Publish, before: int, after: int, knows_the_dag: bool
):
    dag_id = next(one for one in IDS[:MOST] if file_of(one, 1) != UNDIVIDED)
    publish(before)
    current = opened(tmp_path).get_current_version()
    assert current is not None
    opened(tmp_path, current.version)  # somebody has looked at it before
    publish(after)
    newest = opened(tmp_path)
    (name,) = (name for name, dag_ids in shown(newest).items() if dag_id in dag_ids)
    if knows_the_dag:  # as in a task's process; one that calls what a DAG wants called does not
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)
    pinned = opened(tmp_path, current.version)
    assert dag_id in dags_of(str(pinned.path / name))


def test_what_an_earlier_release_laid_out_is_laid_out_by_the_next_publish(tmp_path: Path, publish: Publish):
    publish(MOST + 1)
    bundle = opened(tmp_path)
    for path in bundle.path.glob("aiflow_*_*.py"):
        path.unlink()
    pointer = bundle.path / POINTER
    stated = json.loads(pointer.read_text())
    assert stated.pop("depths") == {"03": 1}
    pointer.write_text(json.dumps(stated))
    bundle.refresh()
    assert shown(bundle) == {UNDIVIDED: set(IDS[: MOST + 1])}
    publish(MOST + 1, other=IDS[0])
    bundle.refresh()
    assert sorted(dag_id for dag_ids in shown(bundle).values() for dag_id in dag_ids) == sorted(IDS[: MOST + 1])
    assert len(shown(bundle)) == 8
