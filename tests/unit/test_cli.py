"""The command line's own parts: what is typed, how errors look, what a run's view says."""

import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from aiflow_sdk.cli import main
from aiflow_sdk.cli.command_line import COMMANDS, aiflow
from aiflow_sdk.cli.console import Console, cut, format_bytes, format_seconds, format_table, pad, printable, text_width
from aiflow_sdk.cli.diagnostics import exit_code, flatten_errors, format_error, summarise_check
from aiflow_sdk.errors import (
    ConfigurationError,
    PluginError,
    ProblemsError,
    StoreError,
    UnknownNameError,
    UserCodeError,
    Where,
)

HEAVY = {
    "pydantic",
    "polars",
    "pyarrow",
    "deltalake",
    "pyspark",
    "duckdb",
    "pandas",
    "rich",
    "croniter",
    "importlib_metadata",
}


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


# What is typed.


def test_help_imports_click_and_nothing_heavy() -> None:
    program = (
        "import sys\nfrom aiflow_sdk.cli import main\nmain(['--help'])\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    loaded = set(eval(result.stderr))
    assert "click" in loaded
    assert not loaded & HEAVY


def test_help_is_there_at_once() -> None:
    def once() -> float:
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "aiflow_sdk.cli", "--help"], capture_output=True, check=True, timeout=60)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the processor: others may be at work beside it
        return ended.ru_utime - began.ru_utime + ended.ru_stime - began.ru_stime

    assert min(once() for _ in range(5)) <= 0.3


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"\n  aiflow {name}" in text.split("Examples:")[1]
    for option in ("-C DIR", "--env NAME", "--json"):
        assert option in text


def test_every_module_of_a_command_is_listed() -> None:
    folder = Path(aiflow.get_command.__code__.co_filename).parent / "commands"
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(COMMANDS)


def test_no_arguments_show_the_help_and_are_used_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("aiflow 0.")


@pytest.mark.parametrize("typed", [["--json", "--version"], ["--version", "--json"]])
def test_the_version_as_data(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(typed) == 0
    assert json.loads(capsys.readouterr().out)["version"].startswith("0.")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["rnu"], "did you mean 'run'"),
        (["zzz"], "aiflow --help"),
        (["--jsn"], "did you mean '--json'"),
        (["run", "--dat", "2026-11-20"], "did you mean '--date'"),
        (["run", "a", "b"], "b"),
        (["backfill", "a"], "--from"),
        (["runs", "--limit", "none"], "none"),
        (["run", "x", "--param", "novalue"], "NAME=VALUE"),
        (["run", "x", "--last-date", "2026-11-20"], "--date"),
        (["init"], "DIR"),
        (["init", "x", "--example", "shoop"], "shop"),
        (["sample", "--out", "x.txt"], ".py nor .json"),
        (["-C", "no such folder", "runs"], "no such folder is no folder"),
    ],
)
def test_what_is_typed_wrongly_ends_with_2_and_says_what_to_type(
    typed: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(typed) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.startswith("error")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("typed", [["--json", "rnu"], ["run", "--json", "--dat"], ["runs", "--json", "-C", "nowhere"]])
def test_with_json_an_error_is_data(
    typed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(typed) == 2
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert {"type", "code", "message", "where", "hint", "retryable", "notes"} <= error.keys()
    assert captured.err == ""


@pytest.mark.parametrize("place", [0, 1])
def test_shared_options_stand_before_or_after_the_command(
    place: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "aiflow.toml").write_text("[environments.prod]\nlake = 's3://x'\n")
    shared = ["-C", str(tmp_path), "--env", "prod", "--json"]
    assert main(["env", *shared] if place else [*shared, "env"]) == 0
    environments = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in environments if one["current"]] == ["prod"]


def test_a_typing_error_in_the_file_is_shown_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "aiflow.toml").write_text('pipelines = ["pipelines"]\nlok = "x"\n')
    assert main(["-C", str(tmp_path), "runs"]) == 1
    text = capsys.readouterr().err
    assert "aiflow.toml:2" in text
    assert 'lok = "x"' in text
    assert "did you mean 'lock'" in text


