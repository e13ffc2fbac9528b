"""Spark sessions: made once, lent to one task at a time, and made anew when their server is gone.

Tasks that follow each other share one session. Tasks that run at the same time get one each, of the same server: a
temporary view that one of them makes (``createOrReplaceTempView("orders")``) must not be another's.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import sys
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from aiflow_sdk.engines.spark.embedded import Server, answers, running_server, start_server
from aiflow_sdk.errors import ConfigurationError, MissingExtraError, RunError, install_hint

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CONNECT_SECONDS = 10.0
DEFAULT_PORT = 15002
REMOVAL = "remove 'spark' from the environment in aiflow.toml"
_CLOCK = {"spark.sql.session.timeZone": "UTC"}

_Key = tuple[str, tuple[tuple[str, str], ...]]
_idle: defaultdict[_Key, list[SparkSession]] = defaultdict(list)
_guard = threading.Lock()
_pid = os.getpid()


@dataclass(frozen=True)
class Connection:
    """A Spark session and, where it is an embedded one, its server."""

    spark: SparkSession
    server: Server | None


@contextmanager
def connected(
    address: str | None, conf: Mapping[str, str], variables: Mapping[str, str], *, removal: str = REMOVAL
) -> Iterator[Connection]:
    """Lend a Spark session of the server at ``address`` (None: the embedded one), with these settings.

    ``removal``: what to do for the embedded one, where nobody answers. ``variables`` tell an embedded server how the
    lake's store is opened; another one has been told by whoever runs it.
    Raises ``MissingExtraError``, ``ConfigurationError`` or ``RunError`` when there is no such session to be had.
    """
    server = None
    if address is None:
        start_server(variables)
        _import_pyspark()  # takes longer than the server does to come up
        server = running_server(variables)
    else:
        _check_address(address, removal)
        _import_pyspark()
    key = (server.address if server else str(address), tuple(sorted(conf.items())))
    spark = _take(key, is_embedded=server is not None)
    try:
        settings = spark.conf.getAll
        with _active(spark, key[0]):
            yield Connection(spark, server)
    except BaseException:  # cleans up and lets it go on
        _stop(key, spark)  # whatever state it was left in
        raise
    _give_back(key, spark, settings)


@contextmanager
def _active(spark: SparkSession, address: str) -> Iterator[None]:
    """Make it this thread's session: what ``SparkSession.builder.getOrCreate()`` and PySpark's own functions find."""
    os.environ.setdefault("SPARK_REMOTE", address)  # without it PySpark does not even look for one
    this_thread = type(cast(Any, spark))._active_session
    before = getattr(this_thread, "session", None)
    this_thread.session = spark
    try:
        yield
    finally:
        this_thread.session = before


def _take(key: _Key, *, is_embedded: bool) -> SparkSession:
    global _pid
    # It is told as an error of ours.
    warnings.filterwarnings("ignore", r"\[RETRIES_EXCEEDED\]", UserWarning)
    with _guard:
        if _pid != os.getpid():  # a fork has no use for its parent's channels
            _pid = os.getpid()
            _idle.clear()
        for other in [other for other in _idle if is_embedded and _is_gone(other[0], key[0])]:
            for stale in _idle.pop(other):
                _stop(other, stale)
        if _idle[key]:
            return _idle[key].pop()
        return _make(*key, is_embedded=is_embedded)


def _give_back(key: _Key, spark: SparkSession, settings: Mapping[str, str]) -> None:
    """Keep the session for the next task, without temporary views; one whose settings were changed is not kept."""
    from pyspark.errors import PySparkException

    try:
        for view in spark.catalog.listTables():
            if view.isTemporary:
                spark.catalog.dropTempView(view.name)
        spark.clearTags()
        is_as_new = spark.conf.getAll == settings
    except PySparkException:  # the server has gone meanwhile; the task has nothing to do with that any more
        is_as_new = False
    if not is_as_new:
        _stop(key, spark)
        return
    with _guard:
        _idle[key].append(spark)


def _make(address: str, conf: tuple[tuple[str, str], ...], *, is_embedded: bool) -> SparkSession:
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.remote(address)
    spark: SparkSession = builder.create()
    atexit.unregister(_stop_all)
    atexit.register(_stop_all)  # after the server's own, so that sessions end before it
    if is_embedded:
        _fail_soon(spark)
    name, value = "", ""
    try:
        for name, value in {**_CLOCK, **dict(conf)}.items():
            spark.conf.set(name, value)
    except PySparkException as error:
        spark.client.close()
        raise ConfigurationError(
            "bad-spark-conf",
            f"the Spark server at {address} refuses {name}={value!r}: {first_line(error)}",
            hint="a Spark Connect client can change only what may change while Spark runs; set the rest at the server",
        ) from error
    return spark


def _fail_soon(spark: SparkSession) -> None:
    """Try a call of the embedded server again for about a second: it is near, so what is not there will not come."""
    from pyspark.sql.connect.client.retries import DefaultPolicy

    logging.getLogger("pyspark.sql.connect.client.logging").setLevel(logging.CRITICAL)
    spark.client.set_retry_policies([DefaultPolicy(max_retries=4, initial_backoff=50, max_backoff=500, jitter=0)])


def _stop(key: _Key, spark: SparkSession) -> None:
    try:
        # A server that is gone would be called again and again.
        cast(Any, spark).release_session_on_close = not _is_local(key[0]) or answers(key[0])
        spark.stop()
    except Exception:  # best effort on the way out, of a session that may be broken in any way
        logging.getLogger(__name__).debug("a Spark session could not be stopped", exc_info=True)


def _stop_all() -> None:
    if _pid == os.getpid():
        for key, sessions in _idle.items():
            while sessions:
                _stop(key, sessions.pop())


def _is_gone(address: str, newest: str) -> bool:
    """Whether an embedded server has ended, now that there is another one."""
    return address != newest and _is_local(address) and not answers(address)


def _is_local(address: str) -> bool:
    return address.startswith("sc://127.0.0.1:")


def _import_pyspark() -> None:
    main = sys.modules["__main__"]
    # Without a file (``python -c``) pyspark believes that its doctests run, looks for a SPARK_HOME and exits.
    is_fileless = not hasattr(main, "__file__")
    if is_fileless:
        main.__file__ = "<program>"
    try:
        import pyspark.sql
        import pyspark.sql.connect.session  # noqa: F401 imported to learn whether it is there
    except ImportError as error:
        raise MissingExtraError(
            "missing-extra", f"the engine 'spark' needs a package: {error}", hint=install_hint("spark")
        ) from error
    finally:
        if is_fileless:
            del main.__file__


def _check_address(address: str, removal: str) -> None:
    """Raise unless somebody listens there; PySpark itself would try for ten minutes."""
    parts = urlsplit(address)
    if parts.scheme != "sc" or not parts.hostname:
        raise ConfigurationError(
            "bad-spark-address",
            f"'{address}' is no address of a Spark Connect server",
            hint='write spark = "sc://host:port"',
        )
    try:
        port = parts.port or DEFAULT_PORT
        socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close()
    except ValueError as error:
        raise ConfigurationError(
            "bad-spark-address", f"the port of '{address}' is no number: {error}", hint='write spark = "sc://host:port"'
        ) from error
    except OSError as error:
        raise RunError(
            "spark-unreachable",
            f"no Spark Connect server answers at {parts.hostname}:{port}: {error}",
            hint=f"start it, or {removal} to use the embedded one",
            retryable=True,
        ) from error


def first_line(error: BaseException) -> str:
    """Return what an error says without the server's stack that PySpark appends."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
