"""``aiflow`` as a person uses it: a new project, its first runs, and what happens when things go wrong."""

import datetime
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAST = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)).date()
BEFORE = LAST - datetime.timedelta(days=1)
AIFLOW = [sys.executable, "-m", "aiflow_sdk.cli"]


def aiflow(*words: object, folder: Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [*AIFLOW, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=120, encoding="utf-8"
    )
    assert code is None or result.returncode == code, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as ``aiflow init`` makes it; the tests of this module share it and leave it whole."""
    folder = tmp_path_factory.mktemp("work")
    aiflow("init", "my shop", folder=folder)
    return folder / "my shop"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of its own, to change and to break."""
    aiflow("init", "shop", folder=tmp_path)
    return tmp_path / "shop"


def test_somebody_who_reads_nothing_gets_a_table_in_a_minute(tmp_path: Path) -> None:
    began = time.perf_counter()
    said = aiflow("init", "a shop", folder=tmp_path).stdout
    commands = [line.strip() for line in said.split("next:")[1].splitlines() if line.strip()]
    assert commands[0] == "cd 'a shop'"
    for command in commands[1:3]:
        assert command.startswith("aiflow ")
        shown = aiflow(*command.split()[1:], folder=tmp_path / "a shop").stdout
    assert time.perf_counter() - began < 60
    assert "green tea 100 g" in shown
    assert str(tmp_path / "a shop" / ".aiflow" / "lake") in shown


def test_the_new_projects_own_test_passes(made: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=made, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "1 passed" in result.stdout, result.stdout + result.stderr


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("dear diary")
    result = aiflow("init", "mine", folder=tmp_path, code=2)
    assert "error[folder-not-empty]" in result.stderr
    assert "notes.txt" in result.stderr
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]
    assert "is a file" in aiflow("init", "mine/notes.txt", folder=tmp_path, code=2).stderr


def test_init_takes_an_empty_folder_a_fresh_repository_and_this_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    aiflow("init", "empty", folder=tmp_path)
    aiflow("init", "repository", folder=tmp_path)
    assert "cd " not in aiflow("init", ".", folder=tmp_path / "here").stdout


def test_an_empty_project_checks_well_and_says_what_it_is(tmp_path: Path) -> None:
    aiflow("init", "bare", "--example", "empty", folder=tmp_path)
    assert "no error in 0 pipelines" in aiflow("check", folder=tmp_path / "bare").stdout
    assert "no pipeline" in aiflow("show", folder=tmp_path / "bare").stdout
    assert "no pipeline was found" in aiflow("run", folder=tmp_path / "bare", code=2).stderr


def test_a_run_without_a_terminal_prints_each_line_once(made: Path) -> None:
    lines = aiflow("run", "daily_revenue", "--date", LAST, folder=made).stdout.splitlines()
    assert re.match(rf"daily_revenue  {LAST}  dev  run [0-9a-f-]{{36}}   1 task, 3 nodes$", lines[0])
    assert [line.split()[0 if "▸" not in line else 1] for line in lines[1:4]] == ["orders", "revenue", "revenue_table"]
    assert f"dt={LAST}" in lines[3]
    assert " rows" in lines[3]
    assert lines[-1].startswith("done in ")
    assert f"aiflow show daily_revenue --date {LAST}" in lines[-1]
    assert "\x1b" not in "".join(lines)


def test_the_only_pipeline_need_not_be_named(made: Path) -> None:
    assert aiflow("run", "--date", BEFORE, folder=made).stdout.startswith(f"daily_revenue  {BEFORE}")


def test_it_works_from_below_the_project_and_from_elsewhere(made: Path, tmp_path: Path) -> None:
    assert "daily_revenue" in aiflow("show", folder=made / "pipelines").stdout
    shown = aiflow("-C", made, "show", folder=tmp_path).stdout
    assert f"next: aiflow -C '{made}' show daily_revenue" in shown


def test_with_json_a_run_is_its_records(made: Path) -> None:
    result = aiflow("run", "daily_revenue", "--date", LAST, "--json", folder=made)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = [record["record"] for record in records]
    assert kinds[0] == "run-started"
    assert kinds[-1] == "run-finished"
    assert {"task-started", "task-finished"} <= set(kinds)
    assert records[-1]["state"] == "succeeded"
    assert result.stderr == ""


def test_show_tells_the_graph_where_it_lies_and_its_rows(made: Path) -> None:
    aiflow("run", "daily_revenue", "--date", LAST, folder=made)
    text = aiflow("show", "daily_revenue", "--date", LAST, "--rows", 3, folder=made).stdout
    for word in (
        "orders",
        "etl_jobs.revenue:main",
        "shop.daily_revenue",
        "pipelines/daily_revenue.py:",
        "the first 3:",
    ):
        assert word in text
    assert str(made / ".aiflow/lake/shop/daily_revenue") in text
    data = json.loads(aiflow("show", "daily_revenue", "--date", LAST, "--json", folder=made).stdout)
    (table,) = data["tables"]
    assert table["rows"] == len(table["sample"])
    assert {row["dt"] for row in table["sample"]} == {LAST.isoformat()}
    assert data["tasks"][0]["nodes"] == ["orders", "revenue", "revenue_table"]


def test_show_says_where_nothing_lies_yet(project: Path) -> None:
    assert "nothing there yet" in aiflow("show", "daily_revenue", folder=project).stdout


def test_show_draws_and_tells_the_plan(made: Path) -> None:
    assert aiflow("show", "daily_revenue", "--mermaid", folder=made).stdout.startswith("flowchart")
    plan = json.loads(aiflow("show", "daily_revenue", "--plan", folder=made).stdout)
    assert plan["pipeline_id"] == "daily_revenue"


def test_a_backfill_says_why_and_the_second_one_does_nothing(project: Path) -> None:
    dates = ["--from", BEFORE, "--to", LAST]
    first = aiflow("backfill", "daily_revenue", *dates, folder=project).stdout
    assert "2 partitions: 2 to run, 0 up to date" in first
    assert "never made" in first
    second = aiflow("backfill", "daily_revenue", *dates, folder=project).stdout
    assert "2 partitions: 0 to run, 2 up to date" in second
    assert "up to date, skipped" in second
    code = project / "etl_jobs/revenue.py"
    code.write_text(code.read_text().replace("round(2)", "round(1)"))
    dry = aiflow("backfill", "daily_revenue", *dates, "--dry-run", folder=project).stdout
    assert "the code of 'revenue' changed" in dry
    assert "nothing was run" in dry
    again = f"aiflow backfill daily_revenue --from {BEFORE} --to {LAST}"
    assert dry.rstrip().endswith(again)
    assert (
        aiflow("backfill", "daily_revenue", *dates, "--dry-run", "--force", folder=project)
        .stdout.rstrip()
        .endswith(f"{again} --force")
    )
    forced = aiflow("backfill", "daily_revenue", *dates, "--force", "--json", folder=project).stdout.splitlines()
    assert json.loads(forced[-1])["record"] == "backfill-finished"


def test_runs_and_logs_tell_what_was(project: Path) -> None:
    code = project / "etl_jobs/revenue.py"
    code.write_text(code.read_text().replace("    return (", "    print('minimum', minimum_price)\n    return ("))
    assert "no run yet" in aiflow("runs", folder=project).stdout
    aiflow("run", "--date", LAST, folder=project)
    (run,) = json.loads(aiflow("runs", "--json", folder=project).stdout)
    assert run["state"] == "succeeded"
    assert run["run"]["run_id"][-8:] in aiflow("runs", "daily_revenue", folder=project).stdout
    assert "│ minimum 0.5" in aiflow("logs", folder=project).stdout
    assert (
        "│ minimum 0.5" in aiflow("logs", run["run"]["run_id"][:13], "revenue", "--attempt", 1, folder=project).stdout
    )
    assert json.loads(aiflow("logs", "--json", folder=project).stdout.splitlines()[0])["message"] == "minimum 0.5"
    assert "unknown-task" in aiflow("logs", run["run"]["run_id"], "revenu", folder=project, code=2).stderr
    assert "unknown-run" in aiflow("logs", "zzz", folder=project, code=2).stderr


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["run", "daily_revenu"], "did you mean 'daily_revenue'", 2),
        (["show", "daily_revenu"], "did you mean 'daily_revenue'", 2),
        (["check", "daily_revenu"], "did you mean 'daily_revenue'", 2),
        (["sample", "daily_revenu"], "did you mean 'daily_revenue'", 2),
        (["backfill", "daily_revenu", "--from", "2026-11-01", "--to", "2026-11-02"], "did you mean 'daily_revenue'", 2),
        (["run", "daily_revenue", "--date", "2026-13-01"], "error[bad-date]", 2),
        (["run", "daily_revenue", "--date", "tomorrow"], "error[bad-date]", 2),
        (["run", "daily_revenue", "--from", "revenu"], "did you mean 'revenue'", 2),
        (["run", "daily_revenue", "--param", "x=1"], "error[unknown-param]", 2),
        (["run", "daily_revenue", "--resume", "zzz"], "error[unknown-run]", 2),
        (["run", "daily_revenue", "--env", "prod"], "error[unknown-environment]", 2),
        (["backfill", "daily_revenue", "--from", "2026-11-02", "--to", "2026-11-01"], "2026-11-01", 2),
        (["run", "daily_revenue", "--date", "1999-01-01"], "error[input-absent]", 1),
        (["plugins", "onelak"], "did you mean 'onelake'", 2),
    ],
)
def test_what_cannot_be_done_says_what_to_type(made: Path, words: list[str], said: str, code: int) -> None:
    result = aiflow(*words, folder=made, code=code)
    assert said in result.stderr
    as_data = aiflow(*words, "--json", folder=made, code=code)
    assert as_data.stderr == ""
    last = json.loads(as_data.stdout.splitlines()[-1])
    assert "error" in last or last["errors"]


