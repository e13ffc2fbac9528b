"""How a run's tasks come to their ends, and what is made of a process that was lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_sdk.local.state import Loss, RunState, TaskState, take_loss

RETRYABLE = {"code": "x", "message": "x", "retryable": True}
FINAL = {"code": "x", "message": "x", "retryable": False}


def run_of(*tasks: TaskState, run_id: str = "r") -> RunState:
    return RunState(run={"run_id": run_id}, tasks={task.task_id: task for task in tasks}, started=0)


def diamond(**allowed: Any) -> RunState:
    return run_of(
        TaskState("a", **allowed),
        TaskState("b", ("a",), **allowed),
        TaskState("c", ("a",), **allowed),
        TaskState("d", ("b", "c"), **allowed),
    )


def test_a_task_starts_when_all_before_it_have_succeeded() -> None:
    run = diamond()
    assert run.startable(0) == ["a"]
    run.start("a", 0)
    assert run.startable(0) == []
    run.succeed("a", (), 1)
    assert run.startable(0) == ["b", "c"]
    for task in ("b", "c"):
        run.start(task, 1)
        run.succeed(task, (), 1)
    assert run.startable(1) == ["d"]


def test_a_failure_blocks_what_follows_and_nothing_else() -> None:
    run = diamond()
    run.start("a", 0)
    run.succeed("a", (), 1)
    run.start("b", 1)
    assert run.fail("b", FINAL, 2) == "failed"
    assert run.tasks["d"].state == "blocked"
    assert run.startable(2) == ["c"]
    assert not run.ended


def test_a_retry_waits_for_its_delay() -> None:
    run = run_of(TaskState("a", retries=1, retry_delay_seconds=60))
    run.start("a", 0)
    assert run.fail("a", RETRYABLE, 10) == "retried"
    assert run.startable(69) == []
    assert run.next_moment() == 70
    assert run.startable(70) == ["a"]
    assert run.start("a", 70).attempt == 2
    assert run.fail("a", RETRYABLE, 80) == "failed"


def test_the_pauses_grow_as_the_plan_says_and_never_beyond_a_day() -> None:
    run = run_of(TaskState("a", retries=6, retry_delay_seconds=60, retry_backoff=10))
    pauses, now = [], 0.0
    while run.tasks["a"].state == "waiting":
        run.start("a", now)
        if run.fail("a", RETRYABLE, now) == "retried":
            pauses.append(run.tasks["a"].not_before - now)
            now = run.tasks["a"].not_before
    assert pauses == [60, 600, 6000, 60_000, 86_400, 86_400]
    run.resume(now)  # a resume counts anew
    run.start("a", now)
    run.fail("a", RETRYABLE, now)
    assert run.tasks["a"].not_before - now == 60
    for seconds, longest in ((60.0, 86_400.0), (100_000.0, 100_000.0), (0.0, 86_400.0)):
        endless = TaskState("a", retry_delay_seconds=seconds, retry_backoff=10.0, attempt=1000)
        assert endless.pause_seconds == longest


def test_an_error_that_no_attempt_can_mend_is_not_retried() -> None:
    run = run_of(TaskState("a", retries=5))
    run.start("a", 0)
    assert run.fail("a", FINAL, 1) == "failed"


def test_a_task_over_its_time_fails_and_its_siblings_start_again_uncounted() -> None:
    run = run_of(TaskState("slow"), TaskState("sibling"))
    run.start("slow", 0)
    run.start("sibling", 0)
    changes = take_loss([run], Loss("task-timeout", RETRYABLE, "r", "slow"), 10)
    assert [(task, change) for _, task, change in changes] == [("slow", "failed"), ("sibling", "repeated")]
    assert run.start("sibling", 10).attempt == 1


def test_the_only_task_at_work_is_blamed_for_its_process() -> None:
    run = run_of(TaskState("a", retries=1))
    run.start("a", 0)
    ((_, task, change),) = take_loss([run], Loss("died", RETRYABLE), 1)
    assert (task, change) == ("a", "retried")
    assert run.start("a", 1).attempt == 2


def test_of_several_none_is_blamed_and_each_runs_alone_next() -> None:
    runs = [run_of(TaskState("a"), run_id="one"), run_of(TaskState("a"), run_id="two")]
    for run in runs:
        run.start("a", 0)
    assert {change for _, _, change in take_loss(runs, Loss("died", RETRYABLE), 1)} == {"repeated"}
    assert all(run.tasks["a"].alone for run in runs)
    runs[0].start("a", 1)
    ((state, _, change),) = take_loss(runs, Loss("died", RETRYABLE), 2)
    assert (state.run_id, change) == ("one", "failed")


def test_a_run_over_its_time_is_over_and_the_other_run_is_not() -> None:
    runs = [run_of(TaskState("a", retries=3), TaskState("b", ("a",)), run_id=name) for name in ("one", "two")]
    for run in runs:
        run.start("a", 0)
    take_loss(runs, Loss("run-timeout", RETRYABLE, "one"), 1)
    assert [task.state for task in runs[0].tasks.values()] == ["failed", "blocked"]
    assert [task.state for task in runs[1].tasks.values()] == ["waiting", "waiting"]
    runs[0].end(1)
    assert runs[0].state == "failed"


def test_a_process_that_dies_with_nothing_at_work_fails_its_runs() -> None:
    run = diamond()
    assert take_loss([run], Loss("died", RETRYABLE), 1) == []
    run.end(1)
    assert (run.ended, run.state) == (True, "failed")


def test_a_resume_does_what_has_not_succeeded_and_counts_on() -> None:
    run = diamond(retries=1)
    run.start("a", 0)
    run.succeed("a", (), 1)
    for _ in range(2):
        run.start("b", 1)
        run.fail("b", RETRYABLE, 1)
    run.start("c", 1)
    run.cancel(5)
    assert (run.state, run.seconds) == ("cancelled", 5)
    run.resume(100)
    assert run.startable(100) == ["b", "c"]
    assert run.start("b", 100).attempt == 3
    assert run.start("c", 100).attempt == 1
    assert run.fail("b", RETRYABLE, 101) == "retried"


def test_what_is_stored_of_a_task_is_what_comes_back() -> None:
    task = TaskState("a", retries=2)
    run = run_of(task)
    run.start("a", 3)
    run.fail("a", RETRYABLE, 4)
    other = TaskState("a", retries=2)
    other.load({**task.to_dict(), "a later version's": 1})
    assert other == task


@given(
    st.integers(0, 3),
    st.lists(st.sampled_from(["succeed", "fail", "final", "died", "timeout", "cancel"]), min_size=1, max_size=40),
)
def test_whatever_happens_a_run_ends_and_no_task_has_more_attempts_than_it_may(
    retries: int, happens: list[str]
) -> None:
    run = diamond(retries=retries)
    now = 0.0
    resumes = 1
    for what in happens:
        now += 1
        ready = run.startable(now)
        if not ready and not run.running:
            break
        if ready:
            run.start(ready[0], now)
        task_id = run.running[0]
        match what:
            case "succeed":
                run.succeed(task_id, (), 1)
            case "fail" | "final":
                run.fail(task_id, RETRYABLE if what == "fail" else FINAL, now)
            case "died":
                take_loss([run], Loss("died", RETRYABLE), now)
            case "timeout":
                take_loss([run], Loss("task-timeout", RETRYABLE, "r", task_id), now)
            case _:
                run.cancel(now)
                run.resume(now)
                resumes += 1
    for task in run.tasks.values():
        assert task.attempt <= resumes * (retries + 1)
        if task.state == "blocked":
            assert any(run.tasks[up].state in ("failed", "blocked") for up in task.upstream)
    if not run.running and not run.startable(now + 1):
        assert run.ended


@pytest.mark.parametrize("kind", ["died", "task-timeout", "run-timeout"])
def test_a_loss_leaves_nothing_that_runs(kind: Any) -> None:
    run = diamond()
    run.start("a", 0)
    take_loss([run], Loss(kind, RETRYABLE, "r", "a"), 1)
    assert run.running == ()
