"""The services of ``deploy/compose.yaml`` as processes of this machine, where no Docker is: what each would be told.

Each is started with its command and its environment as they stand there. What a container would have, it gets in
another way: names of services in addresses become ports of the loopback interface, a volume is a folder, each has a
home of its own, and where this process is root it runs as the image's user. It ends with all that it started.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its types are a package that the lock has not

from harness.postgres import PostgresServer

_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?:(:?[-?])([^}]*))?\})")
_PORTS = {"postgres": 5432, "redis": 6379, "api-server": 8080}
"""Where services listen inside their containers."""
_USER, _GROUP = "nobody", 0
"""As Airflow's image does it: a user who may nothing, and the group that owns what it needs."""
_STOP_SECONDS = 30.0


def _redis() -> str:
    """Return the server, which goes by the name that it is called with: Debian's package of its tools starts none."""
    found = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    if found is None:
        raise FileNotFoundError("there is no redis-server: scripts/celery_environment.sh installs one")
    return found


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Put variables in, as Compose does: ``$$``, ``${A}``, ``${A:-b}``, ``${A:?}``, the last two without ``:`` too.

    Raises ``ValueError`` where one that has to be set is not.
    """

    def value_of(found: re.Match[str]) -> str:
        name, how, other = found.groups()
        if name is None:
            return "$"
        is_there = bool(variables.get(name)) if (how or "").startswith(":") else name in variables
        if is_there:
            return variables[name]
        if (how or "").endswith("?"):
            raise ValueError(f"{name} has to be set: {other or 'it stands in compose.yaml'}")
        return str(other or "")

    return _VARIABLE.sub(value_of, text)


def read_compose(path: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the document with its variables put in."""

    def put_in(value: Any) -> Any:
        match value:
            case str():
                return interpolate(value, variables)
            case list():
                return [put_in(one) for one in value]
            case dict():
                return {key: put_in(one) for key, one in value.items()}
        return value

    document: dict[str, Any] = put_in(yaml.safe_load(path.read_text("utf-8")))
    return document


