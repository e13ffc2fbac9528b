"""``aiflow eject`` as a person types it: where the file goes, what is warned of, what is refused."""

import ast
import json
import shutil
from pathlib import Path

import pytest

from projects import aiflow

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def flights(tmp_path: Path) -> Path:
    root = tmp_path / "flights"
    shutil.copytree(EXAMPLES / "flights", root, ignore=shutil.ignore_patterns(".aiflow", "__pycache__"))
    return root


def write(root: Path, body: str, **modules: str) -> Path:
    """Make a project of one pipeline, ``it``, whose statements are given."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    whole = f'@pipeline(id="it", schedule="@daily")\ndef it(p):\n{lines}\n'
    head = "from aiflow_sdk import pipeline, sink, source, window\n\n\n"
    for path, text in {
        "pipelines/__init__.py": "",
        "pipelines/it.py": body if "@pipeline" in body else head + whole,
        **{f"{name}.py": text for name, text in modules.items()},
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")
    return root


READ = 'rows = p.read(source.onelake(id="rows", table="raw.rows", partitions={"dt": "{{ ds }}"}))\n'
WRITE = 'p.write(made, sink.onelake(id="out", table="out.made", partition_by=["dt"]))\n'
MADE = 'made = rows.transform(id="made", engine="python", fn="jobs:made")\n'


def test_the_only_pipeline_is_printed_and_nothing_else(flights):
    result = aiflow(flights, "eject")
    ast.parse(result.out)
    assert "with DAG(" in result.out
    assert result.err == ""


def test_a_file_is_written_and_not_replaced_unless_forced(flights):
    assert "wrote dags/flights_dag.py" in aiflow(flights, "eject", "flights_daily", "-o", "dags/flights_dag.py").out
    file = flights / "dags" / "flights_dag.py"
    assert 'PROJECT = Path(__file__).parent / ".."' in file.read_text()
    file.write_text("mine")
    told = aiflow(flights, "eject", "flights_daily", "--output", "dags/flights_dag.py", code=2).err
    assert "is there already; add --force" in told
    assert file.read_text() == "mine"
    aiflow(flights, "eject", "flights_daily", "--output", "dags/flights_dag.py", "--force")
    assert "with DAG(" in file.read_text()


def test_a_file_of_another_kind_is_used_wrongly(flights):
    assert "is no .py" in aiflow(flights, "eject", "-o", "flights.yaml", code=2).err


def test_a_folder_that_nobody_may_write_to_is_told(flights):
    (flights / "dags").write_text("a file")
    assert "store-not-writable" in aiflow(flights, "eject", "-o", "dags/flights_dag.py", code=1).err


def test_an_unknown_pipeline_is_told_with_the_nearest(flights):
    told = aiflow(flights, "eject", "flights_dayly", code=2).err
    assert "unknown-pipeline" in told
    assert "did you mean 'flights_daily'" in told


def test_an_unknown_environment_is_told(flights):
    assert "unknown-environment" in aiflow(flights, "eject", "--env", "prd", code=2).err


def test_a_broken_project_is_told_with_its_place(tmp_path):
    root = write(tmp_path, READ + MADE + WRITE)
    told = aiflow(root, "eject", code=1).err
    assert "pipelines/it.py" in told
    (root / "pipelines" / "it.py").write_text("def it(:\n")
    result = aiflow(root, "eject", "it", code=None)
    assert result.code in (1, 2)
    assert "pipelines/it.py" in result.err


def test_what_is_a_plugins_is_refused_all_at_once(tmp_path):
    body = (
        'rows = p.read(source.rss(id="rows", url="https://example.org/feed"))\n'
        'more = p.read(source.rss(id="more", url="https://example.org/feed"))\n'
        'p.write(rows, sink.onelake(id="out", table="out.made"))\n'
        'p.write(more, sink.onelake(id="out2", table="out.more"))\n'
    )
    told = aiflow(write(tmp_path, body), "eject", "it", code=1).err
    assert told.count("error[cannot-eject]") == 2
    assert "the source 'rss' of 'rows' is a plugin (aiflow_example_plugin)" in told
    assert "pipelines/it.py:6" in told


@pytest.mark.parametrize(
    "jobs",
    [
        "import functools\n\n\ndef made_by(rows, n):\n    return rows\n\n\nmade = functools.partial(made_by, n=1)\n",
        "def other(f):\n    return f\n\n\n@other\ndef made(rows):\n    return rows\n",
    ],
)
def test_a_function_whose_arguments_the_text_does_not_tell_is_refused(tmp_path, jobs):
    told = aiflow(write(tmp_path, READ + MADE + WRITE, jobs=jobs), "eject", code=1).err
    assert "cannot-eject" in told
    assert "the arguments of 'jobs:made' are not told" in told


def test_params_that_the_dag_needs_itself_are_refused(tmp_path):
    body = f"""
from aiflow_sdk import pipeline, sink, source


@pipeline(id="it", schedule="@daily", params={{"partition": 1}})
def it(p):
    {READ}
    p.write(rows, sink.onelake(id="out", table="out.made", partition_by=["dt"]))
"""
    assert "cannot-eject" in aiflow(write(tmp_path, body), "eject", code=1).err


def test_warnings_go_beside_the_code_and_stand_in_it(tmp_path):
    jobs = "from aiflow_sdk import transform\n\n\n@transform\ndef made(rows):\n    return rows\n"
    body = f"""
from aiflow_sdk import pipeline, sink, source


@pipeline(id="it", schedule="0 3 * * 1-5", notify=["https://example.org/hook"])
def it(p):
    {READ}
    {MADE}
    p.write(made, sink.onelake(id="out", table="out.made", mode="upsert", keys=["id"]))