def test_a_users_exception_shows_the_users_lines_first(project: Path) -> None:
    (project / "etl_jobs/revenue.py").write_text("def main(orders, minimum_price):\n    return orders['prize'].sum()\n")
    result = aiflow("run", "--date", LAST, folder=project, code=1)
    errors = result.stderr
    assert errors.index("etl_jobs/revenue.py") < errors.index("error[user-code-failed]")
    assert "orders['prize']" in errors
    assert re.search(r"▸ revenue .* failed", result.stdout)
    assert "--resume" in result.stdout.splitlines()[-1]


def test_a_failed_run_goes_on_after_its_code_is_mended(project: Path) -> None:
    code = project / "etl_jobs/revenue.py"
    good = code.read_text()
    code.write_text(good.replace("quantity", "quantiti"))
    failed = aiflow("run", "--date", LAST, folder=project, code=1).stdout
    code.write_text(good)
    resume = failed.split("next: ")[1].split(" · ")[-1].split()[1:]
    assert aiflow(*resume, folder=project).stdout.splitlines()[-1].startswith("done in")


def test_check_shows_every_mistake_at_once_and_runs_nothing(project: Path) -> None:
    (project / "pipelines/wrong.py").write_text(
        "from aiflow_sdk import pipeline, sink, source\n\n\n"
        '@pipeline(id="wrong", schedule="@daily")\n'
        "def wrong(p):\n"
        '    orders = p.read(source.onelake(id="orders", tabel="raw.orders"))\n'
        '    made = orders.transform(id="made", engine="pyton", entrypoint="etl_jobs.revenue:main")\n'
        '    p.write(made, sink.onelake(id="out", table="a.b"))\n'
    )
    result = aiflow("check", folder=project, code=1)
    assert "pipelines/wrong.py:6" in result.stderr
    assert "pipelines/wrong.py:7" in result.stderr
    assert re.search(r"^ 6 \| .*tabel=", result.stderr, re.MULTILINE)
    assert re.search(r"^   \| +\^+ did you mean 'python'\?$", result.stderr, re.MULTILINE)
    assert re.search(r"\d errors in 1 of 2 pipelines; nothing was run", result.stdout)
    assert not (project / ".aiflow/runs").exists()
    data = json.loads(aiflow("check", "--json", folder=project, code=1).stdout)
    assert {"unknown-option", "unknown-engine"} <= {problem["code"] for problem in data["problems"]}
    aiflow("check", "daily_revenue", folder=project)


