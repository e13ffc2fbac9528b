"""A user's environment holds what its lock says, is made once, and is whole or not there; with the real uv."""

import http.server
import logging
import os
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import pytest
from aiflow_airflow import folders
from aiflow_airflow.code import UserCode
from aiflow_airflow.environments import Recipe, UserEnvironments, child_environment
from aiflow_airflow.folders import Artifact

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.lineage import worker_home
from harness.disks import read_only, small_disk

PYTHON = ".".join(map(str, sys.version_info[:2]))
SIX = b"six==1.17.0 --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274\n"

MAKE = """
import logging, signal, sys, time
from pathlib import Path
from aiflow_airflow.environments import Recipe, UserEnvironments
from aiflow_airflow.folders import Artifact
from aiflow_sdk.errors import AiflowError

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is deaf to it
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
home, lock, python, then = sys.argv[1:]
environments = UserEnvironments(Path(home))
recipe = Recipe(Artifact.of("lock", lock.encode()), (), python)
try:
    with environments.in_use(recipe) as found:
        print("python", found, flush=True)
        if then == "hold":
            sys.stdin.read()
except AiflowError as error:
    print("failed", error.code, error.retryable, flush=True)
"""

BACKEND = """
import os, pathlib, sys, time
TRIES = pathlib.Path({tries!r})
def build_wheel(folder, *_, **__):
    with TRIES.open("a") as file:
        file.write(f"{{os.getpid()}}\\n")
    {what}
"""


@pytest.fixture(autouse=True)
def few_retries(monkeypatch):
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for name in ("UV_OFFLINE", "UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def nowhere() -> str:
    """An index that nobody listens for."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://user:s3cr3t@127.0.0.1:{taken.getsockname()[1]}/simple"


def python_of(environments: UserEnvironments, wanted: Recipe) -> Path:
    """Return the interpreter of an environment that is made if need be, and in nobody's use then."""
    with environments.in_use(wanted) as python:
        return python


def recipe(lock: bytes, *wheels: Artifact, python: str = PYTHON) -> Recipe:
    return Recipe(Artifact.of("lock.txt", lock), wheels, python)


def wheel(name: str, version: str, module: str, requires: str = "") -> Artifact:
    """Return a wheel of one module, whose ``main`` is a command too."""
    import io

    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{name}.py": module,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
        f"{info}/RECORD": "",
    }
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return Artifact.of(f"{name}-{version}-py3-none-any.whl", content.getvalue())


