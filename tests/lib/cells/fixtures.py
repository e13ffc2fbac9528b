"""What the lake's cells stand on, as fixtures beside the harness' own."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from cells.jobs import PRELOADED, PRELOADED_FOR_SPARK
from harness.zygote import PRELOADED as DRIVERS
from harness.zygote import PRELOADED_FOR_SPARK as SPARK_DRIVERS
from harness.zygote import Zygote


@pytest.fixture(scope="module")
def spark_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A session folder, in which the processes of this module's tests find one Spark server for each store."""
    from aiflow_sdk.engines.spark import stop_servers

    folder: Path = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        if certificate := _one_certificate():
            (folder / "one.pem").write_text(certificate)
            patch.setenv("SSL_CERT_FILE", str(folder / "one.pem"))
        patch.setenv("AIFLOW_SESSION_DIR", str(folder))
        patch.setenv("AIFLOW_SESSION_OWNER", str(os.getpid()))
        yield
        stop_servers(folder)


def _one_certificate() -> str | None:
    """Return one certificate to trust: reading all of a machine's takes half of the time of a client that is opened."""
    paths = ssl.get_default_verify_paths()
    file = Path(paths.cafile or paths.openssl_cafile)
    found = re.search("-----BEGIN.*?END CERTIFICATE-----", file.read_text(), re.DOTALL) if file.is_file() else None
    return f"{found[0]}\n" if found else None


@pytest.fixture(scope="session")
def writers() -> Iterator[Zygote]:
    """A process that has imported aiflow and both engines' drivers, for jobs that write."""
    zygote = writing_zygote()
    yield zygote
    zygote.close()


def writing_zygote() -> Zygote:
    """Start one; whoever does closes it."""
    return Zygote(tuple(dict.fromkeys((*DRIVERS, *SPARK_DRIVERS, *PRELOADED, *PRELOADED_FOR_SPARK))))
