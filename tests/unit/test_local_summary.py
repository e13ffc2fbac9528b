"""What a run says of itself to the person who started it."""

import pytest

from aiflow_sdk.errors import RunError, UnknownNameError
from aiflow_sdk.local.summary import RunSummary, TaskSummary

ERROR = {"type": "UserCodeError", "code": "user-code-failed", "message": "boom <b>"}
NODE = {"node_id": "orders", "rows": 1200, "seconds": 0.5}


def summary(state: str = "succeeded", **facts) -> RunSummary:
    tasks = {"orders": TaskSummary("orders", "succeeded", 1, 0.5, nodes=(NODE,))}
    return RunSummary(
        "0193c", "daily", "dev", "2026-11-20", 1, 1, "t", state, 1.25, "runs/0193c", **{"tasks": tasks, **facts}
    )


def test_a_run_is_shown_shortly() -> None:
    assert repr(summary()) == "run 0193c of 'daily' for 2026-11-20: succeeded in 1.25 s"


def test_a_run_that_failed_shows_why() -> None:
    assert repr(summary("failed", errors=(ERROR,))).splitlines() == [
        "run 0193c of 'daily' for 2026-11-20: failed in 1.25 s",
        "  error[user-code-failed]: boom <b>",
    ]


def test_the_table_of_a_run_that_failed_says_why_it_is_not_there() -> None:
    with pytest.raises(RunError, match=r"'features' was not done.*failed") as caught:
        summary("failed", errors=(ERROR,)).table("features")
    assert caught.value.notes == ("error[user-code-failed]: boom <b>",)


def test_a_node_that_a_run_does_not_have_is_unknown() -> None:
    with pytest.raises(UnknownNameError, match="'order'"):
        summary().node("order")


def test_a_notebook_shows_a_table_and_escapes_what_is_in_it() -> None:
    shown = summary("failed", errors=(ERROR,))._repr_html_()
    assert "<td>1,200</td>" in shown
    assert "boom &lt;b&gt;" in shown
    assert "<table" not in summary(tasks={})._repr_html_()
