"""The folder where a service keeps files of its own: the audit's key and checkpoints are those of one database."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiflow_sdk.errors import ConfigurationError
from aiflow_sdk.stores.files import try_lock
from aiflow_service.database.connection import address_of


@contextmanager
def claimed_folder(folder: Path, database: str) -> Iterator[None]:
    """Claim a folder for a database as long as the block runs; replicas on the same database share it.

    Raises ``ConfigurationError`` (``service-folder``) where a service on another database has it, or where nothing can
    be written.
    """
    name = address_of(database).render_as_string(hide_password=True)
    path = folder / "service.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            "service-folder",
            f"the service's folder {folder} cannot be written to: {error.strerror}",
            hint="start it where its user may write: the audit's key and checkpoints lie there",
        ) from error
    with file:
        if try_lock(file.fileno()):
            file.truncate(0)
            file.write(json.dumps({"database": name, "pid": os.getpid()}))
            file.flush()
        try_lock(file.fileno(), shared=True)  # whoever comes sees that it is claimed
        file.seek(0)
        try:
            told = json.loads(file.read())
        except ValueError:
            told = {}  # it is being written by one that began in the same moment
        if told.get("database", name) != name:
            raise ConfigurationError(
                "service-folder",
                f"the service of process {told.get('pid')} on {told['database']} has the folder {folder}",
                hint="end it, start this one in another folder, or name an audit key and checkpoints of its own: "
                "AIFLOW_AUDIT_KEY and AIFLOW_AUDIT_CHECKPOINTS",
            )
        yield
