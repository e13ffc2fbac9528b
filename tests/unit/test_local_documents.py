"""The files of a run, garbled in every way: an error names the file, and the other runs stay."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aiflow_sdk.cli import main
from aiflow_sdk.errors import DocumentError
from aiflow_sdk.local import read_log
from aiflow_sdk.local.state import RunState, TaskState
from aiflow_sdk.local.store import RunFolder, list_runs, read_run
from aiflow_sdk.local.summary import summarize_run

NAMES = ("01-good", "02-bad")
ERROR = {"code": "user-code-failed", "message": "boom", "where": {"path": "a.py", "line": 1}, "hint": None, "notes": []}
PLAN = {
    "version": "v",
    "definition": "d",
    "tasks": [
        {"id": "a", "upstream": [], "retries": 2, "retry_delay_seconds": 5, "timeout_seconds": None},
        {"id": "b", "upstream": ["a"], "retries": 0, "retry_delay_seconds": 0, "timeout_seconds": 9},
    ],
}
LOG = {"record": "log", "time": 5.0, "task_id": "a", "stream": "stdout", "level": "info", "message": "hello"}
FILES = ("run.json", "plan.json", "tasks/a.json")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for run_id in NAMES:
        run = {
            "run_id": run_id,
            "pipeline_id": "p",
            "project": "default",
            "environment": "dev",
            "cause": "manual",
            "trace_id": "t",
            "execution": 1,
            "generation": 1,
            "partition_key": "2026-11-20",
            "last_partition_key": None,
        }
        state = RunState(run=run, tasks={"a": TaskState("a"), "b": TaskState("b", ("a",))}, started=1.0)
        folder = RunFolder(tmp_path, run_id)
        folder.create(state, json.dumps(PLAN), selection={})
        state.start("a", 2.0)
        state.succeed("a", [{"node_id": "n", "address": "/x"}], 0.5)
        state.tasks["a"].error = ERROR
        state.errors = (ERROR,)
        state.end(3.0)
        folder.save_task(state.tasks["a"])
        folder.save(state)
        folder.log_path("a", 1, 1).write_text(json.dumps(LOG) + "\n")
    return tmp_path


def look(project: Path) -> None:
    """Read everything that a command reads of a run."""
    folder = RunFolder(project, "02-bad")
    assert [record.run_id for record in list_runs(project)][-1] == "01-good"
    for read in (
        lambda: read_run(project, "02-bad"),
        lambda: str(summarize_run(folder)),
        lambda: list(read_log(project, "02-bad")),
        folder.places,
    ):
        with suppress(DocumentError):
            read()


def garblings(value: Any) -> Iterator[Any]:
    """Yield the value with one thing in it taken out or made something else, at every place."""
    for other in (None, 3, -1e300, "x", [], {}, [3], {"x": 3}):
        yield other
    if isinstance(value, dict):
        for key in value:
            yield {name: one for name, one in value.items() if name != key}
            for other in garblings(value[key]):
                yield value | {key: other}
    if isinstance(value, list):
        for at, item in enumerate(value):
            for other in garblings(item):
                yield [*value[:at], other, *value[at + 1 :]]


@pytest.mark.parametrize("name", FILES)
def test_whatever_a_file_holds_it_is_read_or_named(project: Path, name: str) -> None:
    path = project / ".aiflow/runs/02-bad" / name
    for content in garblings(json.loads(path.read_text())):
        path.write_text(json.dumps(content))
        look(project)
    for garbled in (b"", b"{", b"\xff\xfe", b"\0" * 100, b"NaN"):
        path.write_bytes(garbled)
        look(project)
    path.unlink()
    path.mkdir()
    look(project)


def test_of_a_garbled_log_the_rest_is_shown_and_the_loss_is_told(project: Path) -> None:
    path = RunFolder(project, "02-bad").log_path("a", 1, 1)
    whole = json.dumps(LOG) + "\n"
    bad = ["garbage", "3", "[]", json.dumps(LOG | {"time": "x"}), json.dumps(LOG | {"message": None}), "NaN", "\udcff"]
    path.write_text(whole + "\n".join(bad) + "\n" + whole + '{"record": "lo', errors="surrogateescape")
    messages = [record["message"] for record in read_log(project, "02-bad")]
    assert messages == ["hello", "hello", f"{len(bad)} of the lines in {path} cannot be read"]
    assert [record["message"] for record in read_log(project, "01-good")] == ["hello"]
    shutil.rmtree(path.parent)
    with pytest.raises(DocumentError):
        list(read_log(project, "02-bad"))


def test_a_damaged_run_is_told_beside_the_others(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / ".aiflow/runs/02-bad/run.json").write_text("{")
    (project / ".aiflow/runs/03-begun").mkdir()
    assert main(["runs", "-C", str(project)]) == 1
    out, err = capsys.readouterr()
    assert "01-good" in out
    assert "error[bad-document]" in err
    assert "02-bad" in err
    assert main(["runs", "--json", "-C", str(project)]) == 1
    good, bad = json.loads(capsys.readouterr().out)
    assert good["run"]["run_id"] == "01-good"
    assert (bad["run"]["run_id"], bad["state"], bad["errors"][0]["code"]) == ("02-bad", "damaged", "bad-document")


def test_logs_of_a_run_without_a_readable_plan_are_an_error_with_a_remedy(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / ".aiflow/runs/02-bad/plan.json").write_text('{"tasks": [3]}')
    assert main(["logs", "02-bad", "--json", "-C", str(project)]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "bad-document"
    assert "plan.json" in error["message"]
    assert error["hint"]


def test_a_file_that_is_read_to_read_another_is_named_once(project: Path):
    folder = RunFolder(project, NAMES[1])
    (folder.path / "plan.json").write_text("[1")
    with pytest.raises(DocumentError) as caught:
        folder.load()
    assert caught.value.message.count("plan.json cannot be read") == 1
