"""The first request's example pipeline, in all four forms, from a user's project to the rows in the lake.

Orders are those of TPC-H; the functions are as the request describes them.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from aiflow_sdk.discovery import discover_pipelines
from projects import aiflow

SEED = Path(__file__).parents[1] / "golden" / "seed"
FORMS = sorted(path.stem for path in SEED.glob("*.txt"))
IMPORTS = "from aiflow_sdk.dsl import pipeline, source, sink, resources\n"
DAY = "1995-03-15"

ENRICH = """
from typing import Dict
from pyspark.sql import SparkSession, DataFrame
from pyspark.sql import functions as F


def main(
    spark: SparkSession,
    inputs: Dict[str, DataFrame],
    params: Dict,
) -> DataFrame:
    orders_df = inputs["orders_onelake"]

    result_df = (
        orders_df
        .groupBy("user_id")
        .agg(
            F.count("*").alias("order_cnt_30d"),
            F.sum("amount").alias("order_amt_30d"),
        )
    )
    return result_df
"""

FEATURES = """
def main(inputs, params):
    return inputs["enrich_orders"].sort("user_id")
"""


@pytest.fixture(scope="session")
def orders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tpch")
    tool = Path(sys.executable).parent / "tpchgen-cli"
    subprocess.run(
        [tool, "parquet", "--scale-factor", "0.01", "--tables", "orders", "--output-dir", folder],
        check=True,
        capture_output=True,
    )
    return pl.read_parquet(folder / "orders.parquet").select(
        pl.col("o_custkey").alias("user_id"),
        pl.col("o_totalprice").cast(pl.Float64).alias("amount"),
        pl.col("o_orderdate").cast(pl.String).alias("dt"),
    )


@pytest.fixture
def user_repo(tmp_path, orders):
    root = tmp_path / "user_repo"
    for folder in ("pipelines", "etl_jobs"):
        (root / folder).mkdir(parents=True)
        (root / folder / "__init__.py").write_text("")
    (root / "etl_jobs" / "enrich_orders.py").write_text(ENRICH)
    (root / "etl_jobs" / "build_user_features.py").write_text(FEATURES)
    (root / "etl_jobs" / "build_user_features_local.py").write_text(FEATURES)
    lake = root / ".aiflow" / "lake" / "raw" / "sales_orders"
    lake.parent.mkdir(parents=True)
    around = orders.filter(pl.col("dt").is_between(pl.lit("1995-03-10"), pl.lit("1995-03-20")))
    around.write_delta(str(lake), delta_write_options={"partition_by": ["dt"]})
    return root


def lay(user_repo, name):
    text = (SEED / f"{name}.txt").read_text("utf-8")
    path = user_repo / "pipelines" / "user_features.py"
    path.write_text(text if "import" in text.splitlines()[1] else IMPORTS + text, "utf-8")


@pytest.mark.parametrize("name", FORMS)
def test_a_form_runs_as_it_stands_there(user_repo, orders, name):
    lay(user_repo, name)
    aiflow(user_repo, "run", "daily_user_feature_pipeline", "--date", DAY)
    table = "tmp/enriched_orders_daily" if name == "output_table" else "feature_store/user_features_daily"
    found = pl.read_delta(str(user_repo / ".aiflow" / "lake" / table)).sort("user_id")
    expected = (
        orders.filter(pl.col("dt") == DAY)
        .group_by("user_id")
        .agg(pl.len().cast(pl.Int64).alias("order_cnt_30d"), pl.sum("amount").alias("order_amt_30d"))
        .sort("user_id")
    )
    assert found["user_id"].to_list() == expected["user_id"].to_list()
    assert found["order_cnt_30d"].to_list() == expected["order_cnt_30d"].to_list()
    assert found["order_amt_30d"].to_list() == pytest.approx(expected["order_amt_30d"].to_list())
    if name != "output_table":
        assert found["dt"].unique().to_list() == [DAY]


def test_the_seeds_generator_file_finds_the_pipeline_by_package_and_by_folder(user_repo, monkeypatch):
    lay(user_repo, "dsl_module")
    (user_repo / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(user_repo.parent))
    monkeypatch.chdir(user_repo.parent)
    by_package = discover_pipelines("user_repo.pipelines")
    by_folder = discover_pipelines(str(user_repo))
    assert [ir.id for ir in by_package] == [ir.id for ir in by_folder] == ["daily_user_feature_pipeline"]
    assert by_package == by_folder


def test_the_example_on_the_disk_is_a_form_of_the_seed(user_repo, orders):
    example = Path(__file__).parents[2] / "examples" / "user_features"
    for folder in ("pipelines", "etl_jobs"):
        shutil.rmtree(user_repo / folder)
        shutil.copytree(example / folder, user_repo / folder)
    aiflow(user_repo, "run", "daily_user_feature_pipeline", "--date", DAY)
    found = pl.read_delta(str(user_repo / ".aiflow" / "lake" / "feature_store" / "user_features_daily"))
    assert found.height == orders.filter(pl.col("dt") == DAY)["user_id"].n_unique()
