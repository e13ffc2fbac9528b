"""What a run and a backfill look like while they go on, from their records alone."""

import io

import pytest

from aiflow_sdk.cli.backfill_screen import BackfillScreen
from aiflow_sdk.cli.console import Console, format_next
from aiflow_sdk.cli.progress import RunProgress
from aiflow_sdk.cli.screen import RunScreen

RUN = {
    "pipeline_id": "flights_daily",
    "run_id": "0193c",
    "execution": 1,
    "environment": "dev",
    "partition": "2013-01-15",
}
NODES = [
    {"id": "flights", "type": "source", "kind": "onelake", "place": "raw.flights"},
    {"id": "delays", "type": "transform", "engine": "spark", "entrypoint": "etl.delays:main"},
    {"id": "rank", "type": "transform", "engine": "python", "entrypoint": "etl.rank:main"},
    {"id": "daily_delays", "type": "sink", "kind": "onelake", "place": "feature.daily_delays"},
]
TASKS = [
    {"id": "delays", "node_ids": ["flights", "delays"], "upstream": [], "state": "waiting", "attempt": 0},
    {"id": "rank", "node_ids": ["rank", "daily_delays"], "upstream": ["delays"], "state": "waiting", "attempt": 0},
]
FLIGHTS = {"node_id": "flights", "rows": 894, "bytes": 31_000, "seconds": 0.04, "partitions": ["dt=2013-01-15"]}
DELAYS = {"node_id": "delays", "rows": 16, "seconds": 0.61}
RANK = {"node_id": "rank", "seconds": 0.02, "counts": {"bad_rows": 3}}
TABLE = {
    "node_id": "daily_delays", "rows": 16, "bytes": 2000, "seconds": 0.06, "table_version": 12,
    "partitions": ["dt=2013-01-15"],
}  # fmt: skip
ERROR = {"type": "UserCodeError", "code": "user-code-failed", "message": "boom", "where": {"about": "task 'rank'"}}


def record(kind: str, **facts) -> dict:
    return {"record": kind, "time": 1000.0, **RUN, **facts}


def started(**changes) -> dict:
    return record("run-started", nodes=NODES, tasks=[{**task, **changes} for task in TASKS])


def whole_run() -> list[dict]:
    return [
        started(),
        record("task-started", task_id="delays", attempt=1),
        record("node-started", task_id="delays", node_id="flights"),
        record("node-finished", task_id="delays", **FLIGHTS),
        record("node-started", task_id="delays", node_id="delays"),
        record("task-finished", task_id="delays", nodes=[FLIGHTS, DELAYS]),
        record("task-started", task_id="rank", attempt=1),
        record("log", task_id="rank", node_id="rank", stream="stdout", level="info", message="hello"),
        record("task-finished", task_id="rank", nodes=[RANK, TABLE]),
        record("run-finished", state="succeeded", seconds=1.1, errors=[]),
    ]


def plain(records: list[dict]) -> list[str]:
    stream = io.StringIO()
    with RunScreen(Console(stream)) as screen:
        for one in records:
            screen.take(one)
    return stream.getvalue().splitlines()


def spaced(line: str) -> str:
    return " ".join(line.split())


def test_without_a_terminal_each_line_is_printed_once_when_it_is_known() -> None:
    lines = plain(whole_run())
    assert lines[0] == "flights_daily  2013-01-15  dev  run 0193c   2 tasks, 4 nodes"
    assert spaced(lines[1]) == "flights onelake raw.flights dt=2013-01-15 894 rows 31 KB 0.04 s"
    assert spaced(lines[2]) == "▸ delays spark etl.delays:main 16 rows 0.61 s"
    assert lines[3] == "  rank │ hello"
    assert spaced(lines[4]) == "▸ rank python etl.rank:main 0.02 s bad_rows 3"
    assert spaced(lines[5]) == "daily_delays onelake feature.daily_delays v12 dt=2013-01-15 16 rows 2.0 KB 0.06 s"
    assert len(lines) == 6


def test_columns_stand_below_each_other() -> None:
    lines = plain(whole_run())
    assert len({line.index(word) for line, word in zip(lines[1:3], ("onelake", "spark"), strict=True)}) == 1
    assert len({line.index(" rows") for line in (lines[1], lines[2], lines[5])}) == 1
    assert len({line.index(" s") for line in (lines[1], lines[2])}) >= 1


def phases(records: list[dict]) -> dict[str, str]:
    progress = RunProgress()
    for one in records:
        progress.take(one)
    return {node.id: node.note or node.phase for node in progress.nodes.values()}


