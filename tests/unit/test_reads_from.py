"""``reads_from``: tables that are absent here are read in another environment, pinned, and no byte is copied."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aiflow_sdk.compiler import compile_pipeline
from aiflow_sdk.config import Environment, Project, ReadThrough, load_project
from aiflow_sdk.errors import AiflowError, DataNotReadyError, ProblemsError, Where
from aiflow_sdk.ir import NodeIR, PipelineIR
from aiflow_sdk.plan import Plan, Run, make_run
from aiflow_sdk.plugins import Scan, installed_registry
from aiflow_sdk.runtime import Data, claim_generation, execute_task
from aiflow_sdk.runtime.readiness import await_partitions
from aiflow_sdk.runtime.rendering import WantedPartitions

SETTINGS = """
[environments.prod]
lake = "production"
[environments.stage]
lake = "stage"
reads_from = "prod"
[environments.dev]
reads_from = "stage"
"""
SOURCE = installed_registry().sources.get("onelake")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "aiflow.toml").write_text(SETTINGS)
    (tmp_path / "jobs.py").write_text(
        "import polars as pl\n"
        "def double(numbers: pl.DataFrame) -> pl.DataFrame:\n    return numbers.with_columns(pl.col('n') * 2)\n"
        "def join(numbers: pl.DataFrame, doubled: pl.DataFrame) -> pl.DataFrame:\n"
        "    return pl.DataFrame({'numbers': [numbers['n'].sum()], 'doubled': [doubled['n'].sum()]})\n"
    )
    write(tmp_path / "production/raw/numbers", 1, 2, 3)
    return load_project(tmp_path)


def write(table: Path, *numbers: int, mode: Any = "overwrite") -> None:
    pl.DataFrame({"n": numbers}).write_delta(str(table), mode=mode)


def plan_of(project: Project, environment: str = "dev", sql: str | None = None) -> Plan:
    """A source that two tasks read, and the sink of what they make of it."""
    nodes = [
        NodeIR.make(id="numbers", type="source", params={"kind": "onelake", "table": "raw.numbers"}),
        NodeIR.make(id="doubled", type="transform", engine="python", entrypoint="jobs:double", input_ids=("numbers",)),
        NodeIR.make(
            id="joined",
            type="transform",
            engine="python",
            **({"sql": sql} if sql else {"entrypoint": "jobs:join"}),  # type: ignore[arg-type]  # one of two options
            input_ids=("numbers",) if sql else ("numbers", "doubled"),
            fuse=False,
        ),
        NodeIR.make(id="out", type="sink", params={"kind": "onelake", "table": "mart.out"}, input_ids=("joined",)),
    ]
    ir = PipelineIR(id="p", node_list=tuple(node for node in nodes if not (sql and node.id == "doubled")))
    target = project.environment(environment)
    return compile_pipeline(ir, project=project, environment=target, registry=installed_registry())


def begin(project: Project, plan: Plan) -> Run:
    """A run as the local runner begins it: with its generation, and pinned."""
    data = Data(plan, project.root)
    run = make_run(plan)
    return Run.model_validate(
        {**dict(run), "generation": claim_generation(data.environment, run), "pins": data.pins(run)}
    )


def do(project: Project, plan: Plan, run: Run) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for task in plan.tasks:
        facts |= {node.node_id: node for node in execute_task(plan, task.id, run, root=project.root).nodes}
    return facts


def source_in(project: Project, environment: str = "dev", **options: Any) -> Any:
    return SOURCE.load({"table": "raw.numbers", **options}, project.environment(environment))


def numbers(source: Any) -> list[int]:
    return sorted(row for batch in source.scan(Scan()) for row in batch["n"].to_pylist())


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_byte_is_copied_and_the_facts_name_environment_and_version(project: Project) -> None:
    before = content(project.root / "production")
    plan = plan_of(project)
    facts = do(project, plan, begin(project, plan))
    assert (facts["numbers"].environment, facts["numbers"].table_version) == ("prod", 0)
    assert facts["numbers"].address == str(project.root / "production/raw/numbers")
    here = project.root / ".aiflow/lake"
    assert [one.parent.name for one in here.glob("*/*/_delta_log")] == ["out"]
    assert not (here / "raw").exists()
    originals = set(before.values())
    assert not originals & set(content(here).values())
    assert content(project.root / "production") == before


def test_all_tasks_and_attempts_of_a_run_read_the_version_that_it_began_with(project: Project) -> None:
    plan = plan_of(project)
    run = begin(project, plan)
    assert json.loads(json.dumps(run.to_dict()))["pins"] == {"numbers": {"environment": "prod", "version": 0}}
    write(project.root / "production/raw/numbers", 100)
    facts: dict[str, Any] = {}
    for task in plan.tasks:
        facts |= {node.node_id: node for node in execute_task(plan, task.id, run, root=project.root).nodes}
        write(project.root / "production/raw/numbers", 1000, 2000)
        again = Run.model_validate({**dict(run), "attempt": 2})
        execute_task(plan, task.id, again, root=project.root)
    assert facts["numbers"].table_version == 0
    (row,) = pl.read_delta(str(project.root / ".aiflow/lake/mart/out")).to_dicts()
    assert row == {"numbers": 6, "doubled": 12}
    assert begin(project, plan).pins["numbers"]["version"] == 3


def test_a_pinned_version_that_is_gone_is_a_clear_error(project: Project) -> None:
    plan = plan_of(project)
    run = begin(project, plan)
    shutil.rmtree(project.root / "production/raw/numbers")
    with pytest.raises(AiflowError) as caught:
        do(project, plan, run)
    assert caught.value.code == "unknown-table"
    write(project.root / "production/raw/numbers", 4)
    (file,) = (project.root / "production/raw/numbers").glob("*.parquet")
    run = begin(project, plan)
    write(project.root / "production/raw/numbers", 5)
    file.unlink()  # a vacuum that keeps nothing
    with pytest.raises(AiflowError) as caught:
        do(project, plan, run)
    assert caught.value.code == "pinned-version-gone"
    assert "version 0 of 'raw.numbers' in 'prod'" in caught.value.message


def test_the_nearest_environment_that_has_the_table_is_read_and_shadows_the_others(project: Project) -> None:
    assert numbers(source_in(project)) == [1, 2, 3]
    write(project.root / "stage/raw/numbers", 4)
    assert numbers(source_in(project)) == [4]
    assert source_in(project).reading().environment == "stage"
    write(project.root / ".aiflow/lake/raw/numbers", 5)
    assert numbers(source_in(project)) == [5]
    assert source_in(project).reading().environment == "dev"
    assert numbers(source_in(project, "stage")) == [4]
    assert numbers(source_in(project, "prod")) == [1, 2, 3]
    assert numbers(source_in(project, "dev-ana")) == [4]


def test_a_day_that_only_the_shadowed_table_has_is_said_to_be_there(project: Project) -> None:
    def lay(lake: str, *days: str) -> None:
        frame = pl.DataFrame({"n": [1] * len(days), "dt": days})
        frame.write_delta(str(project.root / lake / "raw/days"), delta_write_options={"partition_by": ["dt"]})

    def missing(*keys: str) -> AiflowError:
        source = source_in(project, table="raw.days")
        with pytest.raises(DataNotReadyError) as caught:
            await_partitions(source, [WantedPartitions("dt", keys, len(keys))], "UTC", Where())
        return caught.value

    lay("production", "2026-11-20", "2026-11-21")
    assert "prod" not in missing("2026-11-22").message
    lay(".aiflow/lake", "2026-11-20")
    error = missing("2026-11-21")
    assert "A run in 'dev' has written this table" in error.message
    assert "'prod' has it" in error.message
    assert "make them in 'dev' too, or remove 'raw.days' from its lake" in (error.hint or "")
    assert "'prod' has 1 of them" in missing("2026-11-20", "2026-11-21", "2026-11-22").message
    assert "prod" not in missing("2026-11-22").message
    shutil.rmtree(project.root / ".aiflow/lake/raw/days")
    await_partitions(source_in(project, table="raw.days"), [WantedPartitions("dt", ("2026-11-21",), 1)], "UTC", Where())


def test_a_run_that_has_begun_is_not_turned_to_a_table_that_is_made_here_meanwhile(project: Project) -> None:
    plan = plan_of(project)
    run = begin(project, plan)
    write(project.root / ".aiflow/lake/raw/numbers", 9)
    facts = do(project, plan, run)
    assert facts["numbers"].environment == "prod"


def test_an_unknown_table_is_looked_for_in_all_lakes(project: Project) -> None:
    write(project.root / ".aiflow/lake/raw/number", 1)
    with pytest.raises(AiflowError) as caught:
        source_in(project, table="raw.numberz").arrow_schema()
    assert caught.value.hint is not None
    assert "raw.number" in caught.value.hint
    looked = "\n".join(caught.value.notes)
    for lake in (".aiflow/lake", "stage", "production"):
        assert str(project.root / lake / "raw/numberz") in looked


def test_sql_is_checked_against_columns_that_lie_in_another_environment(project: Project) -> None:
    plan_of(project, sql="select n from {numbers}")
    with pytest.raises((ProblemsError, AiflowError)) as caught:
        plan_of(project, sql="select nn from {numbers}")
    assert "nn" in str(caught.value)


def test_secrets_of_the_other_store_are_those_of_the_running_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aiflow.toml").write_text(
        '[environments.prod]\nlake = "s3://company"\n'
        '[environments.prod.storage]\nregion = "eu"\nsecret_access_key = "secret://writer"\n'
        '[environments.dev]\nreads_from = "prod"\nsecrets = { provider = "env", prefix = "DEV_" }\n'
        '[environments.dev.reads_storage]\nregion = "eu"\nsecret_access_key = "secret://reader"\n'
    )
    monkeypatch.setenv("DEV_READER", "reads only")
    environment = load_project(tmp_path).environment("dev")
    assert environment.reads == (
        ReadThrough("prod", "s3://company", {"region": "eu", "secret_access_key": "secret://reader"}),
    )
    from aiflow_sdk.connectors.onelake.location import read_places

    _, there = read_places(environment, "raw.numbers", None)
    assert there.options["aws_secret_access_key"] == "reads only"
    assert isinstance(environment, Environment)