@dataclass
class Service:
    """One service, not started yet or running."""

    name: str
    home: Path
    command: list[str]
    variables: Mapping[str, str]
    user: tuple[int, int] | None
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.home.with_suffix(".log")

    def start(self) -> None:
        """Start it, as its user."""
        become = [f"--reuid={self.user[0]}", f"--regid={self.user[1]}", "--clear-groups"] if self.user else []
        with self.log.open("ab") as written:
            self.process = subprocess.Popen(
                # However this process ends, so does the service.
                ["setpriv", *become, "--pdeathsig=KILL", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                env=dict(self.variables),
                start_new_session=True,
            )

    def wait(self, seconds: float = 300) -> None:
        """Wait until it has ended well. Raises ``AssertionError``."""
        assert self.process is not None
        status = self.process.wait(seconds)
        self.process = None
        assert status == 0, f"{self.name} ended with {status}:\n{self.tail()}"

    def tail(self) -> str:
        """Return the last of what it has printed."""
        return self.log.read_text("utf-8", "replace")[-4000:]

    def kill(self) -> None:
        """End it and all its processes at once, as ``docker kill`` does."""
        if self.process is None:
            return
        for process in [self.process.pid, *descendants_of(self.process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self, seconds: float = _STOP_SECONDS) -> bool:
        """Tell it to end, as ``docker stop`` does; True where it did within this time, else it is killed."""
        if self.process is None:
            return True
        others = descendants_of(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        self.process = None
        for process in others:  # the end of a container ends them too
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return True


class ComposeServices:
    """All services of a compose file; a context manager ends what was started."""

    def __init__(
        self,
        document: Mapping[str, Any],
        home: Path,
        *,
        airflow: str,
        postgres: PostgresServer,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """``airflow`` is the program that the image has under this name, ``settings`` what a trial needs besides."""
        self._document, self._airflow, self._postgres = document, airflow, postgres
        self.settings = dict(settings or {})
        self.home = home
        self.volumes = home / "volumes"
        self.ports = {"postgres": postgres.port, "redis": free_port(), "api-server": free_port()}
        self.url = f"http://127.0.0.1:{self.ports['api-server']}"
        self.services: dict[str, Service] = {}

    def __enter__(self) -> ComposeServices:
        return self

    def __exit__(self, *error: object) -> None:
        for service in reversed(self.services.values()):
            service.kill()

    def start(self, name: str, number: int = 1) -> Service:
        """Start a service of the file, the ``number``-th of its containers, whose home is new."""
        told = self._document["services"][name]
        label = name if number == 1 else f"{name}-{number}"
        home = self._owned(self.home / label)
        if name == "redis":
            program = home / "redis-server"
            program.symlink_to(_redis())
            command = [str(program), "--bind", "127.0.0.1", "--port", str(self.ports["redis"]), "--save", ""]
            variables = {}
        else:
            command = [self._airflow, *shlex.split(told["command"])]
            if number > 1:  # containers have host names of their own
                command += ["--celery-hostname", f"{label}@%h"]
            variables = self._variables(told, label)
        user = (pwd.getpwnam(_USER).pw_uid, _GROUP) if os.geteuid() == 0 else None
        service = self.services[label] = Service(label, home, command, variables, user)
        service.start()
        return service

    def check(self) -> None:
        """Raise ``AssertionError`` where one of the services has ended by itself."""
        for service in self.services.values():
            if service.process and service.process.poll() is not None:
                raise AssertionError(f"{service.name} ended with {service.process.returncode}:\n{service.tail()}")

    def create_database(self) -> None:
        """Do what PostgreSQL's image does with the service's variables when its volume is empty."""
        told = self._document["services"]["postgres"]["environment"]
        user, password, name = (told[f"POSTGRES_{part}"] for part in ("USER", "PASSWORD", "DB"))
        for statement in (f"CREATE ROLE {user} LOGIN PASSWORD '{password}'", f"CREATE DATABASE {name} OWNER {user}"):
            asking = [str(self._postgres.programs / "psql"), self._postgres.address("postgres"), "-qc", statement]
            subprocess.run(asking, check=True)

    def answers(self) -> bool:
        """Tell whether the api-server does."""
        with socket.socket() as trial:
            return trial.connect_ex(("127.0.0.1", self.ports["api-server"])) == 0

    def _variables(self, told: Mapping[str, Any], label: str) -> dict[str, str]:
        """Return what the service's container would be told, and what this machine has in place of a container."""
        home = self.home / label
        own = {
            **self.settings,
            "AIRFLOW_HOME": str(home),
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            # Containers have addresses of their own, and a /tmp.
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.ports["api-server"]),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(self._port("worker" if label != "worker-2" else label)),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(self._port("triggerer")),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        }
        mounts = dict(str(one).split(":")[:2][::-1] for one in told.get("volumes", ()))
        found = {**own}
        for name, value in told["environment"].items():
            text = self._localize(str(value))
            for place in ("/aiflow",):
                if text == place or text.startswith(f"{place}/"):
                    source = mounts.get(place)
                    folder = self._owned(self.volumes / source) if source else home / place[1:]
                    text = str(folder) + text[len(place) :]
            found[name] = text
        return found

    def _localize(self, value: str) -> str:
        """Turn the names of services into addresses of this machine."""
        for name, port in _PORTS.items():
            value = re.sub(rf"(?<=[@/]){name}(:{port})?(?=/)", f"127.0.0.1:{self.ports[name]}", value)
        return value

    def _port(self, name: str) -> int:
        return self.ports.setdefault(name, free_port())

    def _owned(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam(_USER).pw_uid, _GROUP)
        return folder


def descendants_of(process: int) -> list[int]:
    """Return all processes that a process has started, and they in turn, as far as their parents live."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            status = entry.read_text().rpartition(")")[2].split()
            children.setdefault(int(status[1]), []).append(int(entry.parent.name))
    found, left = [], [process]
    while left:
        left += (those := children.get(left.pop(), []))
        found += those
    return found


def free_port() -> int:
    """Return a port of the loopback interface where nobody listens just now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
