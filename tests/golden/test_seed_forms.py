"""The first request's forms of its example pipeline, as they stand there, and the IR that each of them means.

``seed/*.txt`` are verbatim. Write the expected documents anew with ``UPDATE_GOLDEN=1``, and read the difference.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

SEED = Path(__file__).parent / "seed"
FORMS = sorted(path.stem for path in SEED.glob("*.txt"))
IMPORTS = "from aiflow_sdk.dsl import pipeline, source, sink, resources\n"


@pytest.fixture
def user_repo(tmp_path, monkeypatch):
    """The user's project as the request draws it, its functions where the forms look for them."""
    for name in ("enrich_orders", "build_user_features"):
        (tmp_path / "etl_jobs").mkdir(exist_ok=True)
        (tmp_path / "etl_jobs" / f"{name}.py").write_text(
            "raise RuntimeError('imported while the pipeline is built')\n"
        )
    (tmp_path / "etl_jobs" / "__init__.py").write_text("def build_user_features_local(inputs, params): ...\n")
    (tmp_path / "pipelines").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(user_repo: Path, text: str):
    path = user_repo / "pipelines" / "user_features.py"
    path.write_text(text if "import" in text.splitlines()[1] else IMPORTS + text)
    spec = importlib.util.spec_from_file_location("pipelines.user_features", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.daily_user_feature


def form(name: str) -> str:
    return (SEED / f"{name}.txt").read_text("utf-8")


def test_all_four_forms_are_here():
    assert FORMS == ["dsl_module", "experience", "output_table", "product_page"]


@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_the_seed_means_what_it_meant(user_repo, name):
    document = json.loads(load(user_repo, form(name))().to_json())
    expected = SEED / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    assert document == json.loads(expected.read_text("utf-8"))
    assert "etl_jobs" not in sys.modules


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_found_by_what_the_seed_hangs_on_it(user_repo, name):
    definition = load(user_repo, form(name))
    assert callable(definition)
    assert definition._pipeline_id == "daily_user_feature_pipeline"
    assert definition._pipeline_fn.__name__ == "daily_user_feature"


def test_both_import_paths_give_the_same_pipeline(user_repo):
    text = form("dsl_module")
    other = text.replace("from aiflow_sdk.dsl import", "from aiflow_sdk import")
    assert text != other
    assert load(user_repo, text)() == load(user_repo, other)()


def test_both_spellings_of_the_run_date_and_of_the_function_mean_the_same(user_repo):
    text = form("dsl_module")
    other = text.replace('"{{ ds }}"', 'p.vars["run_date"]').replace("fn=", "entrypoint=").replace(":main", "")
    one, two = load(user_repo, text)(), load(user_repo, other)()
    assert one == two
    assert one.fingerprint == two.fingerprint
    assert one.to_json() == two.to_json()


def test_defaults_spelled_out_and_resources_that_say_nothing_mean_the_same(user_repo):
    text = form("dsl_module")
    other = (
        text.replace("    sla_minutes=60,\n", "")
        .replace('            format="delta",\n', "")
        .replace('            mode="overwrite",\n', "")
        .replace("        resources=resources.python(),\n", "")
    )
    assert text.count("\n") - other.count("\n") == 4
    assert load(user_repo, text)().fingerprint == load(user_repo, other)().fingerprint


def test_branches_are_written_as_the_seed_writes_them(user_repo):
    text = IMPORTS + (
        '@pipeline(id="daily_user_feature_pipeline")\n'
        "def daily_user_feature(p):\n"
        '    for region in ["us", "eu", "apac"]:\n'
        "        p.branch_for_region(region, ...)\n"
        "        b = p.branch_for_region(region)\n"
        '        b.write(b.read(source.onelake("raw", f"raw.{region}")), sink.onelake("out", f"out.{region}"))\n'
    )
    assert set(load(user_repo, text)().nodes) == {
        f"{node}.{region}" for node in ("raw", "out") for region in ("us", "eu", "apac")
    }


def test_every_source_sink_and_resource_of_the_seed_can_be_written(user_repo):
    text = IMPORTS + (
        '@pipeline("daily_user_feature_pipeline", "0 3 * * *", "team", 30, ["a"], env="prod", cost_center="c")\n'
        "def daily_user_feature(p):\n"
        '    a = p.read(source.onelake("a", "raw.a", "delta", {"dt": "{{ ds }}"}, complete="all"))\n'
        '    b = p.read(source.onestream("b", "clicks", group="g"))\n'
        '    c = a.transform("c", "spark", "etl.c:main", None, resources.spark("emr", "2g", "4g", 2, x=1))\n'
        '    d = b.transform("d", "python", fn="etl_jobs.x:main", resources=resources.python("500m", "1Gi"))\n'
        '    p.write(c, sink.onelake("e", "f.e", "overwrite", ["dt"]))\n'
        '    p.write(d, sink.feature_store("f", "users", mode="upsert"))\n'
    )
    ir = load(user_repo, text)()
    assert ir.nodes["b"].params == {"kind": "onestream", "stream": "clicks", "group": "g"}
    assert ir.nodes["f"].params == {"kind": "feature_store", "feature_group": "users", "mode": "upsert"}
    assert ir.nodes["c"].resources["executor_cores"] == 2
    assert ir.nodes["d"].resources == {"engine": "python", "request_cpu": "500m", "request_memory": "1Gi"}
    assert (ir.owner, ir.sla_minutes, ir.tags) == ("team", 30.0, ("a",))
    assert ir.extra == {"env": "prod", "cost_center": "c"}
