"""``run_pipeline``: rows in, rows out, with the real engines and nothing else."""

import datetime
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from aiflow_sdk import pipeline, sink, source, window
from aiflow_sdk.errors import AiflowError, DataError, ProblemsError, UnknownNameError, UserCodeError
from aiflow_sdk.testing import run_pipeline

DATE = "2026-11-20"
ROWS = [{"user_id": 1, "amount": 2.5}, {"user_id": 2, "amount": 1.0}, {"user_id": 1, "amount": 4.0}]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project's folder that holds nothing."""
    (tmp_path / "aiflow.toml").write_text("")
    return tmp_path


def per_user(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.group_by("user_id").agg(pl.col("amount").sum()).sort("user_id")


def features(function=per_user, *, engine="python", partition_by=("dt",), **options):
    @pipeline(id="features", schedule="@daily", params={"factor": 2})
    def definition(p):
        orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": p.vars["run_date"]}))
        made = orders.transform(id="per_user", engine=engine, fn=function, **options)
        p.write(made, sink.onelake(id="table", table="feature.users", partition_by=list(partition_by)))

    return definition


def test_rows_go_in_and_rows_come_out(root: Path) -> None:
    out = run_pipeline(features(), date=DATE, inputs={"orders": ROWS}, root=root)
    assert out["table"].to_dicts() == [
        {"user_id": 1, "amount": 6.5, "dt": DATE},
        {"user_id": 2, "amount": 1.0, "dt": DATE},
    ]


def test_nothing_is_written(root: Path) -> None:
    run_pipeline(features(), date=DATE, inputs={"orders": ROWS}, root=root)
    assert [path.name for path in root.iterdir()] == ["aiflow.toml"]


def test_the_second_test_of_a_process_takes_no_time(root: Path) -> None:
    run_pipeline(features(), date=DATE, inputs={"orders": ROWS}, root=root)
    began = time.perf_counter()
    run_pipeline(features(), date=DATE, inputs={"orders": ROWS}, root=root)
    assert time.perf_counter() - began < 10


def test_importing_it_costs_nothing() -> None:
    program = "import sys, aiflow_sdk.testing; print(sorted({'polars', 'pydantic', 'pytest'} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        tuple(ROWS),
        {"user_id": [1, 2, 1], "amount": [2.5, 1.0, 4.0]},
        pl.DataFrame(ROWS),
        pl.LazyFrame(ROWS),
        pa.Table.from_pylist(ROWS),
    ],
    ids=["rows", "tuple", "columns", "polars", "lazy", "arrow"],
)
def test_any_frame_is_an_input(root: Path, rows) -> None:
    out = run_pipeline(features(), date=DATE, inputs={"orders": rows}, root=root)
    assert out["table"]["amount"].to_list() == [6.5, 1.0]


def test_the_partition_column_that_the_source_fixes_need_not_be_repeated(root: Path) -> None:
    def columns(orders: pl.DataFrame) -> pl.DataFrame:
        return orders.select("dt", "amount")

    out = run_pipeline(features(columns), date=DATE, inputs={"orders": ROWS}, root=root)
    assert out["table"]["dt"].unique().to_list() == [DATE]


def test_a_partition_column_that_is_given_stays(root: Path) -> None:
    def as_it_is(orders: pl.DataFrame) -> pl.DataFrame:
        return orders

    rows = [{"user_id": 1, "dt": datetime.date(2026, 11, 20)}]
    out = run_pipeline(features(as_it_is), date=DATE, inputs={"orders": rows}, root=root)
    assert out["table"].to_dicts() == rows


def test_rows_outside_the_partition_are_an_error_as_in_a_real_run(root: Path) -> None:
    def other_day(orders: pl.DataFrame) -> pl.DataFrame:
        return orders.with_columns(dt=pl.lit("2026-11-19"))

    with pytest.raises(DataError, match="2026-11-19") as caught:
        run_pipeline(features(other_day), date=DATE, inputs={"orders": ROWS}, root=root)
    assert caught.value.code == "rows-outside-partition"


def test_a_partition_column_that_nobody_fills_is_an_error_as_in_a_real_run(root: Path) -> None:
    with pytest.raises(DataError, match="country") as caught:
        run_pipeline(features(partition_by=["dt", "country"]), date=DATE, inputs={"orders": ROWS}, root=root)
    assert caught.value.code == "missing-partition-column"


def test_no_rows_are_rows_with_columns(root: Path) -> None:
    out = run_pipeline(features(), date=DATE, inputs={"orders": {"user_id": [], "amount": []}}, root=root)
    assert out["table"].height == 0
    assert out["table"].columns == ["user_id", "amount", "dt"]


