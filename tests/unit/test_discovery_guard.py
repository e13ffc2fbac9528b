"""What a pipeline may not do while it is built: read the clock, use the network, differ from build to build."""

import textwrap
import time
from pathlib import Path

import pytest

from aiflow_sdk.config import Project, load_project
from aiflow_sdk.discovery import Discovery, discover
from aiflow_sdk.discovery.children import other_timezone
from aiflow_sdk.discovery.judgement import differences

PIPELINE = """
@pipeline(id={id}, owner={owner})
def flow(p):
    {body}
    orders = p.read(source.onelake(id="orders", table="raw.orders"))
    p.write(orders, sink.onelake(id="out", table="feature.out"))
"""


def a_pipeline(head: str = "", *, id: str = '"a"', owner: str = '"me"', body: str = "pass") -> str:
    return f"from aiflow_sdk import pipeline, sink, source\n{head}\n" + PIPELINE.format(id=id, owner=owner, body=body)


def write(root: Path, files: dict[str, str]) -> Project:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content), encoding="utf-8")
    return load_project(root)


def told(discovery: Discovery) -> list[tuple[str, str]]:
    return [(problem.code, str(problem.where).partition(",")[0]) for problem in discovery.problems]


@pytest.mark.parametrize(
    "read",
    [
        "import time; time.time()",
        "import time; time.time_ns()",
        "from time import time as t; t()",
        "import time; time.strftime('%Y-%m-%d')",
        "import time; time.localtime()",
        "from datetime import date; date.today()",
        "from datetime import datetime as D; D.now()",
        "import datetime; datetime.datetime.now(datetime.timezone.utc)",
        "from datetime import date\nclass Mine(date): pass\nMine.today()",
        "from datetime import date\nread = date.today\nread()",
        "import time\n[time.time() for _ in range(3)]",
        "import time\nsorted([2, 1], key=lambda _: time.time())",
    ],
)
def test_a_read_of_the_clock_is_refused_with_its_line(tmp_path: Path, read: str) -> None:
    discovery = discover(write(tmp_path, {"pipelines/a.py": a_pipeline(read)}))
    lines = [line for line, text in enumerate(a_pipeline(read).splitlines(), 1) if "()" in text or "time." in text]
    (problem,) = discovery.problems
    assert problem.code == "clock-at-build-time"
    assert problem.where
    assert problem.where.path == "pipelines/a.py"
    assert problem.where.line in [*lines, lines[-1] + 1]
    assert "{{ ds }}" in (problem.hint or "")
    assert discovery.pipelines == ()


def test_a_read_inside_the_pipeline_withholds_that_pipeline_alone(tmp_path: Path) -> None:
    text = a_pipeline("import datetime", id='"clock"', body="datetime.date.today()") + PIPELINE.format(
        id='"fine"', owner='"me"', body="pass"
    ).replace("flow", "fine")
    discovery = discover(write(tmp_path, {"pipelines/a.py": text}), twice=True)
    assert [found.id for found in discovery.pipelines] == ["fine"]
    assert told(discovery) == [("clock-at-build-time", "pipelines/a.py:6")]
    assert discovery.problems[0].where
    assert discovery.problems[0].where.about == "pipeline 'clock'"


def test_a_shared_module_that_reads_the_clock_is_told_once_and_refuses_all_that_import_it(tmp_path: Path) -> None:
    project = write(
        tmp_path,
        {
            "lib/dates.py": "import datetime\n\nTODAY = datetime.date.today()\n",
            "lib/between.py": "from lib import dates\n",
            "pipelines/a.py": a_pipeline("import lib.dates", id='"a"'),
            "pipelines/b.py": a_pipeline("import lib.between", id='"b"'),
            "pipelines/c.py": a_pipeline(id='"c"'),
        },
    )
    for _ in range(2):
        discovery = discover(project, twice=True)
        assert [found.id for found in discovery.pipelines] == ["c"]
        assert told(discovery) == [("clock-at-build-time", "lib/dates.py:3")]


def test_a_helper_that_reads_the_clock_is_found_in_whichever_pipeline_calls_it(tmp_path: Path) -> None:
    project = write(
        tmp_path,
        {
            "lib/dates.py": "import datetime\n\ndef today():\n    return datetime.date.today()\n",
            "pipelines/a.py": a_pipeline("from lib.dates import today", id='"a"'),
            "pipelines/b.py": a_pipeline("from lib.dates import today as t", id='"b"', body="t()"),
        },
    )
    discovery = discover(project)
    assert [found.id for found in discovery.pipelines] == ["a"]
    assert told(discovery) == [("clock-at-build-time", "lib/dates.py:4")]


