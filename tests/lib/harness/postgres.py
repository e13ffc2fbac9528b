"""PostgreSQL: Debian's server in a process of its own, on loopback, its data in a folder that goes with it."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from harness.process import START_SECONDS

USER = "aiflow"
_FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=200", "shared_buffers=64MB")
"""Nobody reads the data after a crash of the machine."""
_DURABLE = ("max_connections=200", "shared_buffers=256MB", "max_wal_size=4GB")


@dataclass(frozen=True)
class PostgresServer:
    """A server on 127.0.0.1 that lets everybody on this machine in."""

    programs: Path
    port: int
    folder: Path
    _command: list[str]
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def database(self, *options: str, name: str | None = None) -> str:
        """Make an empty database and return its address, ``postgresql://…``; options are those of ``createdb``.

        One that is named is made anew.
        """
        where = ("--host=127.0.0.1", f"--port={self.port}", f"--username={USER}")
        if name is not None:
            subprocess.run([self.programs / "dropdb", *where, "--if-exists", name], check=True, capture_output=True)
        name = name or f"test_{next(self._numbers)}"
        subprocess.run([self.programs / "createdb", *where, *options, name], check=True)
        return self.address(name)

    def address(self, name: str) -> str:
        """Return the address of a database that is there."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start the server and return once it answers."""
        log = self.folder / "log"
        with log.open("ab") as written:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
        self._running.append(process)
        _await(self.programs, self.port, process, log)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT cuts connections and ends in order, SIGQUIT leaves all as a crash does."""
        for process in self._running:
            process.send_signal(how)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


@contextmanager
def postgres_server(*, durable: bool = False, kept: Path | None = None) -> Iterator[PostgresServer]:
    """Run a server until the block ends, or this process does; ``durable``: as in earnest, for measurements.

    ``kept`` is a folder where its data stay for the next server, else they go.
    """
    programs = _programs()
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
    with nullcontext(kept) if kept else tempfile.TemporaryDirectory(prefix="aiflow-postgres-") as folder:
        data = Path(folder, "data")
        if os.geteuid() == 0:  # the server refuses to be root, and its own user may not look into root's folders
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            become = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        else:
            become = []
        initdb = [str(programs / "initdb"), f"--pgdata={data}", f"--username={USER}", "--auth=trust", "--no-sync"]
        initdb += ["--encoding=UTF8", "--locale=C"]
        if not data.exists():
            subprocess.run(["setpriv", *become, *initdb], check=True, capture_output=True, cwd=folder)
        port = _free_port()
        settings = (
            "listen_addresses=127.0.0.1",
            f"port={port}",
            f"unix_socket_directories={folder}",
            *(_DURABLE if durable else _FAST),
        )
        postgres = [str(programs / "postgres"), f"-D{data}", *(f"--{setting}" for setting in settings)]
        # However this process ends, so does the server.
        server = PostgresServer(programs, port, Path(folder), ["setpriv", *become, "--pdeathsig=INT", *postgres])
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _programs() -> Path:
    """Return the folder of the server's programs: Debian's newest, else that of the path."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    found = debian[-1] if debian else shutil.which("initdb")
    if found is None:
        raise RuntimeError("PostgreSQL is not installed: run scripts/servers.sh (make test does)")
    return Path(found).parent


def _await(programs: Path, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    asking = [str(programs / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}"]
    while subprocess.run(asking, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL does not listen:\n{log.read_text('utf-8', 'replace')[-4000:]}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