def test_an_unknown_environment_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "aiflow.toml").write_text("[environments.prod]\nlake = 's3://x'\n")
    assert main(["-C", str(tmp_path), "--env", "prd", "env"]) == 2
    assert "did you mean 'prod'" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m aiflow_sdk.cli --help | head -1; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    assert result.stdout.splitlines()[-1] == "0"


def test_a_backfill_that_a_full_disk_stops_says_how_far_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(request, on_record):
        days = [{"partition": day, "reason": "never made"} for day in ("2026-11-01", "2026-11-02")]
        run = {"run_id": "1", "partition": "2026-11-01", "time": 0}
        on_record({"record": "backfill-started", "partitions": days, "first": "a", "last": "b", "environment": "dev"})
        on_record({"record": "run-started", "nodes": [], "tasks": [], **run})
        on_record({"record": "run-finished", "state": "succeeded", "seconds": 1, "errors": [], **run})
        raise StoreError("store-not-writable", "no space left")

    monkeypatch.setattr("aiflow_sdk.local.backfill", fill)
    (tmp_path / "aiflow.toml").touch()
    typed = ["backfill", "daily", "--from", "2026-11-01", "--to", "2026-11-02"]
    assert main(["-C", str(tmp_path), *typed]) == 1
    captured = capsys.readouterr()
    assert "no space left" in captured.err
    last = captured.out.splitlines()[-1]
    assert last.startswith("stopped   1 partition done")
    assert last.endswith(" ".join(typed))


# How errors look.


def shown(error, root: Path | None = None) -> str:
    return "\n".join(format_error(Console(io.StringIO()), error.to_dict(), root))


def test_an_error_looks_as_it_should(tmp_path: Path) -> None:
    (tmp_path / "pipelines").mkdir()
    line = '    raw.sql("select user_id, sum(amout) from {orders} group by 1")'
    (tmp_path / "pipelines/user_features.py").write_text("\n" * 17 + line + "\n")
    error = UnknownNameError(
        "unknown-column",
        "source 'orders_onelake' has no column 'amout'",
        where=Where("pipelines/user_features.py", 18),
        hint="did you mean 'amount'?",
        notes=["table raw.sales_orders has: order_id, user_id, amount, dt"],
    )
    *lines, last = shown(error, tmp_path).splitlines()
    assert last.endswith("docs/errors.md#unknown-column")
    assert lines == [
        "error[unknown-column]: source 'orders_onelake' has no column 'amout'",
        "  --> pipelines/user_features.py:18",
        "   |",
        f"18 | {line}",
        "   |                                  ^^^^^ did you mean 'amount'?",
        "   |",
        "   = table raw.sales_orders has: order_id, user_id, amount, dt",
    ]


def test_a_known_column_is_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('x = 1\nlake = "漢字" oops\n', encoding="utf-8")
    error = ConfigurationError("bad-toml", "no TOML", where=Where("a.toml", 2, 13), hint="text stands in quotes")
    lines = shown(error, tmp_path).splitlines()
    assert lines[3:5] == [' 2 | lake = "漢字" oops', "   |               ^^^^"]
    assert "   = hint: text stands in quotes" in lines


@pytest.mark.parametrize(
    "where", [Where("gone.py", 3), Where("a.py", 99), Where("a.py"), Where(about="node 'x'"), None]
)
def test_a_place_that_cannot_be_shown_is_named_all_the_same(tmp_path: Path, where: Where | None) -> None:
    (tmp_path / "a.py").write_text("one line\n")
    text = shown(ConfigurationError("bad-setting", "wrong", where=where), tmp_path)
    assert "^" not in text
    assert "|" not in text
    if where:
        assert str(where) in text


def test_the_page_of_errors_is_named_only_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ConfigurationError("bad-setting", "wrong")
    assert "docs/errors.md#bad-setting" in shown(error)
    installed = tmp_path / "site-packages" / "aiflow_sdk" / "cli" / "diagnostics.py"
    monkeypatch.setattr("aiflow_sdk.cli.diagnostics.__file__", str(installed))
    assert "docs" not in shown(error)


def test_the_traceback_of_a_plugin_stands_first_too() -> None:
    notes = ["Traceback (most recent call last):", '  File "rss.py", line 3, in scan', "    boom()", "KeyError: 'x'"]
    lines = shown(PluginError("source-failed", "the source failed", notes=notes)).splitlines()
    assert lines[:4] == notes


