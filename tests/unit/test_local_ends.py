"""The end of a run is told once, when nobody does it and nobody will."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from aiflow_sdk.errors import DocumentError, RunError
from aiflow_sdk.events import Spool
from aiflow_sdk.lineage import end_open
from aiflow_sdk.local import ends
from aiflow_sdk.local.ends import tell_ends
from aiflow_sdk.local.session import SESSION_DIR, is_going_on, session
from aiflow_sdk.local.store import RunFolder, list_runs, runs_folder

OWN = """
import os, signal, sys
from aiflow_sdk.local.session import session
from aiflow_sdk.local.store import RunFolder

def own():
    RunFolder(sys.argv[1], "r1").own()
    if os.fork() == 0:
        os._exit(0)  # as what a task forks: it has the locks too, and is gone
    os.wait()
    os.kill(os.getpid(), signal.SIGKILL)

if "SESSION" in sys.argv:
    with session() as environment:
        os.environ |= environment
        own()
else:
    own()
"""


def lay(project: Path, run_id: str = "r1", state: str = "running") -> RunFolder:
    """A run that has begun, with one attempt at work."""
    folder = RunFolder(project, run_id)
    folder.path.mkdir(parents=True)
    document = {"state": state, "started": 1.0, "seconds": 0.0, "version": "", "definition": ""}
    run: dict[str, Any] = {"run_id": run_id, "pipeline_id": "p", "project": "default", "environment": "dev"}
    run |= {"cause": "manual", "trace_id": "", "execution": 1, "generation": 1}
    (folder.path / "run.json").write_text(json.dumps({**document, "run": run}))
    (folder.path / "owner.lock").touch()
    for part, facets in ((run_id, {}), (f"{run_id}-1", {"parent": {}})):
        Spool(folder.events_path).append({"eventType": "START", "run": {"runId": part, "facets": facets}})
    if state != "running":
        Spool(folder.events_path).append({"eventType": "COMPLETE", "run": {"runId": run_id}})
    return folder


def told(folder: RunFolder) -> list[tuple[str, str]]:
    return [(event["run"]["runId"], event["eventType"]) for event in Spool(folder.events_path)]


BEGUN = [("r1", "START"), ("r1-1", "START")]
ENDED = [*BEGUN, ("r1-1", "FAIL"), ("r1", "FAIL")]


def kill_owner(project: Path, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", OWN, str(project), *arguments])
    assert done.returncode == -9


def test_between_two_processes_of_a_session_a_run_is_of_that_session_alone(tmp_path, monkeypatch):
    folder = lay(tmp_path)
    with session() as environment:
        monkeypatch.setenv(SESSION_DIR, environment[SESSION_DIR])
        kill_owner(tmp_path)
        assert folder.is_owned()
        assert folder.record().state == "running"
        assert tell_ends(tmp_path) == {}
        assert told(folder) == BEGUN
        with session() as other:
            monkeypatch.setenv(SESSION_DIR, other[SESSION_DIR])
            began = time.monotonic()
            with pytest.raises(RunError) as caught:
                RunFolder(tmp_path, "r1").own()
            assert caught.value.code == "run-in-progress"
            assert time.monotonic() - began < 5  # it is not waited for what goes on
        monkeypatch.setenv(SESSION_DIR, environment[SESSION_DIR])
        folder.own()
        folder.disown()
        assert not folder.is_owned()  # the session has let it go, though it goes on
        kill_owner(tmp_path)
    assert not is_going_on(environment[SESSION_DIR])
    assert folder.record().state == "interrupted"
    tell_ends(tmp_path)
    assert told(folder) == ENDED


def test_a_run_that_was_killed_with_its_session_is_ended_once_and_may_be_gone_on_with(tmp_path):
    folder = lay(tmp_path)
    kill_owner(tmp_path, "SESSION")
    assert Path((folder.path / "owner.lock").read_text(), "session.lock").exists()  # nobody was left to remove it
    assert folder.record().state == "interrupted"
    for _ in range(2):
        tell_ends(tmp_path)
        assert told(folder) == ENDED
    folder.own(wait_seconds=0)


def test_while_an_end_is_told_nobody_else_tells_it_or_goes_on_with_the_run(tmp_path, monkeypatch):
    folder = lay(tmp_path)
    owned = threading.Event()

    def own() -> None:
        again = RunFolder(tmp_path, "r1")
        again.own()
        Spool(again.events_path).append({"eventType": "START", "run": {"runId": "r1"}})
        owned.set()

    def end(path: Path) -> int:
        assert tell_ends(tmp_path) == {}  # another looker: it is this one's
        resumes.start()
        assert not owned.wait(0.3)
        return end_open(path)

    resumes = threading.Thread(target=own)
    monkeypatch.setattr(ends, "end_open", end)  # others look in the middle of it
    tell_ends(tmp_path)
    assert owned.wait(60)
    resumes.join()
    assert told(folder) == [*ENDED, ("r1", "START")]


@pytest.mark.parametrize("start", [{}, {"facets": None}, {"facets": {"aiflow_run": {"task_id": "t"}}}])
def test_a_run_that_cannot_be_read_leaves_the_others_their_ends(tmp_path, start):
    newer = lay(tmp_path, "r2")
    document = json.loads((newer.path / "run.json").read_text())
    document["run"]["of_a_newer_release"] = 1
    (newer.path / "run.json").write_text(json.dumps({**document, "state": "succeeded"}))
    (newer.path / "plan.json").write_text('{"plan_version": 1, "tasks": []}')
    Spool(newer.events_path).append({"eventType": "START", "run": {"runId": "r2-1", **start}})
    kept = told(newer)
    folder = lay(tmp_path)
    assert tell_ends(tmp_path).keys() == {"r1"}
    assert (told(folder), told(newer)) == (ENDED, kept)


def test_what_was_looked_at_is_read_again_only_when_something_was_added(tmp_path, monkeypatch):
    folder, done = lay(tmp_path), lay(tmp_path, "r0", "succeeded")
    read: list[str] = []
    record = RunFolder.record

    def recorded(self: RunFolder) -> Any:
        read.append(self.run_id)
        return record(self)

    monkeypatch.setattr(RunFolder, "record", recorded)  # the true one, counted
    looked_at = tell_ends(tmp_path)
    assert read == ["r1", "r0"]
    assert looked_at == {one.run_id: one.events_path.stat().st_size for one in (folder, done)}
    assert tell_ends(tmp_path, looked_at) == looked_at
    assert read == ["r1", "r0"]
    Spool(folder.events_path).append({"eventType": "START", "run": {"runId": "r1"}})
    folder.own()
    looked_at = tell_ends(tmp_path, looked_at)
    assert list(looked_at) == ["r0"]  # the other one is under way
    folder.disown()
    tell_ends(tmp_path, looked_at)
    assert read == ["r1", "r0", "r1"]
    assert told(folder) == [*ENDED, ("r1", "START"), ("r1", "FAIL")]


def test_what_cannot_be_read_is_left_alone_and_ends_nobody(tmp_path, monkeypatch):
    folder, other = lay(tmp_path), lay(tmp_path, "r0")
    lock = folder.path / "owner.lock"
    lock.unlink()
    assert not folder.is_owned()
    lock.symlink_to(lock)
    with pytest.raises(OSError, match="symbolic links"):
        folder.is_owned()
    with pytest.raises(DocumentError):
        folder.record()
    assert [one.run_id for one in list_runs(tmp_path)] == ["r0"]
    assert list(tell_ends(tmp_path)) == ["r0"]
    assert told(folder) == BEGUN
    assert told(other)[-1] == ("r0", "FAIL")

    def refuse(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)  # root may list any folder
    with pytest.raises(PermissionError):
        os.listdir(runs_folder(tmp_path))
    assert tell_ends(tmp_path, {"r0": 1}) == {"r0": 1}
