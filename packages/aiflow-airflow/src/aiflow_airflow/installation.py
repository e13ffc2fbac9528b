"""Makes one environment with uv, and says in our words and uv's why it cannot be made."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiflow_airflow.environments import child_environment
from aiflow_airflow.folders import Artifact, not_writable, writing
from aiflow_sdk.errors import AiflowError, ConfigurationError, MissingExtraError

LOG = logging.getLogger(__name__)

_FULL = re.compile(r"\(os error (28|122)\)|No space left on device|Disk quota exceeded")
_READ_ONLY = re.compile(r"\(os error 30\)|Failed to initialize cache")
_NETWORK = re.compile(
    r"error sending request|Request failed after|dns error|tcp connect error|connection (reset|closed|refused)"
    r"|timed out|HTTP status server error|\b(408 Request Timeout|429 Too Many Requests)\b|network is unreachable",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"HTTP status client error \((?!408|429)")
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
_NOT_OURS = ("UV_PROJECT", "UV_SYSTEM_PYTHON", "UV_VENV_SEED", "UV_WORKING_DIR", "UV_WORKING_DIRECTORY")
"""Of uv's variables those that would make another environment than the one that is wanted."""
_NOTED_LINES = 200
_SETPRIV = "/usr/bin/setpriv"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def reason(self) -> str:
        """Return uv's error in a line: what failed, and its first cause."""
        if self.status < 0:
            return f"uv was ended by signal {-self.status}"
        said = [line.strip() for line in self.lines]
        start = next((number for number, line in enumerate(said) if line.startswith("error: ")), None)
        if start is None:
            return said[-1] if said else f"uv ended with status {self.status} and said nothing"
        cause = said[start + 1 : start + 2]
        return ": ".join([said[start][7:], *(line[7:] for line in cause if line.startswith("cause: "))]).rstrip(".")


def install(lock: Artifact, wheels: Sequence[Artifact], python: str, venv: Path) -> None:
    """Make, in an empty folder, a virtual environment of exactly a lock's packages and some wheels; it can be moved.

    uv's cache is asked first, so that an environment whose packages it holds needs no network. Raises
    ``broken-environment`` (retryable where the network failed), ``missing-python`` and ``home-not-writable``.
    """
    began = time.monotonic()
    LOG.info("making the environment of lock %.12s for Python %s; later tasks find it made", lock.sha, python)
    requirements, local = venv.with_name("lock.txt"), venv.with_name("wheels")
    texts = [(requirements, lock.read()), *((local / wheel.file, wheel.read()) for wheel in wheels)]
    with writing(venv):
        local.mkdir()
        for path, content in texts:
            path.write_bytes(content)
        pins = [
            f"{wheel.file.split('-')[0]} @ {(local / wheel.file).as_uri()} --hash=sha256:{wheel.sha}"
            for wheel in wheels
        ]
        (local / "wheels.txt").write_text("\n".join(pins), "utf-8")
    _create(python, venv)
    _sync(requirements, lock, python, venv)
    if wheels:
        answer = _uv(
            "pip", "install", "--no-deps", "--offline", "--strict", *_into(venv), "-r", str(local / "wheels.txt")
        )
        if answer.status:
            raise _broken(answer, lock, python, venv)
    shutil.rmtree(local, ignore_errors=True)
    LOG.info("the environment is made, in %.1f s", time.monotonic() - began)


def _create(python: str, venv: Path) -> None:
    own = ".".join(map(str, sys.version_info[:3]))
    # Airflow's own interpreter, where it is of that version: it is surely there, and need not be searched for.
    wanted = sys.executable if sys.executable and _is_of(own, python) else python
    answer = _create_of(wanted, venv)
    if not answer.status:
        return
    if _NETWORK.search(answer.text) or _FULL.search(answer.text) or _READ_ONLY.search(answer.text):
        raise _broken(answer, None, python, venv)
    found = _interpreters()
    # One that cannot be asked (a shim of pyenv) hides from uv those that stand behind it.
    if fitting := [path for version, path in found.items() if _is_of(version, python)]:
        answer = _create_of(fitting[-1], venv)
        if not answer.status:
            return
    there = ", ".join(f"{version} ({path})" for version, path in found.items())
    raise ConfigurationError(
        "missing-python",
        f"there is no Python {python} here to make the environment with",
        hint="install it on the workers, deploy for one that is there, or set UV_PYTHON_DOWNLOADS=automatic",
        notes=(f"there are: {there or 'none'}", *_noted(answer)),
    )


def _create_of(interpreter: str, venv: Path) -> _Answer:
    return _uv("venv", "--relocatable", "--no-project", "--python", interpreter, str(venv), is_told=False)


