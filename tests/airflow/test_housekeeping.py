"""What nobody has used for long leaves a worker by itself, and nothing else does."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from zipfile import ZipFile

import pytest
from aiflow_airflow.aside import LEFT
from aiflow_airflow.code import UserCode
from aiflow_airflow.folders import Artifact, SharedFolders
from aiflow_airflow.housekeeping import keep_house
from aiflow_airflow.objects import KeptObjects

from aiflow_sdk.bundles import digest
from aiflow_sdk.lineage import RunSpool, position_of


def wheel(name: str) -> Artifact:
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        archive.writestr(name, "")
    return Artifact.of("shop-1.0-py3-none-any.whl", content.getvalue())


SHOP, OTHER = wheel("aiflow.toml"), wheel("other.py")


def make_old(*paths: Path, days: float = 40) -> None:
    then = time.time() - days * 86_400
    for path in paths:
        os.utime(path, (then, then))


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """End what other tests have left running."""
    while LEFT:
        with LEFT.pop() as process:  # which closes its pipes and waits
            process.kill()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an old and a new one of each."""
    home = tmp_path / "home"
    for artifact in (SHOP, OTHER):
        UserCode(home).folder_of(artifact)
    environments = SharedFolders(home / "environments", "environment")
    for key in ("a" * 32, "b" * 32):
        environments.find_or_make(key, lambda folder: (folder / "x").touch())
    for name in ("old", "new"):
        (home / "scratch" / name).mkdir(parents=True)
        (home / "events" / "prod" / "shop" / name).mkdir(parents=True)
        (home / "events" / "prod" / "shop" / name / "events.jsonl").touch()
    (home / "plans").mkdir()
    (home / "plans" / "old.json").touch()
    make_old(
        home / "code" / SHOP.sha[:32] / "used",
        home / "environments" / ("a" * 32) / "used",
        home / "scratch" / "old",
        home / "plans" / "old.json",
        home / "events" / "prod" / "shop" / "old" / "events.jsonl",
        home / "events" / "prod" / "shop" / "old",
    )
    return home


def left(home: Path) -> set[str]:
    patterns = ("code/*", "environments/*", "scratch/*", "plans/*", "events/prod/shop/*")
    return {str(path.relative_to(home)) for pattern in patterns for path in home.glob(pattern)}


NEW = {
    f"code/{OTHER.sha[:32]}",
    f"code/{OTHER.sha[:32]}.lock",
    f"environments/{'b' * 32}",
    f"environments/{'b' * 32}.lock",
    "scratch/new",
    "events/prod/shop/new",
}


def run(*folders: str) -> None:
    subprocess.run([sys.executable, "-P", "-m", "aiflow_airflow.housekeeping", *folders], check=True, cwd="/")


def test_what_is_old_goes_and_what_was_used_stays(home: Path):
    run(f"home={home}")
    assert left(home) == NEW


def test_it_is_done_once_a_day(home: Path):
    (home / ".collected").touch()
    before = left(home)
    run(f"home={home}")
    assert left(home) == before
    make_old(home / ".collected", days=1.1)
    run(f"home={home}")
    assert left(home) == NEW


def test_a_task_starts_it_and_goes_on(home: Path, tmp_path: Path):
    began = time.monotonic()
    keep_house(home, tmp_path / "none")
    assert time.monotonic() - began < 10
    (process,) = LEFT
    assert isinstance(process, subprocess.Popen)
    assert process.wait(30) == 0
    assert left(home) == NEW
    keep_house(home, None)
    assert [process] == LEFT


def test_a_pod_of_one_task_stays_for_it(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIRFLOW_IS_K8S_EXECUTOR_POD", "True")  # as Airflow sets it in its executor's pods
    keep_house(home, None)
    assert left(home) == NEW


def test_a_folder_that_may_only_be_read_is_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    keep_house(home, None)
    assert LEFT == []


def test_nothing_that_goes_wrong_there_is_the_task_s(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")  # the real one cannot be taken away
    keep_house(home, None)
    assert LEFT == []


def test_of_two_at_once_one_does_it(home: Path):
    command = [sys.executable, "-P", "-m", "aiflow_airflow.housekeeping", f"home={home}"]
    both = [subprocess.Popen(command, cwd="/") for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert left(home) == NEW


def test_what_is_in_use_stays_however_old(home: Path):
    code = UserCode(home)
    with code.in_use(SHOP) as folder:
        make_old(folder.parent / "used")
        run(f"home={home}")
        assert (folder / "aiflow.toml").exists()


def test_one_that_is_killed_in_the_middle_leaves_nothing_half(home: Path):
    big = SharedFolders(home / "environments", "environment").find_or_make("c" * 32, fill)
    make_old(big.parent / "used")
    process = subprocess.Popen([sys.executable, "-P", "-m", "aiflow_airflow.housekeeping", f"home={home}"], cwd="/")
    while not list((home / "environments").glob(".removing-c*")):
        assert process.poll() is None, "it was through before it could be killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)
    assert list((home / "environments").glob(".removing-c*")), "it was through with this one"
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not big.exists()
    make_old(home / ".collected", days=2)
    run(f"home={home}")
    assert left(home) == NEW
    assert not list((home / "environments").glob(".removing-*"))


def fill(folder: Path) -> None:
    for number in range(10_000):
        (folder / f"{number}.py").touch()


@pytest.mark.parametrize("name", ["behind", "open"])
def test_events_that_a_listener_has_not_heard_stay(home: Path, name: str):
    run_folder = home / "events" / "prod" / "shop" / "old"
    spool = run_folder / "events.jsonl"
    spool.write_text("{}\n{}\n")
    RunSpool(run_folder.parent, "old").begin("prod", ["mine", "other"])
    position_of(spool, "prod", "mine").write_text("6\n")
    other = position_of(spool, "prod", "other")
    other.write_text("3\n" if name == "behind" else "6\n")
    if name == "open":
        (run_folder / "x.open").touch()
    make_old(*run_folder.iterdir(), run_folder)
    run(f"home={home}")
    assert left(home) == NEW | {"events/prod/shop/old"}
    other.write_text("6\n")
    (run_folder / "x.open").unlink(missing_ok=True)
    make_old(*run_folder.iterdir(), run_folder, home / ".collected")
    run(f"home={home}")
    assert left(home) == NEW


def test_objects_that_nobody_read_for_long_go(tmp_path: Path):
    objects = KeptObjects(tmp_path)
    read, unread, young = b"read", b"unread", b"young"
    for content in (read, unread, young):
        objects.keep(digest(content), content)
    make_old(objects.path(digest(read)), objects.path(digest(unread)))
    assert objects.find(digest(read)) == read
    run(f"objects={tmp_path}")
    assert [objects.find(digest(content)) for content in (read, unread, young)] == [read, None, young]


def test_an_artifact_of_one_that_went_is_made_again(home: Path):
    run(f"home={home}")
    assert (UserCode(home).folder_of(SHOP) / "aiflow.toml").exists()