@pytest.mark.parametrize(
    "harmless",
    [
        "import time; time.localtime(0); time.strftime('%Y', time.gmtime(0)); time.ctime(0)",
        "import time; time.perf_counter(); time.monotonic(); time.sleep(0)",
        "import datetime; datetime.date(2026, 1, 1); datetime.datetime.fromtimestamp(0)",
        "import logging; logging.getLogger().warning('now')",
        "import asyncio; asyncio.run(asyncio.sleep(0))",
        "import uuid, random, tempfile, email.utils; email.utils.localtime(None) if 0 else None; tempfile.gettempdir()",
        "class Clock:\n    def now(self): return 1\nClock().now()",
        "import subprocess; subprocess.run(['true'], check=True)",
        "import socket; a, b = socket.socketpair(); a.send(b'x'); a.close(); b.close(); socket.gethostname()",
    ],
)
def test_what_is_harmless_is_not_refused(tmp_path: Path, harmless: str) -> None:
    discovery = discover(write(tmp_path, {"pipelines/a.py": a_pipeline(harmless)}))
    assert told(discovery) == []
    assert len(discovery.pipelines) == 1


@pytest.mark.parametrize(
    "use",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9), 1)",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
        "import http.client; http.client.HTTPConnection('127.0.0.1', 9).request('GET', '/')",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    ],
)
def test_the_network_is_refused_with_its_line(tmp_path: Path, use: str) -> None:
    discovery = discover(write(tmp_path, {"pipelines/a.py": a_pipeline(use)}), twice=True)
    assert told(discovery) == [("network-at-build-time", "pipelines/a.py:2")]
    assert discovery.pipelines == ()


def test_the_network_is_refused_even_where_the_author_hides_the_error(tmp_path: Path) -> None:
    body = (
        "\n    try:\n        import socket; socket.create_connection(('127.0.0.1', 9), 1)\n    except Exception: pass"
    )
    discovery = discover(write(tmp_path, {"pipelines/a.py": a_pipeline(body=body)}))
    assert [code for code, _ in told(discovery)] == ["network-at-build-time"]


def test_a_definition_that_differs_between_hash_seeds_is_unstable(tmp_path: Path) -> None:
    owner = '",".join({"ana", "ben", "cem", "dan", "eve", "fay"})'
    project = write(tmp_path, {"pipelines/a.py": a_pipeline(owner=owner), "pipelines/b.py": a_pipeline(id='"b"')})
    assert told(discover(project)) == []
    discovery = discover(project, twice=True)
    assert [found.id for found in discovery.pipelines] == ["b"]
    (problem,) = discovery.problems
    assert (problem.code, str(problem.where)) == ("unstable-pipeline", "pipelines/a.py:4, pipeline 'a'")
    assert "owner is" in problem.message


def test_the_first_difference_is_told_with_its_node(tmp_path: Path) -> None:
    text = a_pipeline(body="import uuid; x = str(uuid.uuid4())").replace(
        '"raw.orders"', '"raw.orders", partitions={"k": x}'
    )
    (problem,) = discover(write(tmp_path, {"pipelines/a.py": text}), twice=True).problems
    assert problem.code == "unstable-pipeline"
    assert "nodes.orders.params.partitions.k is" in problem.message
    assert problem.where
    assert (problem.where.line, problem.where.about) == (7, "pipeline 'a', node 'orders'")


def test_a_pipeline_that_is_there_in_one_build_only_is_unstable(tmp_path: Path) -> None:
    discovery = discover(
        write(tmp_path, {"pipelines/a.py": a_pipeline("import os", id="f'a{os.getpid()}'")}), twice=True
    )
    assert {code for code, _ in told(discovery)} == {"unstable-pipeline"}
    assert discovery.pipelines == ()


def test_today_read_where_no_guard_sees_it_differs_between_the_builds(tmp_path: Path) -> None:
    hidden = "import time\nread = getattr(time, 'local' + 'time')\nclass Lib: pass\n"
    library = tmp_path / "venv" / "site-packages" / "library.py"
    library.parent.mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    library.write_text(f"{hidden}\ndef today():\n    return str(read()[:3])\n")
    head = f"import sys; sys.path.append({str(library.parent)!r})\nimport library"
    discovery = discover(write(tmp_path, {"pipelines/a.py": a_pipeline(head, owner="library.today()")}), twice=True)
    assert [code for code, _ in told(discovery)] == ["unstable-pipeline"]


def test_in_the_other_time_zone_it_is_another_day(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        for here in ("UTC", "Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati", "Etc/GMT+12"):
            monkeypatch.setenv("TZ", here)
            time.tzset()
            today = time.localtime()[:3]
            monkeypatch.setenv("TZ", other_timezone())
            time.tzset()
            assert time.localtime()[:3] != today
    finally:
        monkeypatch.undo()
        time.tzset()


def test_differences_name_nodes_by_id() -> None:
    one = {"nodes": [{"id": "a", "x": 1}, {"id": "b"}], "tags": ["p", "q"]}
    two = {"nodes": [{"id": "a", "x": 2}], "tags": ["p", "r"]}
    assert [path for path, _, _ in differences(one, two)] == [("nodes", "a", "x"), ("nodes", "b"), ("tags", "1")]
    assert list(differences(one, one)) == []
    assert next(differences({"x": 1}, {"x": True}))[0] == ("x",)