def test_nodes_go_through_their_phases() -> None:
    run = whole_run()
    assert set(phases(run[:2]).values()) == {"waiting"}
    assert phases(run[:3])["flights"] == "running"
    assert phases(run[:5]) == {"flights": "done", "delays": "running", "rank": "waiting", "daily_delays": "waiting"}
    assert set(phases(run).values()) == {"done"}


def test_the_node_that_was_at_work_is_the_one_that_failed() -> None:
    records = [*whole_run()[:7], record("node-started", task_id="rank", node_id="rank")]
    records += [record("task-failed", task_id="rank", error=ERROR, blocked=[])]
    assert phases(records)["rank"] == "failed"
    assert phases(records)["daily_delays"] == "not run"


def test_the_node_that_the_error_names_is_the_one_that_failed() -> None:
    error = {**ERROR, "where": {"about": "sink 'daily_delays', task 'rank'"}}
    records = [*whole_run()[:7], record("task-failed", task_id="rank", error=error, blocked=[])]
    assert phases(records)["daily_delays"] == "failed"


def test_tasks_behind_a_failed_one_are_not_run() -> None:
    records = [*whole_run()[:2], record("task-failed", task_id="delays", error=ERROR, blocked=["rank"])]
    assert phases(records)["rank"] == "not run"
    assert phases(records)["flights"] == "failed"


def test_a_retry_says_when_it_comes() -> None:
    records = [*whole_run()[:2], record("task-retried", task_id="delays", attempt=1, error=ERROR, delay_seconds=5)]
    assert phases(records)["delays"] == "failed, again in 5.00 s"
    assert "attempt 2 in 5.00 s" in plain(records)[-1]
    again = [*records, record("task-started", task_id="delays", attempt=2)]
    assert phases(again)["delays"] == "waiting"


def test_what_a_cancelled_run_did_not_do_says_so() -> None:
    records = [*whole_run()[:5], record("run-finished", state="cancelled", seconds=1, errors=[])]
    assert phases(records) == {
        "flights": "done",
        "delays": "cancelled",
        "rank": "cancelled",
        "daily_delays": "cancelled",
    }


@pytest.mark.parametrize(("state", "shown"), [("succeeded", "done before"), ("skipped", "skipped")])
def test_what_a_run_leaves_out_says_so(state: str, shown: str) -> None:
    assert set(phases([started(state=state)]).values()) == {shown}


def test_a_superseded_write_says_so() -> None:
    records = [*whole_run()[:7], record("task-finished", task_id="rank", nodes=[RANK, {**TABLE, "superseded": True}])]
    assert "superseded" in plain(records)[-1]


def test_the_lines_of_an_error_are_left_to_the_error() -> None:
    line = record("log", task_id="rank", stream="stderr", level="error", message="Traceback …")
    assert len(plain([started(), line])) == 1


def test_a_line_that_no_run_owns_is_shown_all_the_same() -> None:
    line = {"record": "log", "time": 0, "stream": "output", "level": "info", "message": "from C"}
    assert plain([started(), line])[-1] == "  - │ from C"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_last_lines_stay_and_the_cursor_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with RunScreen(Console(stream)) as screen:
        for one in whole_run():
            screen.take(one)
    text = stream.getvalue()
    assert text.index("\x1b[?25l") < text.index("\x1b[?25h")
    last = text.rsplit("\x1b[?25h", 1)[1]
    assert "flights_daily" in last
    assert last.count("feature.daily_delays") == 1
    assert "\x1b[?25l" not in last