@pytest.fixture
def sdist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Give a function that offers ``fussy==1.0`` to uv: a source distribution that is built by the given lines.

    It returns the file that each try to build it adds a line to.
    """

    def offer(what: str) -> Path:
        source, tries = tmp_path / "fussy-1.0", tmp_path / "tries"
        source.mkdir()
        (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: fussy\nVersion: 1.0\n")
        (source / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "fussy"\nversion = "1.0"\n'
        )
        (source / "backend.py").write_text(BACKEND.format(tries=str(tries), what=what))
        (tmp_path / "links").mkdir()
        with tarfile.open(tmp_path / "links" / "fussy-1.0.tar.gz", "w:gz") as archive:
            archive.add(source, "fussy-1.0")
        monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "links"))
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setenv("UV_NO_INDEX", "1")
        return tries

    return offer


def start(home: Path, lock: str, *, python: str = PYTHON, then: str = "") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", MAKE, str(home), lock, python, then]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def installed(python: Path) -> set[str]:
    code = "from importlib.metadata import distributions as d; print(*(f'{x.name}=={x.version}' for x in d()))"
    return set(ask(python, code).split())


def eventually(claim: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < until
        time.sleep(0.02)


def made(home: Path) -> list[str]:
    """Return all that lies in the home but locks."""
    return sorted(one for one in os.listdir(home / "environments") if not one.endswith(".lock"))


@contextmanager
def index_that_says(status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://user:s3cr3t@127.0.0.1:{server.server_port}/simple"
        server.shutdown()


# What an environment is


def test_it_holds_exactly_the_lock_and_the_wheels(tmp_path):
    tool = wheel("tool", "2.0", "def main():\n    import sys, six\n    print(sys.prefix)\n", requires="absent-thing>=9")
    python = python_of(UserEnvironments(tmp_path), recipe(SIX, tool))
    venv = python.parent.parent
    assert installed(python) == {"six==1.17.0", "tool==2.0"}
    assert ask(python, "import sys; print(sys.prefix)") == str(venv)
    done = subprocess.run([venv / "bin" / "tool"], capture_output=True, text=True)
    assert done.stdout.strip() == str(venv), done.stderr
    assert list(venv.glob("lib/*/site-packages/__pycache__/tool.*.pyc")), "compiled once, for all tasks"
    assert (venv.parent / "lock.txt").read_bytes() == SIX
    assert sorted(one.name for one in venv.parent.iterdir()) == ["files", "lock.txt", "used"]


def test_a_wheel_wins_over_the_lock_s_package_of_its_name(tmp_path):
    python = python_of(UserEnvironments(tmp_path), recipe(SIX, wheel("six", "1.17.0", "here = 'the wheel'")))
    assert ask(python, "import six; print(six.here)") == "the wheel"


def test_an_empty_lock_makes_an_empty_environment(tmp_path):
    assert installed(python_of(UserEnvironments(tmp_path), recipe(b"# nothing\n"))) == set()


def test_two_versions_that_exclude_each_other_live_side_by_side(tmp_path):
    environments = UserEnvironments(tmp_path)
    old, new = (python_of(environments, recipe(f"idna=={version}\n".encode())) for version in ("3.7", "3.10"))
    assert installed(old) == {"idna==3.7"}
    assert installed(new) == {"idna==3.10"}


def test_the_key_is_all_that_makes_a_difference():
    one, two = wheel("one", "1", ""), wheel("two", "1", "")
    keys = [
        recipe(SIX).key,
        recipe(b"").key,
        recipe(SIX, one).key,
        recipe(SIX, two).key,
        recipe(SIX, one, two).key,
        recipe(SIX, Artifact("two-1-py3-none-any.whl", one.sha, b"")).key,
        recipe(SIX, python="3.12").key,
    ]
    assert len(set(keys)) == len(keys)
    assert recipe(SIX, one, two).key == recipe(SIX, two, one).key


def test_one_whose_interpreter_has_gone_is_made_anew(tmp_path):
    environments = UserEnvironments(tmp_path)
    python = python_of(environments, recipe(SIX))
    python.unlink()
    python.symlink_to("/no/such/python3")
    assert python_of(environments, recipe(SIX)) == python
    assert installed(python) == {"six==1.17.0"}


def test_one_that_is_there_costs_no_process_no_network_and_no_look_at_a_wheel(tmp_path, monkeypatch, nowhere):
    def unread() -> bytes:
        raise AssertionError("nobody needs the content")

    tool, lock = wheel("tool", "1", ""), Artifact.of("lock.txt", SIX)
    environments = UserEnvironments(tmp_path)
    python = python_of(environments, Recipe(lock, (tool,), PYTHON))
    monkeypatch.setenv("UV_INDEX_URL", nowhere)
    monkeypatch.setattr(subprocess, "Popen", None)  # whoever starts a process fails
    again = Recipe(Artifact(lock.file, lock.sha, unread), (Artifact(tool.file, tool.sha, unread),), PYTHON)
    seconds = []
    for _ in range(200):
        began = time.perf_counter()
        assert python_of(environments, again) == python
        seconds.append(time.perf_counter() - began)
    assert statistics.median(seconds) < 0.02


# Many at once, and kills


def test_of_eight_processes_at_once_one_makes_it_and_the_others_say_for_whom_they_wait(tmp_path, sdist):
    go = tmp_path / "go"
    tries = sdist(
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n    raise RuntimeError('no compiler')"
    )
    maker = start(tmp_path, "fussy==1.0")
    eventually(tries.exists)
    others = [start(tmp_path, "fussy==1.0") for _ in range(7)]
    for other in others:
        assert other.stdout is not None
        assert f"waiting for process {maker.pid} on {os.uname().nodename}" in other.stdout.readline()
    go.touch()
    said = [process.communicate(timeout=60)[0] for process in (maker, *others)]
    assert ["making the environment" in text for text in said] == [True] + [False] * 7
    assert {text.splitlines()[-1] for text in said} == {"failed broken-environment False"}


def test_eight_processes_at_once_use_the_one_that_one_of_them_makes(tmp_path):
    said = [process.communicate(timeout=120)[0] for process in [start(tmp_path, SIX.decode()) for _ in range(8)]]
    assert len({line for text in said for line in text.splitlines() if line.startswith("python ")}) == 1
    assert sum("making the environment" in text for text in said) == 1
    assert len(made(tmp_path)) == 1


def test_a_maker_killed_in_the_middle_leaves_nothing_whole_and_blocks_nobody(tmp_path, sdist):
    tries = sdist("TRIES.with_name('again').exists() or time.sleep(60); raise RuntimeError('no compiler')")
    maker = start(tmp_path, "fussy==1.0")
    eventually(tries.exists)
    assert [one.split("-")[0] for one in made(tmp_path)] == [".making"]
    waiter = start(tmp_path, "fussy==1.0")
    assert waiter.stdout is not None
    assert f"waiting for process {maker.pid}" in waiter.stdout.readline()
    tries.with_name("again").touch()
    maker.send_signal(signal.SIGKILL)
    assert "failed broken-environment False" in waiter.communicate(timeout=30)[0]
    assert [Path(one).suffix for one in made(tmp_path)] == [".failed"]
    maker.communicate()


def test_a_maker_killed_in_the_middle_is_followed_by_one_who_makes_it(tmp_path):
    for after in (0.05, 0.15, 0.3, 0.6):
        place = tmp_path / str(after)
        maker = start(place, SIX.decode())
        eventually(lambda place=place: (place / "environments").exists() and bool(made(place)))
        time.sleep(after)
        maker.kill()
        maker.communicate()
        environments = UserEnvironments(place)
        assert installed(python_of(environments, recipe(SIX))) == {"six==1.17.0"}
        # What the killed one had started may write for a moment yet; then there is nothing else.
        eventually(partial(is_alone, environments, place))


def is_alone(environments: UserEnvironments, home: Path) -> bool:
    assert environments.collect(30) == []
    return len(made(home)) == 1


def test_a_maker_who_is_told_to_stop_removes_what_it_began(tmp_path, sdist):
    tries = sdist("time.sleep(60)")
    maker = start(tmp_path, "fussy==1.0")
    eventually(lambda: tries.exists() and tries.read_text().endswith("\n"))
    maker.send_signal(signal.SIGINT)  # raises in Python, as Airflow's handler of SIGTERM does
    maker.communicate(timeout=20)
    assert made(tmp_path) == []
    builder = Path("/proc", tries.read_text().split()[0], "stat")
    eventually(lambda: not builder.exists() or " Z " in builder.read_text())


# What cannot be made


def failure(home: Path, wanted: Recipe) -> AiflowError:
    with pytest.raises(AiflowError) as caught:
        python_of(UserEnvironments(home), wanted)
    assert [one for one in made(home) if not one.endswith(".failed")] == []
    return caught.value


def test_a_package_that_cannot_be_built_is_told_in_uv_s_words(tmp_path, sdist):
    sdist("raise RuntimeError('no compiler for fussy here')")
    error = failure(tmp_path, recipe(b"fussy==1.0\n"))
    assert (error.code, error.retryable) == ("broken-environment", False)
    assert "Failed to build `fussy==1.0`: The build backend returned an error" in error.message
    assert any("no compiler for fussy here" in note for note in error.notes)
    assert error.hint == "lock a version that has a wheel, or install on the workers what its build needs"


def test_a_failure_is_found_once_for_all_who_wait_and_looked_for_again_later(tmp_path, sdist, monkeypatch):
    tries = sdist("time.sleep(1); raise RuntimeError('no')")
    processes = [start(tmp_path, "fussy==1.0") for _ in range(6)]
    assert all("failed broken-environment False" in one.communicate(timeout=60)[0] for one in processes)
    once = tries.read_text()
    error = failure(tmp_path, recipe(b"fussy==1.0"))
    assert tries.read_text() == once
    assert any("after that it is tried again" in note for note in error.notes)
    monkeypatch.setattr(folders, "REMEMBERED_SECONDS", 0.0)  # of 30, in place of waiting
    failure(tmp_path, recipe(b"fussy==1.0"))
    assert len(tries.read_text()) > len(once)


def test_what_was_mended_meanwhile_is_made(tmp_path, monkeypatch, nowhere):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    with monkeypatch.context() as broken:
        broken.setenv("UV_INDEX_URL", nowhere)
        failure(tmp_path / "home", recipe(SIX))
    monkeypatch.setattr(folders, "RETRYABLE_REMEMBERED_SECONDS", 0.0)  # of 5, in place of waiting
    assert installed(python_of(UserEnvironments(tmp_path / "home"), recipe(SIX))) == {"six==1.17.0"}
    assert len(made(tmp_path / "home")) == 1


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        (b"six==99.0\n", "there is no version of six==99.0"),
        (b"six==1.17.0 --hash=sha256:" + b"0" * 64, "Hash mismatch for `six==1.17.0`"),
        (SIX + b"idna==3.10\n", "idna==3.10"),  # one without a hash among those with
        (b"six =! 1\n", "six =! 1"),
    ],
)
def test_a_wrong_lock_is_not_tried_again(tmp_path, lock, words):
    error = failure(tmp_path, recipe(lock))
    assert (error.code, error.retryable) == ("broken-environment", False)
    assert words in "\n".join((error.message, *error.notes))
    assert error.hint == "mend the lock, deploy the project, and clear the task"


def test_an_index_that_is_not_reached_is_tried_again(tmp_path, monkeypatch, nowhere):
    monkeypatch.setenv("UV_INDEX_URL", nowhere)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    error = failure(tmp_path, recipe(SIX))
    assert (error.code, error.retryable) == ("broken-environment", True)
    assert "UV_INDEX_URL" in str(error.hint)
    assert any("Connection refused" in note for note in error.notes)
    assert "s3cr3t" not in str(error) + str(error.notes)


@pytest.mark.parametrize(("status", "may_pass"), [(503, True), (429, True), (401, False), (403, False)])
def test_an_index_that_fails_may_recover_and_one_that_refuses_does_not(tmp_path, monkeypatch, status, may_pass):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    with index_that_says(status) as index:
        monkeypatch.setenv("UV_INDEX_URL", index)
        error = failure(tmp_path, recipe(SIX))
    assert (error.code, error.retryable) == ("broken-environment", may_pass), error.notes
    assert "s3cr3t" not in str(error) + str(error.notes)


def test_without_a_network_uv_s_cache_serves(tmp_path, monkeypatch, nowhere):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    python_of(UserEnvironments(tmp_path / "first"), recipe(SIX))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert installed(python_of(UserEnvironments(tmp_path / "second"), recipe(SIX))) == {"six==1.17.0"}
    error = failure(tmp_path / "third", recipe(b"idna==3.10"))
    assert (error.code, error.retryable) == ("broken-environment", True)


def test_an_operator_s_uv_offline_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    error = failure(tmp_path, recipe(SIX))
    assert (error.code, error.retryable) == ("broken-environment", False)
    assert "UV_OFFLINE is set" in str(error.hint)


def test_a_python_that_is_not_there_is_told_with_those_that_are(tmp_path):
    error = failure(tmp_path, recipe(SIX, python="3.7"))
    assert (error.code, error.retryable) == ("missing-python", False)
    assert "there is no Python 3.7 here" in error.message
    assert any(note.startswith("there are: ") and PYTHON in note for note in error.notes)


def test_a_wheel_that_is_not_what_its_sha_says_is_fetched_again(tmp_path):
    tool = wheel("tool", "1", "")
    error = failure(tmp_path, recipe(SIX, Artifact(tool.file, "0" * 64, tool.content)))
    assert (error.code, error.retryable) == ("damaged-download", True)


def test_a_wheel_that_is_none_is_told(tmp_path):
    error = failure(tmp_path, recipe(SIX, Artifact.of("tool-1-py3-none-any.whl", b"no zip")))
    assert (error.code, error.retryable) == ("broken-environment", False)


@pytest.mark.parametrize(
    ("file", "sha"), [("../x.whl", "0" * 64), ("", "0" * 64), ("x.whl", "../../etc"), ("..", "0" * 64)]
)
def test_names_that_leave_the_folder_are_refused(file, sha):
    with pytest.raises(AiflowError) as caught:
        Artifact(file, sha, b"")
    assert caught.value.code == "bad-document"


# Disks


def test_a_home_that_cannot_be_made_is_told():
    with pytest.raises(AiflowError) as caught:
        python_of(UserEnvironments(Path("/proc/nowhere")), recipe(SIX))
    assert (caught.value.code, caught.value.retryable) == ("home-not-writable", False)


def test_a_home_that_may_only_be_read_serves_what_it_holds(tmp_path):
    environments = UserEnvironments(tmp_path)
    python = python_of(environments, recipe(SIX))
    with read_only(tmp_path):
        assert python_of(environments, recipe(SIX)) == python
        with environments.in_use(recipe(SIX)) as found:
            assert found == python
        with pytest.raises(AiflowError, match="Read-only") as caught:
            python_of(environments, recipe(b"idna==3.10"))
    assert (caught.value.code, caught.value.retryable) == ("home-not-writable", False)


def test_a_full_disk_is_told_and_nothing_of_the_beginning_stays(tmp_path):
    home = tmp_path / "disk"
    with small_disk(home, 200 << 10):
        error = failure(home, recipe(b"idna==3.10\nsix==1.17.0\n"))
        assert (error.code, error.retryable) == ("home-not-writable", True)
        assert "No space left" in str(error) + str(error.notes)


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", "/proc/nowhere")
    error = failure(tmp_path, recipe(SIX))
    assert (error.code, error.retryable) == ("home-not-writable", False)
    assert "UV_CACHE_DIR" in str(error.hint)


# Old ones


def make_old(python: Path, days: float = 40) -> None:
    then = time.time() - days * 86_400
    os.utime(python.parents[2] / "used", (then, then))


def test_what_nobody_used_for_long_is_removed_and_the_rest_stays(tmp_path):
    environments = UserEnvironments(tmp_path)
    old, new = (python_of(environments, recipe(lock)) for lock in (SIX, b""))
    make_old(old)
    assert environments.collect(30) == [recipe(SIX).key]
    assert made(tmp_path) == [recipe(b"").key]
    assert not (tmp_path / "environments" / f"{recipe(SIX).key}.lock").exists()
    assert new.exists()
    assert environments.collect(30) == []
    assert installed(python_of(environments, recipe(SIX))) == {"six==1.17.0"}


def test_use_keeps_it(tmp_path):
    environments = UserEnvironments(tmp_path)
    make_old(python_of(environments, recipe(b"")))
    python_of(environments, recipe(b""))
    assert environments.collect(30) == []


def test_what_a_running_task_uses_stays_however_old(tmp_path):
    environments = UserEnvironments(tmp_path)
    python = python_of(environments, recipe(b"# x"))
    task = start(tmp_path, "# x", then="hold")
    assert task.stdout is not None
    assert task.stdout.readline().startswith("python ")
    make_old(python)
    assert environments.collect(30) == []
    task.communicate("")  # its end counts as use
    assert environments.collect(30) == []
    make_old(python)
    assert len(environments.collect(30)) == 1


def test_what_dead_makers_left_is_removed_and_what_a_live_one_makes_is_not(tmp_path, sdist):
    tries = sdist("time.sleep(60)")
    maker = start(tmp_path, "fussy==1.0")
    eventually(tries.exists)
    environments = UserEnvironments(tmp_path)
    assert environments.collect(0) == []
    assert len(made(tmp_path)) == 1
    maker.kill()
    maker.communicate()
    eventually(lambda: environments.collect(0) == [] == os.listdir(tmp_path / "environments"))


def test_takers_and_removers_at_once_never_meet(tmp_path):
    """Each user finds an interpreter that is there for as long as it uses it, whatever is removed around it."""
    environments, wanted = UserEnvironments(tmp_path), recipe(b"")
    ended, missing = threading.Event(), []

    def use() -> None:
        while not ended.is_set():
            with environments.in_use(wanted) as python:
                time.sleep(0.002)
                if not python.exists():
                    missing.append(python)
            time.sleep(0.01)

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    removed, until = 0, time.monotonic() + 60
    while removed < 5 and time.monotonic() < until:
        removed += len(environments.collect(-1))
    ended.set()
    for thread in threads:
        thread.join()
    assert missing == []
    assert removed >= 5


# What the user's process sees


def test_nothing_of_airflow_s_reaches_the_user_s_process_and_what_was_configured_does(monkeypatch):
    airflows = {
        "AIRFLOW_HOME": "/opt/airflow",
        "AIRFLOW__CORE__FERNET_KEY": "x",
        "AIRFLOW_CONN_DB": "postgres://u:p@h/d",
        "_AIRFLOW_PROCESS_CONTEXT": "client",
        "__AIRFLOW_SUPERVISOR_FD": "3",
        "PYTHONPATH": "/opt/airflow/dags",
        "PYTHONHOME": "/x",
        "VIRTUAL_ENV": "/opt/venv",
    }
    configured = {"UV_INDEX_URL": "http://index", "HTTPS_PROXY": "http://proxy", "AWS_REGION": "eu", "AIFLOW_X": "1"}
    for name, value in {**airflows, **configured, "PATH": f"/opt/venv/bin:{sys.prefix}/bin:/usr/bin"}.items():
        monkeypatch.setenv(name, value)
    environment = child_environment()
    assert not airflows.keys() & environment.keys()
    assert configured.items() <= environment.items()
    assert environment["PATH"] == "/usr/bin"
    if Path("/etc/ssl/certs/ca-certificates.crt").exists():
        assert environment["UV_SYSTEM_CERTS"] == "1"
    own = child_environment(Path("/srv/key/files/bin/python"))
    assert own["PATH"] == "/srv/key/files/bin:/usr/bin"
    assert own["VIRTUAL_ENV"] == "/srv/key/files"


def test_the_user_s_process_finds_the_user_s_modules_and_none_of_airflow_s(tmp_path, monkeypatch):
    tool, shop = wheel("tool", "1", "x = 1"), wheel("shop", "1", "y = 2")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "six.py").write_text("raise SystemExit('Airflow's')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "dags"))
    with UserCode(tmp_path).in_use(shop) as folder, UserEnvironments(tmp_path).in_use(recipe(SIX, tool)) as python:
        code = "import six, tool, shop, subprocess as s; print(tool.x, shop.y); s.run(['python', '-c', 'import tool'])"
        environment = child_environment(python)
        done = subprocess.run([python, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("1 2\n", "")


def test_the_home_lies_in_airflow_s_unless_it_is_named(monkeypatch):
    monkeypatch.delenv("AIFLOW_HOME", raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", "/opt/airflow")
    assert worker_home() == Path("/opt/airflow/aiflow")
    monkeypatch.setenv("AIFLOW_HOME", "/mnt/aiflow")
    assert worker_home() == Path("/mnt/aiflow")


def test_it_is_imported_in_every_task_and_brings_little():
    code = "import sys, aiflow_sdk.errors; before = set(sys.modules); import aiflow_airflow.environments; "
    code += "import aiflow_airflow.code; print(*sorted(set(sys.modules) - before))"
    new = set(ask(Path(sys.executable), code).split())
    heavy = {
        "airflow",
        "aiflow_airflow.installation",
        "asyncio",
        "http",
        "pydantic",
        "subprocess",
        "tempfile",
        "zipfile",
    }
    assert not heavy & new
    assert {name for name in new if name.startswith("aiflow_sdk")} == set()


def test_uv_s_words_reach_the_log_as_they_come(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    with caplog.at_level(logging.INFO):
        python_of(UserEnvironments(tmp_path), recipe(SIX, wheel("tool", "1", "", requires="absent-thing")))
    said = [record.getMessage() for record in caplog.records]
    assert any("Installed 1 package" in line for line in said)
    assert any("`tool` requires `absent-thing`, but it's not installed" in line for line in said)
    assert said[-1].startswith("the environment is made, in ")