def test_compile_writes_plans_and_says_what_changed(project: Path) -> None:
    assert "1 plan written" in aiflow("compile", "--out", "plans", folder=project).stdout
    assert "0 plans written" in aiflow("compile", "--out", "plans", folder=project).stdout
    (plan,) = json.loads(aiflow("compile", "--out", "plans", "--json", folder=project).stdout)["pipelines"]
    assert not plan["changed"]
    assert json.loads(Path(plan["path"]).read_text())["pipeline_id"] == "daily_revenue"


def test_a_sample_is_a_tests_input(project: Path) -> None:
    aiflow("sample", "daily_revenue", "--date", LAST, "--rows", 5, "--out", "rows.py", folder=project)
    (project / "test_rows.py").write_text(
        "from aiflow_sdk.testing import run_pipeline\nfrom pipelines.daily_revenue import daily_revenue\n"
        "from rows import INPUTS\n\n\ndef test_it():\n"
        f"    out = run_pipeline(daily_revenue, date='{LAST}', inputs=INPUTS)\n"
        "    assert len(INPUTS['orders']) == 5\n    assert out['revenue_table'].height\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_rows.py"],
        cwd=project, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "is there already" in aiflow("sample", "--out", "rows.py", folder=project, code=2).stderr
    aiflow("sample", "--date", LAST, "--out", "rows.json", folder=project)
    assert json.loads((project / "rows.json").read_text())["date"] == LAST.isoformat()