def _interpreters() -> dict[str, str]:
    """Return the installed interpreters by their version, in its order."""
    lines = _uv("python", "list", "--only-installed", "--output-format", "json", is_told=False).lines
    try:  # warnings about those that cannot be asked may stand around it
        stated = json.loads(next(line for line in lines if line[:1] == "["))
        return {one["version"]: one["path"] for one in sorted(stated, key=_version_parts)}
    except (StopIteration, ValueError, KeyError, TypeError):
        return {}


def _version_parts(stated: dict[str, Any]) -> tuple[int, int, int]:
    parts = stated["version_parts"]
    return parts["major"], parts["minor"], parts["patch"]


def _is_of(version: str, wanted: str) -> bool:
    return f"{version}.".startswith(f"{wanted}.")


def _sync(requirements: Path, lock: Artifact, python: str, venv: Path) -> None:
    command = ["pip", "sync", "--allow-empty-requirements", *_into(venv)]
    if b"--hash=" in requirements.read_bytes():
        command.append("--require-hashes")
    answer = _uv(*command, "--offline", str(requirements), is_told=False)
    if answer.status and not _is_set("UV_OFFLINE") and not _FULL.search(answer.text):
        LOG.info("uv's cache does not hold all of it; asking the index")
        answer = _uv(*command, str(requirements))
    if answer.status:
        raise _broken(answer, lock, python, venv)


def _into(venv: Path) -> tuple[str, str]:
    return "--python", str(venv / "bin" / "python")


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "on", "t", "y")


def _uv(*arguments: str, is_told: bool = True) -> _Answer:
    """Run uv to its end; what it says goes to the log line by line, unless nobody needs to know."""
    environment = {name: value for name, value in child_environment().items() if name not in _NOT_OURS}
    # Compiled once by the maker: tasks that begin at once would each do it, and where PYTHONDONTWRITEBYTECODE is set
    # (in many images) every task would.
    environment = {"UV_COMPILE_BYTECODE": "1", "UV_PYTHON_DOWNLOADS": "never", **environment}
    environment |= {"UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    lines = []
    # Where this process is killed with -9, uv does not go on without it.
    prefix = [_SETPRIV, "--pdeathsig", "KILL"] if os.path.exists(_SETPRIV) else []
    with subprocess.Popen(
        [*prefix, _program(), *arguments],
        cwd="/",  # uv reads the pyproject.toml of where it runs
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(_PASSWORD.sub("***@", line.rstrip()))
                is_detail = not is_told or line.startswith(" ")
                LOG.log(logging.DEBUG if is_detail else logging.INFO, "uv: %s", lines[-1])
        except BaseException:  # Airflow's handler raises in the middle of a line; it goes on up
            with suppress(ProcessLookupError):  # Airflow ends the task: what builds a package ends too
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return _Answer(process.returncode, tuple(lines))


def _program() -> str:
    """Return where uv is: that of the package in Airflow's own environment."""
    try:
        import uv

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        raise MissingExtraError(
            "missing-uv",
            f"uv, which makes the users' environments, is not installed beside Airflow: {error}",
            hint="pip install uv in Airflow's environment",
        ) from error


def _noted(answer: _Answer) -> tuple[str, ...]:
    return tuple(line for line in answer.lines if line.strip())[-_NOTED_LINES:]


def _broken(answer: _Answer, lock: Artifact | None, python: str, venv: Path) -> AiflowError:
    text, notes = answer.text, _noted(answer)
    if full := _FULL.search(text):
        return not_writable(str(venv), answer.reason, bool(full), notes)
    if _READ_ONLY.search(text):
        error = not_writable(str(venv), answer.reason, False, notes)
        error.hint = "name folders that the tasks' user may write; UV_CACHE_DIR names the one of uv's cache"
        return error
    failed_on_the_way = bool(_NETWORK.search(text)) and not _REFUSED.search(text)
    if failed_on_the_way:
        hint = "see that the worker reaches the index (UV_INDEX_URL, HTTPS_PROXY), or fill uv's cache beforehand"
    elif "network was disabled" in text and _is_set("UV_OFFLINE"):
        hint = "UV_OFFLINE is set, and uv's cache does not hold it: fill the cache beforehand"
    elif _REFUSED.search(text):
        hint = "the index refused: see the address and the credentials that the workers have (UV_INDEX_URL and friends)"
    elif "Failed to build" in text:
        hint = "lock a version that has a wheel, or install on the workers what its build needs"
    else:
        hint = "mend the lock, deploy the project, and clear the task"
    whose = f"of lock {lock.sha[:12]} " if lock else ""
    return ConfigurationError(
        "broken-environment",
        f"the environment {whose}for Python {python} cannot be made: {answer.reason}",
        hint=hint,
        retryable=failed_on_the_way or answer.status < 0,
        notes=notes,
    )
