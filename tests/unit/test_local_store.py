"""The folder of runs: what is written is what is read, whoever else writes or dies."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiflow_sdk.errors import RunError, StoreError, UnknownNameError, Where
from aiflow_sdk.local.state import RunState, TaskState
from aiflow_sdk.local.store import RunFolder, list_runs, read_log, read_run, short_run_id
from aiflow_sdk.stores import folder_name, replace_file

PLAN = {
    "version": "v",
    "definition": "d",
    "tasks": [
        {"id": "a", "upstream": [], "retries": 2, "retry_delay_seconds": 5, "timeout_seconds": None},
        {"id": "b.us", "upstream": ["a"], "retries": 0, "retry_delay_seconds": 0, "timeout_seconds": 9},
    ],
}


def make(project: Path, run_id: str, **facts: Any) -> tuple[RunFolder, RunState]:
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
        **facts,
    }
    tasks = {
        "a": TaskState("a", retries=2, retry_delay_seconds=5),
        "b.us": TaskState("b.us", ("a",), timeout_seconds=9),
    }
    state = RunState(run=run, tasks=tasks, started=1.0)
    folder = RunFolder(project, run_id)
    folder.create(state, json.dumps(PLAN), selection={})
    return folder, state


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder, state = make(tmp_path, "r1")
    state.start("a", 2.0)
    state.succeed("a", [{"node_id": "n"}], 0.5)
    folder.save_task(state.tasks["a"])
    folder.save(state)
    assert RunFolder(tmp_path, "r1").load() == state


def test_a_run_knows_where_its_nodes_were_written_whoever_goes_on_with_it(tmp_path: Path) -> None:
    state = make(tmp_path, "r1")[1]
    places = {"": Where("pipelines/p.py", 3), "n": Where("pipelines/p.py", 5, 9, "node 'n'")}
    RunFolder(tmp_path, "r2").create(state, json.dumps(PLAN), selection={}, places=places)
    again = RunFolder(tmp_path, "r2")
    again.save(again.load())
    assert again.places() == {"": Where("pipelines/p.py", 3), "n": Where("pipelines/p.py", 5)}
    assert RunFolder(tmp_path, "r1").places() == {}


def test_a_blocked_task_is_known_even_if_nobody_lived_to_write_it(tmp_path: Path) -> None:
    folder, state = make(tmp_path, "r1")
    state.start("a", 2.0)
    state.fail("a", {"code": "c", "message": "m", "retryable": False}, 3.0)
    folder.save_task(state.tasks["a"])
    assert folder.load().tasks["b.us"].state == "blocked"


def test_runs_are_listed_newest_first_and_found_by_either_end_of_their_id(tmp_path: Path) -> None:
    for name in ("01-aa", "02-bb", "03-ab"):
        make(tmp_path, name)
    assert [record.run_id for record in list_runs(tmp_path)] == ["03-ab", "02-bb", "01-aa"]
    assert [record.run_id for record in list_runs(tmp_path, limit=1)] == ["03-ab"]
    assert list_runs(tmp_path, pipeline="other") == []
    assert read_run(tmp_path, "02")[0].run_id == "02-bb"
    assert read_run(tmp_path, "ab")[0].run_id == "03-ab"
    with pytest.raises(UnknownNameError, match="3 runs begin or end with") as caught:
        read_run(tmp_path, "0")
    assert caught.value.code == "ambiguous-run"
    with pytest.raises(UnknownNameError) as caught:
        read_run(tmp_path, "zz")
    assert caught.value.code == "unknown-run"
    with pytest.raises(UnknownNameError):
        read_run(tmp_path / "nothing", "zz")


def test_an_id_that_does_not_do_is_answered_with_short_ones_that_do_the_newest_first(tmp_path: Path) -> None:
    names = [f"019aaf2c-1f7a-7cc1-8a11-0e4f5e1f09{end}" for end in ("ab", "cd")]
    for name in names:
        make(tmp_path, name)
    with pytest.raises(UnknownNameError) as caught:
        read_run(tmp_path, "019aaf2c")
    assert caught.value.notes == (f"5e1f09cd ({names[1]})", f"5e1f09ab ({names[0]})")
    with pytest.raises(UnknownNameError) as caught:
        read_run(tmp_path, "zz")
    assert caught.value.hint == "the newest are: 5e1f09cd, 5e1f09ab"
    assert read_run(tmp_path, short_run_id(names[0]))[0].run_id == names[0]


def test_a_run_whose_process_is_gone_is_interrupted_and_one_at_work_is_running(tmp_path: Path) -> None:
    folder, _ = make(tmp_path, "r1")
    assert RunFolder(tmp_path, "r1").record().state == "interrupted"
    folder.own()
    assert RunFolder(tmp_path, "r1").record().state == "running"
    with pytest.raises(RunError) as caught:
        RunFolder(tmp_path, "r1").own(wait_seconds=0.05)
    assert caught.value.code == "run-in-progress"
    folder.disown()
    RunFolder(tmp_path, "r1").own()


def test_log_lines_of_several_attempts_come_in_the_order_of_time(tmp_path: Path) -> None:
    folder, _ = make(tmp_path, "r1")
    folder.log_path("a", 1, 1).write_text('{"time": 1, "level": "info", "message": "x"}\n{"time": 4, "message": "half')
    folder.log_path("a", 1, 2).write_text('{"time": 3, "level": "info", "message": "z"}\n')
    folder.log_path("b.us", 1, 1).write_text('{"time": 2, "level": "info", "message": "y"}\n')
    assert [line["message"] for line in read_log(tmp_path, "r1")] == ["x", "y", "z"]
    assert [line["message"] for line in read_log(tmp_path, "r1", "a")] == ["x", "z"]
    assert [line["message"] for line in read_log(tmp_path, "r1", "a", 2)] == ["z"]
    assert [line["message"] for line in read_log(tmp_path, "r1", "b.us")] == ["y"]
    with pytest.raises(UnknownNameError, match="unknown task 'bus'"):
        list(read_log(tmp_path, "r1", "bus"))


def test_the_runners_folder_is_kept_out_of_git(tmp_path: Path) -> None:
    make(tmp_path, "r1")
    assert (tmp_path / ".aiflow/.gitignore").read_text() == "*\n"


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / ".aiflow").write_text("a file is in the way")
    with pytest.raises(StoreError) as caught:
        make(tmp_path, "r1")
    assert caught.value.code == "store-not-writable"
    assert ".aiflow" in str(caught.value)


def test_a_full_disk_is_a_clear_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    replace_file(tmp_path / "state.json", "old")
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from aiflow_sdk.errors import StoreError; from aiflow_sdk.stores import replace_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try: replace_file(Path(sys.argv[1]), 'x' * 100)\n"
        "except StoreError as error: print(error.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "state.json")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "store-not-writable\n"
    assert (tmp_path / "state.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["state.json"]


def test_the_command_line_can_use_the_runner_without_a_heavy_import() -> None:
    program = (
        "import sys; import aiflow_sdk.local.supervisor, aiflow_sdk.local.store, aiflow_sdk.local\n"
        "print([name for name in ('pydantic', 'polars', 'pyarrow', 'deltalake', 'click') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", ["..", ".", "", "../../../evil", "/etc", "a/b", "naïve", "x" * 20])
def test_no_name_leaves_its_folder(name: str, tmp_path: Path) -> None:
    assert (tmp_path / folder_name(name)).resolve().parent == tmp_path


def test_different_names_are_different_folders() -> None:
    names = ["", ".", "..", "%", "%2E", "a b", "a%20b", "a/b", "a%2Fb"]
    assert len({folder_name(name) for name in names}) == len(names)
