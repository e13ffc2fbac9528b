"""A project's dependencies are its own: they may exclude another project's, fail to build, or build slowly."""

from __future__ import annotations

import http.server
import io
import os
import re
import signal
import tarfile
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest

from airflow_trial import LOCK, LiveAirflow, Project, is_alive, parent_of

"""Whoever comes first waits for Airflow and for the user's environment too."""

PIPELINE = """
from aiflow_sdk import pipeline

@pipeline(id="asks", retries=1, retry_delay_minutes=0.02)
def asks(p):
    p.transform(id="work", engine="python", fn="etl:work", external=True)
"""
CODE = """
def work():
    import clash
    print("this is clash", clash.VERSION)
"""
BACKEND = """
import os, pathlib, time, zipfile

def build_wheel(folder, *_, **__):
    print("no compiler for clash here", flush=True)
    if not HELD:
        raise RuntimeError("no compiler for clash here")
    mark = pathlib.Path(HELD)
    if not mark.exists():
        part = mark.with_suffix(".part")
        part.write_text(f"{os.getpid()}")
        part.rename(mark)
        time.sleep(600)
    name = "clash-3.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for file, text in FILES.items():
            archive.writestr(file, text)
    return name
"""
_CORE = re.compile(r"(annotated-types|click|pydantic|pydantic-core|typing-extensions|typing-inspection|tzdata)==")
"""All that a pipeline needs that writes by itself."""


def files_of(version: str) -> dict[str, str]:
    """Return the files of the wheel of a version of the package on which the projects do not agree."""
    info = f"clash-{version}.dist-info"
    return {
        "clash.py": f"VERSION = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: clash\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }


def wheel_of(version: str) -> bytes:
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for name, text in files_of(version).items():
            archive.writestr(name, text)
    return content.getvalue()


def source_of(held: str) -> bytes:
    """Return a source distribution whose build fails, or the first time stays in the file ``held`` for ever."""
    about = (
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "clash"\nversion = "3.0"\n'
    )
    texts = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: clash\nVersion: 3.0\n",
        "pyproject.toml": about,
        "backend.py": f"HELD = {held!r}\nFILES = {files_of('3.0')!r}\n{BACKEND}",
    }
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"clash-3.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


@pytest.fixture
def served() -> Iterator[Callable[[str, bytes], str]]:
    """A function that offers a file on this machine and returns how a lock names it."""
    offered: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = offered[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815 the name that the server asks for

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def offer(name: str, content: bytes) -> str:
            offered[f"/{name}"] = content
            return f"http://127.0.0.1:{server.server_port}/{name} --hash=sha256:{sha256(content).hexdigest()}"

        yield offer
        server.shutdown()


def test_dependencies_of_one_project_are_no_other_projects_trouble(
    project: Project, airflow: LiveAirflow, tmp_path: Path, served: Callable[[str, bytes], str]
):
    held = tmp_path / "held"
    light = "".join(one for one in re.split(r"(?m)^(?=\S)", LOCK.read_text()) if _CORE.match(one))
    broken = served("broken/clash-3.0.tar.gz", source_of(""))
    slow = served("slow/clash-3.0.tar.gz", source_of(str(held)))
    needs = {"slow": f"clash @ {slow}", "broken": f"clash @ {broken}", "quick": "./clash-1.0-py3-none-any.whl"}
    runs = {}
    for name, line in needs.items():
        other = Project(tmp_path / name, airflow, f"{project.name}_{name}")
        other.write("pipelines/asks.py", PIPELINE)
        other.write("etl.py", CODE)
        other.write("requirements.txt", f"{light}{line}\n")
        (other.root / "clash-1.0-py3-none-any.whl").write_bytes(wheel_of("1.0"))
        other.deploy()
        dag_id = f"{other.name}.asks"
        airflow.await_dag(dag_id)
        airflow.unpause(dag_id)
        runs[name] = dag_id, airflow.trigger(dag_id)

    # The worker is killed while it makes an environment: nothing stays that is half, and the next attempt makes it.
    airflow.until(held.exists, "the building of the environment", 180)
    builder = int(held.read_text())
    runner = next(one for one in ancestors_of(builder) if title_of(one).startswith(b"airflow"))
    os.kill(runner, signal.SIGKILL)
    airflow.await_run(*runs["slow"])
    assert airflow.task(*runs["slow"], "work")["try_number"] == 2

    for name, version in (("quick", "1.0"), ("slow", "3.0")):
        airflow.await_run(*runs[name])
        assert f"this is clash {version}" in airflow.task_log(*runs[name], "work")
    airflow.await_run(*runs["broken"], "failed")
    assert airflow.task(*runs["broken"], "work")["try_number"] == 1  # another attempt would not help
    log = airflow.task_log(*runs["broken"], "work")
    assert "error[broken-environment]" in log
    assert "no compiler for clash here" in log
    if is_alive(builder):
        os.kill(builder, signal.SIGKILL)


def ancestors_of(process: int) -> Iterator[int]:
    while (process := parent_of(process)) > 1:
        yield process


def title_of(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()
