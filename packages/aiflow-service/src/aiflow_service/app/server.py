"""Starts the service: opens and migrates the database, takes the port, serves until it is told to end."""

from __future__ import annotations

import errno
import gc
import logging
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path

import uvicorn

from aiflow_sdk.errors import ConfigurationError
from aiflow_sdk.web import is_loopback
from aiflow_service import __version__
from aiflow_service.api.figures import RETENTION_SOUND
from aiflow_service.app.assembly import create_app
from aiflow_service.app.file import read_settings_file
from aiflow_service.app.folder import claimed_folder
from aiflow_service.app.protocol import BoundedProtocol
from aiflow_service.app.settings import DEFAULT_PORT, Settings, default_database
from aiflow_service.audit import AuditKeeper, Caller, CheckpointMemory, CheckpointWriter, Entry, read_signing_key
from aiflow_service.audit.entries import SERVICE
from aiflow_service.cost import NO_PRICES, read_prices
from aiflow_service.database import Database, open_database
from aiflow_service.database.connection import address_of, is_absent, readable_by_others, told_failures
from aiflow_service.database.identity import ensure_identity
from aiflow_service.database.migration import migrate
from aiflow_service.keeping import FOR_EVER, RetentionKeeper
from aiflow_service.logs import set_up_logs

_GOODBYE_SECONDS = 10
_LOG = logging.getLogger("aiflow_service.app")


def serve_project(
    folder: Path,
    *,
    host: str,
    port: int | None,
    database: str | None,
    settings: Path | None,
    on_ready: Callable[[str, bool], None],
) -> None:
    """Serve for a project's folder, where its database lies unless another is named; raises as :func:`serve`.

    ``settings`` is the file that says how people sign in and for how long things are kept; ``on_ready`` is told whether
    nobody signs in, too.

    The SDK's command line finds this through the entry point ``aiflow.services``.
    """
    address = database or default_database(folder)
    file = read_settings_file(settings)
    configured = Settings(
        address,
        host,
        DEFAULT_PORT if port is None else port,
        sign_in=file.sign_in,
        home=folder.absolute() / ".aiflow",
        audit_checkpoints=os.environ.get("AIFLOW_AUDIT_CHECKPOINTS"),
        audit_key=Path(key) if (key := os.environ.get("AIFLOW_AUDIT_KEY")) else None,
        prices=Path(prices) if (prices := os.environ.get("AIFLOW_PRICES")) else None,
        retention=file.retention,
    )
    serve(configured, lambda said: on_ready(said, configured.sign_in is None))


def serve(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; ``on_ready`` is told the address once it answers.

    Raises ``ConfigurationError`` or ``StoreError`` where it cannot begin: a port that is taken, a host that is not this
    machine's, a database that does not open, that a newer service has migrated or whose user may not migrate it; and
    where the database is not there when it ends.
    """
    if settings.sign_in is None and not is_loopback(settings.host):
        raise ConfigurationError(
            "service-host",
            f"nobody signs in to this service, so it listens on loopback alone and not on {settings.host}",
            hint="leave --host out, or say with --settings how people sign in (docs/service-access.md)",
        )
    prices = read_prices(settings.prices) if settings.prices else NO_PRICES
    listening = _listen(settings.host, settings.port)
    set_up_logs(settings.log_level)
    if settings.sign_in is None:
        _LOG.warning("nobody signs in: whoever is on this machine sees and may do everything")
    if settings.retention != FOR_EVER:
        _LOG.warning("what is too old is removed: %s", settings.retention.model_dump_json(exclude_unset=True))
    try:
        if is_absent(settings.database):
            _LOG.info("there is no database at %s yet: a new one is made", address_of(settings.database).database)
        # Told is what fails while it begins, or when its end is to be recorded.
        with closing(open_database(settings.database)) as database, told_failures():
            migrate(database)
            ensure_identity(database)
            _warn_of_readers(settings.database)
            with (
                _claimed(settings),
                _kept_audit(database, settings) as keeper,
                closing(RetentionKeeper(database, settings.retention)) as retention,
            ):
                RETENTION_SOUND.set_function(lambda: float(retention.is_sound))
                app = create_app(database, keeper, prices, settings.sign_in, settings.retention)
                # What is remembered lives long, what a request makes goes at once: a look through all seldom pays.
                gc.freeze()
                gc.set_threshold(20_000, 20, 50)
                sys.setswitchinterval(0.001)  # requests wait that long for the thread that writes
                config = uvicorn.Config(
                    app,
                    log_config=None,
                    access_log=False,
                    lifespan="on",
                    timeout_graceful_shutdown=_GOODBYE_SECONDS,
                    timeout_keep_alive=75,
                    http=BoundedProtocol,
                    server_header=False,
                )
                host, port = listening.getsockname()[:2]
                address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
                with suppress(KeyboardInterrupt):  # it is raised again once all is written
                    _Server(config, lambda: on_ready(address)).run(sockets=[listening])
    finally:
        listening.close()


def _warn_of_readers(address: str) -> None:
    """Warn of files of the database that others may read, as earlier versions made them: somebody may have meant it."""
    if files := readable_by_others(address):
        named = shlex.join(str(file) for file in files)
        _LOG.warning(
            "others than the owner may read the database's files; if they are not meant to: chmod 600 %s", named
        )


def _claimed(settings: Settings) -> AbstractContextManager[None]:
    """Claim the folder, unless the audit's key and checkpoints both lie elsewhere."""
    if settings.audit_key and settings.audit_checkpoints:
        return nullcontext()
    return claimed_folder(settings.folder, settings.database)


@contextmanager
def _kept_audit(database: Database, settings: Settings) -> Iterator[AuditKeeper]:
    """Record that the service starts and ends, and sign checkpoints in between."""
    key_file = settings.audit_key or settings.folder / "audit.key"
    key = read_signing_key(key_file)
    address = settings.audit_checkpoints or str(settings.folder / "audit-checkpoints")
    keeper = AuditKeeper(database, CheckpointWriter(address, key, memory=CheckpointMemory(key_file, address)))
    caller = Caller(SERVICE, origin=socket.gethostname())
    facts = {"version": __version__, "host": settings.host, "pid": os.getpid()}
    facts |= {"retention": settings.retention.model_dump(exclude_unset=True)} if settings.retention != FOR_EVER else {}
    try:
        keeper.record(Entry(caller, "service.started", "service", "aiflow-service", details=facts))
        yield keeper
        keeper.record(Entry(caller, "service.stopped", "service", "aiflow-service", details=facts))
    finally:
        keeper.close()


class _Server(uvicorn.Server):
    """Tells when it answers, and lets those who listen to live runs go when it ends."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        services = self.config.app.state.services  # type: ignore[union-attr]  # it is ours, and no name of one
        services.is_ending = True
        services.changes.ring()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise ConfigurationError(
            "service-port", f"port {port} of {host} {why}", hint="end what listens there, or name another with --port"
        ) from error
    listening.listen(1024)
    return listening