def test_params_stand_for_the_defaults(root: Path) -> None:
    def scaled(orders: pl.DataFrame, factor: str) -> pl.DataFrame:
        return orders.with_columns(pl.col("amount") * int(factor))

    definition = features(scaled, factor="{{ params.factor }}")
    assert run_pipeline(definition, DATE, {"orders": ROWS}, root=root)["table"]["amount"].sum() == 15.0
    out = run_pipeline(definition, DATE, {"orders": ROWS}, params={"factor": 10}, root=root)
    assert out["table"]["amount"].sum() == 75.0


def test_an_unknown_input_is_told_with_the_nearest(root: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'orders'"):
        run_pipeline(features(), date=DATE, inputs={"order": ROWS}, root=root)


def test_a_source_without_rows_is_named(root: Path) -> None:
    with pytest.raises(DataError, match="'orders'") as caught:
        run_pipeline(features(), date=DATE, inputs={}, root=root)
    assert caught.value.code == "missing-test-input"


@pytest.mark.parametrize("rows", [5, "text", [1, 2], [{"a": 1}, 2], object()])
def test_what_is_no_rows_is_refused(root: Path, rows) -> None:
    with pytest.raises(DataError) as caught:
        run_pipeline(features(), date=DATE, inputs={"orders": rows}, root=root)
    assert caught.value.code == "bad-test-input"


def test_a_functions_exception_is_the_cause(root: Path) -> None:
    def broken(orders: pl.DataFrame) -> pl.DataFrame:
        raise KeyError("no such user")

    with pytest.raises(UserCodeError) as caught:
        run_pipeline(features(broken), date=DATE, inputs={"orders": ROWS}, root=root)
    assert isinstance(caught.value.__cause__, KeyError)


def test_what_the_compiler_finds_is_raised(root: Path) -> None:
    with pytest.raises(AiflowError, match="pyhton"):
        run_pipeline(features(engine="pyhton"), date=DATE, inputs={"orders": ROWS}, root=root)


def test_several_problems_are_raised_together(root: Path) -> None:
    @pipeline(id="wrong", schedule="@daily")
    def wrong(p):
        orders = p.read(source.onelake(id="orders", table="raw.orders", partition={"dt": "{{ ds }}"}))  # type: ignore[call-arg]  # a mistake on purpose
        p.write(orders.transform(id="t", engine="pyhton", fn=per_user), sink.onelake(id="table", table="a.b"))

    with pytest.raises(ProblemsError) as caught:
        run_pipeline(wrong, date=DATE, inputs={"orders": ROWS}, root=root)
    assert {problem.code for problem in caught.value.problems} == {"unknown-option", "unknown-engine"}


def test_what_is_no_pipeline_is_refused(root: Path) -> None:
    with pytest.raises(TypeError, match="@pipeline"):
        run_pipeline(per_user, date=DATE, inputs={}, root=root)


def test_an_ir_is_as_good_as_its_function(root: Path) -> None:
    (root / "etl.py").write_text("import polars as pl\ndef main(orders: pl.DataFrame):\n    return orders.head(1)\n")

    @pipeline(id="by_name", schedule="@daily")
    def by_name(p):
        orders = p.read(source.onelake(id="orders", table="raw.orders"))
        p.write(
            orders.transform(id="first", engine="python", entrypoint="etl:main"), sink.onelake(id="table", table="a.b")
        )

    out = run_pipeline(by_name(), date=DATE, inputs={"orders": ROWS}, root=root)
    assert out["table"].to_dicts() == ROWS[:1]


def test_frames_between_tasks_pass_in_memory(root: Path) -> None:
    def doubled(orders: pl.DataFrame) -> pl.DataFrame:
        return orders.with_columns(pl.col("amount") * 2)

    def summed(doubled: pl.DataFrame) -> pl.DataFrame:
        return doubled.select(pl.col("amount").sum())

    @pipeline(id="two_tasks")
    def two_tasks(p):
        made = p.read(source.onelake(id="orders", table="raw.orders")).transform(
            id="doubled", engine="python", fn=doubled, fuse=False
        )
        p.write(made, sink.onelake(id="all", table="a.all"))
        p.write(
            made.transform(id="summed", engine="python", fn=summed, fuse=False), sink.onelake(id="sum", table="a.sum")
        )

    out = run_pipeline(two_tasks, inputs={"orders": ROWS}, root=root)
    assert out["sum"].to_dicts() == [{"amount": 15.0}]
    assert out["all"].height == 3
    assert not (root / ".aiflow").exists()


def test_a_branch_has_inputs_of_its_own(root: Path) -> None:
    @pipeline(id="regions", schedule="@daily")
    def regions(p):
        for region in ["us", "eu"]:
            b = p.branch_for_region(region)
            orders = b.read(source.onelake(id="orders", table=f"raw.orders_{region}"))
            b.write(
                orders.transform(id="users", engine="python", fn=per_user),
                sink.onelake(id="table", table=f"f.{region}"),
            )

    out = run_pipeline(regions, date=DATE, inputs={"orders.us": ROWS, "orders.eu": ROWS[:1]}, root=root)
    assert {sink_id: frame.height for sink_id, frame in out.items()} == {"table.us": 2, "table.eu": 1}


def test_a_window_of_days_is_given_whole(root: Path) -> None:
    @pipeline(id="week", schedule="@daily")
    def week(p):
        orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": window.last(7)}))
        p.write(orders.transform(id="users", engine="python", fn=per_user), sink.onelake(id="table", table="f.week"))

    rows = [{**row, "dt": f"2026-11-{14 + day}"} for day in range(7) for row in ROWS]
    out = run_pipeline(week, date=DATE, inputs={"orders": rows}, root=root)
    assert out["table"]["amount"].to_list() == [45.5, 7.0]


def test_secrets_and_clusters_come_from_the_projects_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_SECRET_TOKEN", "s3cret")

    def tell(orders: pl.DataFrame, token: str) -> pl.DataFrame:
        return orders.select(length=pl.lit(len(token)))

    out = run_pipeline(features(tell, token="secret://token"), date=DATE, inputs={"orders": ROWS}, root=root)
    assert out["table"]["length"].to_list()[0] == len("s3cret")


def test_the_projects_folder_is_found_from_the_pipelines_file(tmp_path: Path) -> None:
    for name, text in {
        "pipelines/__init__.py": "",
        "pipelines/daily.py": "from aiflow_sdk import pipeline, sink, source\n"
        "@pipeline(id='daily', schedule='@daily')\n"
        "def daily(p):\n"
        "    rows = p.read(source.onelake(id='rows', table='raw.rows'))\n"
        "    made = rows.transform(id='t', engine='python', entrypoint='jobs.t:main')\n"
        "    p.write(made, sink.onelake(id='out', table='a.b'))\n",
        "jobs/t.py": "def main(rows):\n    return rows.head(1)\n",
        "try.py": "from pipelines.daily import daily\nfrom aiflow_sdk.testing import run_pipeline\n"
        "print(run_pipeline(daily, '2026-11-20', {'rows': [{'a': 1}, {'a': 2}]})['out'].to_dicts())\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    result = subprocess.run(
        [sys.executable, str(tmp_path / "try.py")], capture_output=True, text=True, cwd=tmp_path.parent, timeout=60
    )
    assert result.stdout.strip() == "[{'a': 1}]", result.stderr


def test_a_projects_own_source_needs_no_more_than_its_rows(root: Path) -> None:
    (root / "own_plugins.py").write_text(
        "from aiflow_sdk import register_source\n"
        "from aiflow_sdk.ir import DatasetName\n"
        "from aiflow_sdk.plugins import Source\n"
        "@register_source('feed')\n"
        "class Feed(Source):\n"
        "    url: str\n"
        "    def dataset(self): return DatasetName('feed', self.url)\n"
        "    def scan(self, request): raise AssertionError('a test reads nothing')\n"
    )

    def first(news: pl.DataFrame) -> pl.DataFrame:
        return news.head(1)

    @pipeline(id="reader")
    def reader(p):
        news = p.read(source.feed(id="news", url="somewhere"))  # type: ignore[attr-defined]  # known at run time
        p.write(news.transform(id="first", engine="python", fn=first), sink.onelake(id="table", table="a.b"))

    out = run_pipeline(reader, inputs={"news": [{"title": "a"}, {"title": "b"}]}, root=root)
    assert out["table"].to_dicts() == [{"title": "a"}]


@pytest.mark.timeout(120)
def test_spark_runs_on_the_same_rows(root: Path) -> None:
    pytest.importorskip("pysail")

    def counted(orders):
        return orders.groupBy("user_id").count()

    out = run_pipeline(features(counted, engine="spark"), date=DATE, inputs={"orders": ROWS}, root=root)
    assert out["table"].sort("user_id").to_dicts() == [
        {"user_id": 1, "count": 2, "dt": DATE},
        {"user_id": 2, "count": 1, "dt": DATE},
    ]