"""
    result = aiflow(write(tmp_path, body, jobs=jobs), "eject")
    told = [line for line in result.err.splitlines() if line.startswith("warning: ")]
    assert [line.split()[1] for line in told] == ["jobs.py:", "schedule:", "notify:", "out:"]
    assert "jobs.py: aiflow_sdk is imported there" in result.err
    assert "4 things differ" in result.err
    text = " ".join(result.out.replace("#", " ").split())
    for line in told:
        assert line.removeprefix("warning: ") in text


def test_data_instead_of_words(flights):
    (facts,) = aiflow(flights, "--json", "eject", "flights_daily").records
    assert facts["pipeline"] == "flights_daily"
    assert facts["warnings"] == []
    assert "with DAG(" in facts["text"]
    (facts,) = aiflow(flights, "--json", "eject", "-o", "dag.py").records
    assert facts == {"pipeline": "flights_daily", "warnings": [], "file": "dag.py"}
    (facts,) = aiflow(flights, "--json", "eject", "flight", code=2).records
    assert facts["error"]["code"] == "unknown-pipeline"


@pytest.mark.parametrize("value", ['""', "None", '[""]'])
def test_an_empty_partition_is_the_one_without_a_value(tmp_path, value):
    read = READ.replace('}}"}', f'}}}}", "kind": {value}}}')
    text = aiflow(write(tmp_path, read + WRITE.replace("made,", "rows,")), "eject").out
    assert 'pl.col("kind").is_null()' in text
    assert 'partitions(table, "kind"' not in text


def test_null_among_other_partitions_is_refused_however_it_is_written(tmp_path):
    read = READ.replace('}}"}', '}}", "kind": ["a", ""]}')
    told = aiflow(write(tmp_path, read + WRITE.replace("made,", "rows,")), "eject", code=1).err
    assert "'rows' asks for null among other values of 'kind'" in told


def test_a_type_that_is_none_is_refused_and_never_written_as_code(tmp_path):
    read = 'rows = p.read(source.files(id="rows", path="a.csv", types={"n": "decimal(1), print(1"}))\n'
    (tmp_path / "a.csv").write_text("n\n1\n")
    told = aiflow(
        write(tmp_path, read + 'p.write(rows, sink.onelake(id="out", table="out.made"))\n'), "eject", code=1
    ).err
    assert "decimal(1), print(1" in told


def test_a_module_may_be_called_as_anything_in_the_file_is(tmp_path):
    body = READ + 'made = rows.sql("select * from {rows}", id="picked")\n'
    jobs = "def made(rows):\n    return rows\n"
    for number, name in enumerate(("query", "params.day", "pl")):
        before = ("picked", "made0", "made1")[number]
        body += f'made = made.transform(id="made{number}", engine="python", fn="{name}:made", a="{{{{ ds }}}}")\n'
        (path := tmp_path / f"{name.replace('.', '/')}.py").parent.mkdir(exist_ok=True)
        path.write_text(jobs.replace("rows", f"{before}, a"))
    text = aiflow(write(tmp_path, body + WRITE), "eject").out
    assert "        import params.day as params_day_module\n        import pl as pl_module\n" in text
    assert "query_module.made(picked=picked" in text
    assert "= query(sql, rows=rows)" in text


def test_a_query_and_a_text_may_hold_any_character(tmp_path):
    body = (
        READ
        + 'made = p.sql("select \'a\\0b\\1c\' as x, {{ ds }} as dt from {rows}", rows, id="made")\n'
        + 'made = made.transform(id="more", engine="python", fn="jobs:more", a="x\\0{{ ds }}\\0y")\n'
    )
    text = aiflow(write(tmp_path, body + WRITE, jobs="def more(made, a):\n    return made\n"), "eject").out
    ast.parse(text)
    assert r"'a\x00b\x01c'" in text
    assert r'f"x\x00{day}\x00y"' in text


@pytest.mark.parametrize("schedule", ["@hourly", "@daily"])
def test_hours_of_a_zone_whose_clocks_change_by_half_an_hour_are_refused(tmp_path, schedule):
    read = READ.replace('"{{ ds }}"', 'window.covering(grain="hour")').replace("dt", "at")
    body = f"""
from aiflow_sdk import pipeline, sink, source, window


@pipeline(id="it", schedule="{schedule}", timezone="Australia/Lord_Howe")
def it(p):
    {read}
    p.write(rows, sink.files(id="out", path="out/{{{{ run_id }}}}.parquet"))
"""
    told = aiflow(write(tmp_path, body), "eject", code=1).err
    assert "cannot-eject" in told
    assert "the clocks of Australia/Lord_Howe change by other than whole hours" in told
    aiflow(write(tmp_path, body.replace("Lord_Howe", "Sydney")), "eject")


def test_a_node_may_be_called_as_anything_in_the_file_is(tmp_path):
    body = (
        'table = p.read(source.onelake(id="table", table="raw.rows", partitions={"dt": "{{ ds }}"}))\n'
        'day = table.transform(id="day", engine="python", fn="jobs:day")\n'
        'pl = day.transform(id="pl", engine="python", fn="jobs:pl", fuse=False)\n'
        'p.write(pl, sink.onelake(id="LAKE", table="out.made", partition_by=["dt"]))\n'
    )
    jobs = "def day(table):\n    return table\n\n\ndef pl(day):\n    return day\n"
    text = aiflow(write(tmp_path, body, jobs=jobs), "eject").out
    assert "jobs.day(table=table_frame.collect())" in text
    assert "jobs.pl(day=day_frame.collect())" in text
    assert json.dumps("out/made") in text
