"""Writes wheels whose bytes follow from their content alone, wherever and whenever they are made.

The format is that of "Binary distribution format" in the Python Packaging User Guide. Nothing is compressed: what a
compressor makes of a file differs from one of its versions to the next.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Mapping

_DATE = (1980, 1, 1, 0, 0, 0)
_PLAIN, _EXECUTABLE = 0o100644, 0o100755

Files = Mapping[str, tuple[bytes, bool]]
"""Path in the archive → content, and whether it may be executed."""


def wheel_bytes(files: Files, dist_info: str) -> bytes:
    """Return a wheel of these files, which hold ``<dist_info>/METADATA`` and ``WHEEL`` but not ``RECORD``."""
    record = f"{dist_info}/RECORD"
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for path in sorted(files):
        writer.writerow((path, f"sha256={_digest(files[path][0])}", len(files[path][0])))
    writer.writerow((record, "", ""))
    whole = {**files, record: (rows.getvalue().encode(), False)}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
        # Metadata last, as the format recommends: what is needed first is then found at the archive's end.
        for path in sorted(whole, key=lambda path: (path.startswith(f"{dist_info}/"), path)):
            content, is_executable = whole[path]
            entry = zipfile.ZipInfo(path, _DATE)
            entry.create_system = 3  # on every system the same: permissions are written as on this one
            entry.external_attr = (_EXECUTABLE if is_executable else _PLAIN) << 16
            target.writestr(entry, content)
    return archive.getvalue()


def pure_wheel(name: str, version: str, files: Files) -> tuple[str, bytes]:
    """Return the file name and the content of a wheel of pure Python that needs nothing else.

    ``name`` is normalised already (``[a-z0-9_]+``).
    """
    dist_info = f"{name}-{version}.dist-info"
    about = {
        f"{dist_info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{dist_info}/WHEEL": "Wheel-Version: 1.0\nGenerator: aiflow\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    whole = {**files, **{path: (text.encode(), False) for path, text in about.items()}}
    return f"{name}-{version}-py3-none-any.whl", wheel_bytes(whole, dist_info)


def rewritten(wheel: bytes) -> bytes:
    """Return a wheel that some build made as this module would have written it: undated, sorted, not compressed."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        files = {
            entry.filename: (archive.read(entry), bool(entry.external_attr >> 16 & 0o100))
            for entry in archive.infolist()
            if not entry.is_dir()
        }
    record = next(path for path in files if path.endswith(".dist-info/RECORD"))
    del files[record]
    return wheel_bytes(files, record.removesuffix("/RECORD"))


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