def test_a_users_traceback_stands_first() -> None:
    notes = ["Traceback (most recent call last):", '  File "etl.py", line 3, in main', "    boom()", "KeyError: 'x'"]
    lines = shown(UserCodeError("user-code-failed", "the function failed", notes=notes)).splitlines()
    assert lines[:4] == notes
    assert lines[5] == "error[user-code-failed]: the function failed"


def test_what_steers_a_terminal_is_not_passed_on() -> None:
    text = shown(ConfigurationError("bad-setting", "\x1b[2Jgone\x07", hint="\x1b]0;title\x07", notes=["\x1b[31mred"]))
    assert "\x1b" not in text
    assert "\x07" not in text


def test_several_problems_are_shown_each_once() -> None:
    one = ConfigurationError("bad-setting", "one")
    two = ConfigurationError("bad-setting", "two")
    flat = list(flatten_errors([ProblemsError([one, two]).to_dict(), one.to_dict()]))
    assert [error["message"] for error in flat] == ["one", "two"]


def test_only_what_was_typed_wrongly_ends_with_2() -> None:
    typed = UnknownNameError("unknown-pipeline", "no such pipeline").to_dict()
    written = UnknownNameError("unknown-param", "no such param", where=Where("a.py", 3)).to_dict()
    assert exit_code([typed]) == 2
    assert exit_code([written]) == 1
    assert exit_code([typed, written]) == 1
    assert exit_code([]) == 1


def test_the_summary_counts() -> None:
    assert summarise_check(2, 1, 14) == "2 errors in 1 of 14 pipelines; nothing was run"
    assert summarise_check(1, 1, 1) == "1 error in 1 of 1 pipeline; nothing was run"


# Where it writes.


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Console(Terminal()).style("x", "red") == "\x1b[31mx\x1b[0m"
    assert Console(io.StringIO()).style("x", "red") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Console(Terminal()).style("x", "red") == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert Console(Terminal()).style("x", "red") == "x"


def test_a_stream_that_knows_no_signs_gets_plain_ones() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Console(stream).print("▸ a … b · 漢")
    assert raw.getvalue() == b"> a ... b - ?\n"


@pytest.mark.parametrize("gone_before", [False, True])
def test_work_of_hours_is_not_done_for_a_reader_who_is_gone(gone_before: bool) -> None:
    reading, writing = os.pipe()
    done = []

    def work() -> None:
        with console.ending_with_reader():
            console.print("heard by nobody")
            done.append("an hour's work")

    with os.fdopen(writing, "w") as stream:
        console = Console(stream)
        os.close(reading)
        if gone_before:
            console.print("nor was this")
        with pytest.raises(KeyboardInterrupt):
            work()
        console.print("what is said of the end")
    assert done == []


def test_wide_signs_take_two_columns() -> None:
    assert text_width("漢字") == 4
    assert text_width("\x1b[31mab\x1b[0m") == 2
    assert pad("漢", 4) == "漢  "
    assert pad("7", 3, right=True) == "  7"
    assert cut("漢字漢字", 5) == "漢字…"
    assert cut("\x1b[31mabcdef\x1b[0m", 4) == "\x1b[31mabc…\x1b[0m"
    assert cut("short", 10) == "short"


def test_tables_are_in_columns() -> None:
    rows: list[dict] = [{"name": "a\nb", "n": 1}, {"name": "\x1b[31mlong", "n": 20}, {"name": None, "n": None}]
    assert format_table(Console(io.StringIO()), rows, ["name", "n"]) == ["name   n", "a⏎b    1", "long  20", ""]


def test_numbers_are_for_people() -> None:
    assert [format_bytes(n) for n in (None, 0, 999, 1500, 31_000, 5_200_000_000)] == [
        "",
        "0 B",
        "999 B",
        "1.5 KB",
        "31 KB",
        "5.2 GB",
    ]
    assert [format_seconds(s) for s in (None, 0.041, 12.34, 125, 3725)] == [
        "",
        "0.04 s",
        "12.3 s",
        "2 min 05 s",
        "1 h 02 min",
    ]


def test_printable_keeps_text() -> None:
    assert printable("a\tb\x1b[31m\x00é漢") == "a    bé漢"
    assert printable("ok \u202eesrever\u2066") == "ok esrever"