def test_masked_columns_are_unreadable_and_always_the_same(project: Path) -> None:
    (project / "pipelines/top.py").write_text(
        "from aiflow_sdk import pipeline, sink, source\n\n\n"
        '@pipeline(id="top", schedule="@daily")\n'
        "def top(p):\n"
        '    day = p.read(source.onelake(id="day", table="shop.daily_revenue", partitions={"dt": "{{ ds }}"}))\n'
        '    p.write(day.sql("select * from {day}", id="all"), sink.onelake(id="out", table="shop.top"))\n'
    )
    aiflow("run", "daily_revenue", "--date", LAST, folder=project)
    config = project / "aiflow.toml"
    plain = config.read_text()
    config.write_text(plain + '"shop.daily_revenue" = ["product", "units"]\n')

    def sampled() -> list[dict]:
        text = aiflow("sample", "top", "--date", LAST, "--json", folder=project).stdout
        return json.loads(text)["inputs"]["day"]

    rows = sampled()
    assert rows == sampled()
    assert all(row["product"].startswith("masked-") for row in rows)
    assert len({row["product"] for row in rows}) == len(rows)
    assert {row["dt"] for row in rows} == {LAST.isoformat()}
    assert (project / ".aiflow/mask.key").stat().st_mode & 0o077 == 0
    config.write_text(plain + '"shop.daily_revenue" = ["produkt"]\n')
    refused = aiflow("sample", "top", "--date", LAST, folder=project, code=1)
    assert "did you mean 'product'" in refused.stderr
    assert "tea" not in refused.stdout


def test_plugins_are_listed_with_their_options(made: Path) -> None:
    assert "onelake" in aiflow("plugins", folder=made).stdout
    one = aiflow("plugins", "onelake", folder=made).stdout
    assert "schema.table" in one
    data = json.loads(aiflow("plugins", "--json", folder=made).stdout)
    assert {"source", "sink", "engine", "cluster"} <= {item["type"] for item in data}
    (files,) = [item for item in data if (item["type"], item["kind"]) == ("source", "files")]
    assert [option["name"] for option in files["options"] if option["required"]] == ["path"]