def test_the_cursor_comes_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()

    def broken() -> None:
        with RunScreen(Console(stream)) as screen:
            screen.take(started())
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert "\x1b[?25h" in stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize(
    "place", ["raw.flights", "a/very/long/path/that/nobody/can/read/in/one/line/dt=2013-01-15/x.csv"]
)
def test_a_narrow_terminal_shows_every_measure(width: int, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    progress = RunProgress()
    console = Console(Terminal())
    for one in whole_run():
        if one["record"] == "run-started":
            one["nodes"] = [{**node, "place": place} if "place" in node else node for node in one["nodes"]]
            one["run_id"] = "019aaf2c-1f7a-7cc1-8a11-0e4f5e1f09ab"
        if one["record"] != "log":
            progress.take(one)
        header = progress.header(console)
        assert len(header) < width
        assert "run 5e1f09ab" in header
        shown = [line for node_id in progress.nodes for line in progress.lines(console, node_id, 1000.0)]
        assert all(len(line) < width for line in shown), shown
    first = [progress.lines(console, node_id, 1000.0)[0] for node_id in progress.nodes]
    assert [line.split()[-1] for line in first[:2]] == ["s", "s"]
    assert "894 rows" in first[0]
    assert "31 KB" in first[0]
    text = spaced(" ".join(shown))
    for fact in ("v12", "dt=2013-01-15", "bad_rows 3", "16 rows", "2.0 KB"):
        assert fact in text


def test_a_failed_node_says_so_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    progress = RunProgress()
    for one in [*whole_run()[:2], record("task-retried", task_id="delays", attempt=1, error=ERROR, delay_seconds=5)]:
        progress.take(one)
    assert progress.lines(Console(Terminal()), "delays", 0)[0].endswith("failed, again in 5.00 s")


def test_commands_to_type_next_stand_below_each_other_where_a_line_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    commands = ["aiflow show flights_daily --date 2013-01-15", "aiflow backfill flights_daily --from 2013-01-01"]
    assert format_next(Console(Terminal()), "done in 1.1 s", commands) == [
        "done in 1.1 s",
        f"next: {commands[0]}",
        f"      {commands[1]}",
    ]
    assert format_next(Console(io.StringIO()), "done in 1.1 s", commands) == [
        f"done in 1.1 s   next: {' · '.join(commands)}"
    ]


def test_a_resumed_run_is_measured_by_this_doing() -> None:
    progress = RunProgress()
    progress.take(started())
    assert progress.doing_seconds is None
    progress.take({**record("run-finished", state="succeeded", seconds=10.3, errors=[]), "time": 1002.5})
    assert progress.doing_seconds == 2.5


# Backfills.


def backfill(*records: dict) -> list[str]:
    stream = io.StringIO()
    with BackfillScreen(Console(stream)) as screen:
        for one in records:
            screen.take(one)
    return stream.getvalue().splitlines()


def planned(**reasons: str | None) -> dict:
    partitions = [{"partition": f"2013-01-{day[1:]}", "reason": reason} for day, reason in reasons.items()]
    return {
        "record": "backfill-started", "time": 0, "pipeline_id": "flights_daily", "environment": "dev",
        "first": partitions[0]["partition"], "last": partitions[-1]["partition"], "partitions": partitions,
        "parallel": 2, "ranges": False,
    }  # fmt: skip


def test_a_backfill_says_why_each_partition_runs() -> None:
    lines = backfill(planned(d01="never made", d02="never made", d03=None, d04="the code of 'rank' changed"))
    assert lines[0] == "flights_daily  2013-01-01 … 2013-01-04  dev   4 partitions: 3 to run, 1 up to date"
    assert spaced(lines[1]) == "2013-01-01 … 2013-01-02 (2) never made"
    assert spaced(lines[2]) == "2013-01-03 up to date, skipped"
    assert spaced(lines[3]) == "2013-01-04 the code of 'rank' changed"


def test_a_backfill_has_a_line_for_each_run() -> None:
    one = {**RUN, "partition": "2013-01-01"}
    lines = backfill(
        planned(d01="never made"),
        {**started(), **one},
        {**record("task-finished", task_id="rank", nodes=[RANK, TABLE]), **one},
        {**record("run-finished", state="succeeded", seconds=1.5, errors=[]), **one},
    )
    assert spaced(lines[-1]) == "2013-01-01 16 rows 2.0 KB 1.50 s"


def test_a_failed_run_of_a_backfill_says_what_failed() -> None:
    lines = backfill(
        planned(d15="never made"), started(), record("run-finished", state="failed", seconds=1, errors=[ERROR])
    )
    assert "failed: error[user-code-failed] boom" in lines[-1]


def test_a_run_of_a_backfill_may_take_many_partitions() -> None:
    stream = io.StringIO()
    with BackfillScreen(Console(stream)) as screen:
        screen.take(planned(d01="never made", d02=None, d03="never made", d04="never made"))
        ranged = {"partition": "2013-01-03..2013-01-04"}
        screen.take({**started(), **ranged})
        screen.take({**record("run-finished", state="succeeded", seconds=1, errors=[]), **ranged})
        assert " 2/3 " in screen._draw()[-1]


def test_the_last_transform_of_a_task_that_nobody_timed_shows_the_seconds_of_the_task() -> None:
    run = whole_run()
    facts = [FLIGHTS, {"node_id": "delays", "rows": 16}]
    run[5] = record("task-finished", task_id="delays", nodes=facts, seconds=0.83)
    assert spaced(plain(run)[2]) == "▸ delays spark etl.delays:main 16 rows 0.83 s"


def test_a_cancelled_task_is_told_without_noise() -> None:
    records = [*whole_run()[:5], record("task-cancelled", task_id="delays", attempt=1, reason="x")]
    assert len(plain(records)) == 1
