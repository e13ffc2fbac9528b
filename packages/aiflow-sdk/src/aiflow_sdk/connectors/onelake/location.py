"""Where a table lies: its name or path, checked, below the environment's lake."""

from __future__ import annotations

import hashlib
import posixpath
import re
from pathlib import Path

from aiflow_sdk.config import Environment
from aiflow_sdk.errors import ConfigurationError, UnknownNameError, did_you_mean
from aiflow_sdk.ir import DatasetName
from aiflow_sdk.stores import open_store
from aiflow_sdk.variables import has_secret, has_template

STAGING = "_staging"
_LOCKS = "_locks"
RESERVED = frozenset({STAGING, _LOCKS})
"""Names below the lake's root that no table or file of a user has."""
_SEGMENT = re.compile(r"[^\W_][\w-]*")
_LONGEST_SEGMENT_BYTES = 200
_SHOWN_TABLES = 20


def is_deferred(text: str | None) -> bool:
    """Whether the text is only known where the task runs."""
    return text is not None and (has_template(text) or has_secret(text))


def check_table_name(name: str) -> None:
    """Raise ``ConfigurationError`` (``bad-table-name``) unless ``name`` is ``schema.table``."""
    segments = name.split(".")
    if len(segments) != 2 or not all(map(_is_segment, segments)):
        raise ConfigurationError(
            "bad-table-name",
            f"'{name}' is no name of a table",
            hint="write schema.table, each of letters, digits, '_' and '-', beginning with a letter or digit",
        )


def check_path(path: str) -> None:
    """Raise ``ConfigurationError`` for a path that leaves the lake, as far as its text alone tells."""
    if path.startswith("/") or "://" in path:
        raise outside(path)
    depth = 0
    for part in path.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            raise outside(path)
    if posixpath.normpath(path).strip("/").split("/")[0] in RESERVED:
        raise outside(path)
    if "\0" in path or depth == 0:
        raise _bad_path(f"{path!r} is no path of a table")
    longest = max(len(part.encode(errors="replace")) for part in path.split("/"))
    if longest > 255 or len(path.encode(errors="replace")) > 1000:
        raise _bad_path(f"the path is too long: '{path[:60]}…'")


def _bad_path(message: str) -> ConfigurationError:
    return ConfigurationError("bad-table-path", message, hint="write a short path below the lake's root")


def _is_segment(text: str) -> bool:
    return _SEGMENT.fullmatch(text) is not None and len(text.encode(errors="replace")) <= _LONGEST_SEGMENT_BYTES


def dataset_name(table: str | None, path: str | None) -> DatasetName:
    """Return the logical name, the same for a table however it is named: ``raw/orders`` is ``raw.orders``."""
    if table is None:
        segments = [part for part in (path or "").split("/") if part not in ("", ".")]
        table = ".".join(segments) if len(segments) == 2 and all(map(_is_segment, segments)) else "/".join(segments)
    return DatasetName("onelake", table)


def lake_root(environment: Environment) -> Path:
    """Return the folder of the environment's lake, links resolved."""
    return open_store(environment.lake_address).root.resolve()


def below_lake(environment: Environment, path: str) -> Path:
    """Return ``path`` below the lake, links resolved. Raises ``ConfigurationError`` (``outside-lake``)."""
    check_path(path)
    root = lake_root(environment)
    found = (root / path).resolve()
    if not found.is_relative_to(root) or found == root or found.relative_to(root).parts[0] in RESERVED:
        raise outside(path)
    if (found / "_delta_log").is_symlink():  # a write would commit to the table that it leads to
        raise outside(f"{path}/_delta_log")
    return found


def lock_key(folder: Path) -> str:
    """Return the key, in the lake's store, of the lock that writers of the folder take turns by."""
    return f"{_LOCKS}/{hashlib.sha256(str(folder).encode(errors='surrogateescape')).hexdigest()[:32]}"


def outside(path: str) -> ConfigurationError:
    """Return the error for a path that leads out of the lake."""
    return ConfigurationError(
        "outside-lake",
        f"'{path}' leads out of the environment's lake",
        hint=f"write a path relative to the lake's root, without '..' and not in {' or '.join(sorted(RESERVED))}",
    )


def table_folder(environment: Environment, table: str | None, path: str | None) -> Path:
    """Return where a table lies or would lie."""
    if table is not None:
        check_table_name(table)
        return below_lake(environment, table.replace(".", "/"))
    return below_lake(environment, path or "")


def unknown_table(environment: Environment, folder: Path, name: str) -> UnknownNameError:
    """Return the error for a table that is not there: near names of the lake, and where it was looked for."""
    root = lake_root(environment)
    known = sorted(
        f"{log.parent.parent.name}.{log.parent.name}"
        for log in root.glob("*/*/_delta_log")
        if log.parent.parent.name not in RESERVED
    )
    hint = did_you_mean(name, known)
    if hint is None:
        listed = ", ".join(known[:_SHOWN_TABLES]) + (" …" if len(known) > _SHOWN_TABLES else "")
        hint = f"the lake has: {listed}" if known else "the lake has no table yet"
    return UnknownNameError(
        "unknown-table",
        f"unknown table '{name}'",
        hint=hint,
        notes=[f"looked for a Delta table in {folder}", f"environment '{environment.name}', lake {root}"],
    )
