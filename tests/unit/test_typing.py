"""What an editor knows: mypy and pyright find wrong keywords and unknown kinds, of plugins that are not ours too."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aiflow_sdk.factories.stubs import write_stubs
from aiflow_sdk.plugins import installed_registry

ROOT = Path(__file__).parents[2]

RIGHT = """\
from datetime import timedelta

from aiflow_sdk import Dataset, PipelineBuilder, dataset, pipeline, resources, sink, source, transform, window


@transform(engine="spark", resources=resources.spark(cluster="big"))
def clean(orders: int) -> int:
    return orders


@pipeline(id="x", schedule=dataset("a.b") & dataset("c.d"), owner="me", tags=["a"], params={"n": 3}, cost_center="c")
def whole(p: PipelineBuilder) -> None:
    news = p.read(source.rss(id="news", url="https://example.org/feed.xml", limit=3, wait_minutes=1.5))
    more = p.read(source.rss("more", url=p.vars["params.url"]))
    orders = p.read(source.onelake("o", "raw.o", partitions={"dt": p.vars["run_date"], "hour": window.covering()}))
    joined: Dataset = p.transform(news, more, orders, id="j", fn=clean, retries=2, anything="else")
    p.write(joined.sql("select * from {j}"), sink.onelake(id="s", table="a.b", mode="overwrite", partition_by=["dt"]))
    for region in ["us", "eu"]:
        p.branch_for_region(region, ...)


@pipeline(id="y", schedule=timedelta(days=1), partition="day")
def other(p: PipelineBuilder) -> None: ...


number: int = clean(3)
text: str = whole().to_json() + whole.to_mermaid() + str(whole)
"""

WRONG = [
    ('source.rss(id="a", url="https://example.org", limits=3)', "limits"),
    ('source.rss(id="a", url=3)', "url"),
    ('source.rss(id="a")', "url"),
    ('source.rrs(id="a")', "rrs"),
    ('source.onelake(id="a", tabel="raw.a")', "tabel"),
    ('source.onelake(table="raw.a")', "id"),
    ('sink.onelake(id="a", table="raw.a", mode="replace")', "mode"),
    ('sink.nowhere(id="a")', "nowhere"),
    ("clean('x')", "clean"),
]


FILES = ("right.py", "wrong.py")
Found = list[tuple[str, int, str]]
"""File, line and message of each error."""


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A user's folder and environment, with what is installed here and the stubs of it."""
    folder = tmp_path_factory.mktemp("user")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=60)
    packages = next((folder / "venv").glob("lib/python*/site-packages"))
    places = [ROOT / "packages/aiflow-sdk/src", ROOT / "packages/aiflow-example-plugin/src"]
    places += [Path(entry) for entry in sys.path if entry.endswith("site-packages")]
    (packages / "here.pth").write_text("".join(f"{place}\n" for place in places))
    registry = installed_registry()
    if "rss" not in registry.sources.kinds:
        registry.sources.add("rss", "aiflow_example_plugin:Rss", "aiflow-example-plugin")
    write_stubs(registry, packages)
    (folder / "right.py").write_text(RIGHT)
    head = RIGHT.partition("\n@pipeline")[0]
    (folder / "wrong.py").write_text(head + "".join(f"{line}\n" for line, _ in WRONG))
    return folder


def checked(user: Path, *command: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", *command], cwd=user, capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode in (0, 1), result.stderr
    return result.stdout


def mypy(user: Path) -> Found:
    python = user / "venv/bin/python"
    output = checked(
        user,
        "mypy",
        "--strict",
        "--output=json",
        "--config-file=",
        "--cache-dir=.cache",
        f"--python-executable={python}",
        *FILES,
    )
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [(item["file"], item["line"], item["message"]) for item in found if item["severity"] == "error"]


def pyright(user: Path) -> Found:
    output = checked(user, "pyright", "--outputjson", "--pythonpath", str(user / "venv/bin/python"), *FILES)
    found = [item for item in json.loads(output)["generalDiagnostics"] if item["severity"] == "error"]
    return [(Path(item["file"]).name, item["range"]["start"]["line"] + 1, item["message"]) for item in found]


@pytest.fixture(scope="module", params=[mypy, pyright])
def found(user, request) -> Found:
    """What a checker finds in both files, which it is given at once: most of its time goes into what they import."""
    return request.param(user)


def test_a_right_pipeline_has_no_errors(found):
    assert [one for one in found if one[0] != "wrong.py"] == []


def test_every_wrong_line_is_found(user, found):
    wrong = {line: message for file, line, message in found if file == "wrong.py"}
    first = (user / "wrong.py").read_text().splitlines().index(WRONG[0][0]) + 1
    assert sorted(wrong) == [first + number for number in range(len(WRONG))]
    for number, (_, named) in enumerate(WRONG):
        assert named in wrong[first + number]