def test_the_doctor_says_what_works(made: Path) -> None:
    findings = json.loads(aiflow("doctor", "--no-spark", "--json", folder=made).stdout)
    assert {finding["what"] for finding in findings} >= {"python", "java", "project", "lake", "pipelines", "stubs"}
    assert not [finding for finding in findings if finding["state"] == "fail"]


def test_the_doctor_finds_what_is_wrong(project: Path) -> None:
    (project / "aiflow.toml").write_text("lok = 1\n")
    result = aiflow("doctor", "--no-spark", folder=project, code=1)
    assert re.search(r"^fail +aiflow.toml", result.stdout, re.MULTILINE)
    assert "did you mean 'lock'" in result.stdout


def on_a_terminal(*words: str, folder: Path, interrupt_at: str | None = None) -> tuple[str, int]:
    """Run ``aiflow`` on a terminal; type Ctrl-C when the text ``interrupt_at`` has appeared."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ["TERM"] = "xterm"
        os.environ.pop("NO_COLOR", None)
        os.execv(sys.executable, [*AIFLOW, *words])
    output = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:  # Linux's way to say that the other side is closed
                break
            if not data:
                break
            output += data
        if interrupt_at and interrupt_at.encode() in output:
            interrupt_at = None
            os.write(terminal, b"\x03")
    else:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return output.decode(), os.waitstatus_to_exitcode(status)


def test_on_a_terminal_the_view_moves_and_the_cursor_comes_back(made: Path) -> None:
    output, code = on_a_terminal("run", "daily_revenue", "--date", str(LAST), folder=made)
    assert code == 0
    assert "\x1b[?25l" in output
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    assert "done in" in output.rsplit("\x1b[?25h", 1)[1]


def test_ctrl_c_ends_a_run_cleanly_and_says_how_to_go_on(project: Path) -> None:
    code = project / "etl_jobs/revenue.py"
    good = code.read_text()
    code.write_text(good.replace("    return (", "    print('asleep')\n    __import__('time').sleep(30)\n    return ("))
    output, exit_code = on_a_terminal("run", "--date", str(LAST), folder=project, interrupt_at="asleep")
    assert exit_code == 130
    assert "cancelled after" in output
    code.write_text(good)
    run_id = output.rsplit("--resume ", 1)[1].split()[0]
    assert "done in" in aiflow("run", "--resume", run_id, folder=project).stdout


def test_a_run_goes_on_when_nobody_reads_its_view(project: Path) -> None:
    command = f"{' '.join(AIFLOW)} run --date {LAST} | head -1"
    result = subprocess.run(["bash", "-c", command], cwd=project, capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    (run,) = json.loads(aiflow("runs", "--json", folder=project).stdout)
    assert run["state"] == "succeeded"


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_backfill_ends_as_by_ctrl_c_when_nobody_reads_on(project: Path, more: list[str]) -> None:
    first = LAST - datetime.timedelta(days=39)
    backfill = f"{' '.join(AIFLOW)} backfill daily_revenue --from {first} --to {LAST}"
    command = f"{' '.join([backfill, *more])} | head -2; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], cwd=project, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (130, "")
    assert len(result.stdout.splitlines()) == 2
    runs = json.loads(aiflow("runs", "--limit", 40, "--json", folder=project).stdout)
    assert 0 < len(runs) < 20
    assert {run["state"] for run in runs} <= {"succeeded", "cancelled"}


def test_a_backfill_of_which_nothing_runs_may_be_read_in_part(made: Path) -> None:
    backfill = f"{' '.join(AIFLOW)} backfill daily_revenue --from {BEFORE} --to {LAST} --dry-run"
    command = f"{backfill} | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], cwd=made, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_run_imports_nothing_heavy_beside_its_child(made: Path) -> None:
    program = (
        "import sys\nfrom aiflow_sdk.cli import main\n"
        f"main(['run', 'daily_revenue', '--date', '{LAST}'])\n"
        "print({'pydantic', 'polars', 'pyarrow', 'rich'} & set(sys.modules), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=made, capture_output=True, text=True, timeout=60)
    assert result.stderr.strip() == "set()"
