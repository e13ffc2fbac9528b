"""``@transform(…)`` means the same whether the function is given itself or named by text."""

import importlib
import sys
import textwrap
from pathlib import Path

import pytest

from aiflow_sdk import pipeline, sink, source
from aiflow_sdk.config import load_project
from aiflow_sdk.discovery import discover
from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.ir import NodeIR

JOBS = """
    import aiflow_sdk as sdk
    import functools
    from aiflow_sdk import dsl, resources as r, transform, transform as t
    ENGINE = "spark"
    MINUTES: float = 2.5

    @transform(engine="spark", timeout_minutes=5)
    def plain(orders): ...
    @functools.lru_cache
    @t(engine=ENGINE, retry_delay_minutes=MINUTES, retries=3)
    def named(orders): ...
    @sdk.transform(resources=r.spark(cluster="big", executor_cores=4), fuse=False)
    def sized(orders): ...
    @dsl.transform(output_schema={"a": "int64"}, external=None)
    def typed(orders): ...
    @transform
    def bare(orders): ...
    def undecorated(orders): ...
    class Job:
        @staticmethod
        @transform(engine="spark")
        def run(orders): ...
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path, "defaulted/jobs.py", JOBS)
    write(tmp_path, "defaulted/__init__.py", "from .jobs import plain as handed_on\nfrom .jobs import *\n")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("defaulted")]:
        del sys.modules[name]


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(textwrap.dedent(text))


def node_of(fn, **given) -> NodeIR:
    @pipeline(id="x", schedule="@daily", owner="me")
    def flow(p):
        orders = p.read(source.onelake(id="orders", table="raw.orders"))
        p.write(orders.transform(id="job", fn=fn, **given), sink.onelake(id="out", table="mart.out"))

    return flow().nodes["job"]


@pytest.mark.parametrize("name", ["plain", "named", "sized", "typed", "bare", "undecorated", "Job.run"])
def test_text_and_the_function_mean_the_same(jobs: Path, name: str) -> None:
    by_text = node_of(f"defaulted.jobs:{name}")
    assert "defaulted.jobs" not in sys.modules
    function = importlib.import_module("defaulted.jobs")
    for part in name.split("."):
        function = getattr(function, part)
    assert dict(by_text) == dict(node_of(function))


def test_a_function_that_is_handed_on_keeps_its_defaults(jobs: Path) -> None:
    assert node_of("defaulted:handed_on").engine == "spark"
    assert node_of("defaulted.sized").resources["cluster"] == "big"
    assert node_of("defaulted.undecorated").engine == "python"


def test_what_the_transform_says_stands_above_the_default(jobs: Path) -> None:
    assert node_of("defaulted.jobs:plain", engine="python").engine == "python"


@pytest.mark.parametrize(
    "text",
    [
        "import os\n@transform(engine=os.environ['E'])\ndef f(orders): ...",
        "E = {}\nE['a'] = 1\n@transform(engine=E.get('a'))\ndef f(orders): ...",
        "E = 'python'\nE = 'spark'\n@transform(engine=E)\ndef f(orders): ...",
        "@transform(**dict(engine='spark'))\ndef f(orders): ...",
        "def g(orders): ...\nf = transform(engine='spark')(g)",
    ],
)
def test_what_only_running_the_module_could_tell_is_refused(jobs: Path, text: str) -> None:
    write(jobs, "defaulted/odd.py", "from aiflow_sdk import transform\n" + text)
    with pytest.raises(DefinitionError) as caught:
        node_of("defaulted.odd:f")
    assert caught.value.code == "unreadable-transform-defaults"
    assert caught.value.where
    assert str(caught.value.where.path).endswith("defaulted/odd.py")
    if "**" not in text:
        assert node_of("defaulted.odd:f", engine="spark").engine == "spark"


def test_somebody_elses_transform_says_nothing(jobs: Path) -> None:
    write(jobs, "defaulted/own.py", "from other import transform\n@transform(engine=print())\ndef f(orders): ...")
    assert node_of("defaulted.own:f").engine == "python"


def test_another_default_makes_the_pipeline_anew_and_another_body_does_not(tmp_path: Path) -> None:
    job = "from aiflow_sdk import transform\n@transform(engine={!r})\ndef main(orders): return orders{}\n"
    write(
        tmp_path,
        "pipelines/a.py",
        """
        from aiflow_sdk import pipeline, sink, source
        @pipeline(id="a", schedule="@daily", owner="me")
        def a(p):
            orders = p.read(source.onelake(id="orders", table="raw.orders"))
            p.write(orders.transform(id="job", fn="etl.job:main"), sink.onelake(id="out", table="mart.out"))
        """,
    )
    project = load_project(tmp_path)
    seen = []
    for text in ("def main(orders): ...", job.format("spark", ""), job.format("spark", ".x"), job.format("python", "")):
        write(tmp_path, "etl/job.py", text)
        found = discover(project)
        seen.append((found.imported, found.pipeline("a").ir.nodes["job"].engine))
    anew = ("pipelines.a",)
    assert seen == [(anew, "python"), (anew, "spark"), ((), "spark"), (anew, "python")]
