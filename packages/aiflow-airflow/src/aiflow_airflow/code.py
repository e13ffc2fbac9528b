"""The user's own code: a project's wheel, unpacked once as the folder that tasks import it from.

Nothing there may be written: what one run changed, the next would import.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiflow_airflow.folders import Artifact, SharedFolders, writing
from aiflow_sdk.errors import DocumentError

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo


class UserCode:
    """The projects' code below ``<home>/code``, a folder for each wheel. Many processes may want one at once."""

    def __init__(self, home: Path) -> None:
        self._folders = SharedFolders(home / "code", "code")

    def folder_of(self, wheel: Artifact) -> Path:
        """Return the folder that holds what the wheel does: a project's root, and an entry for ``sys.path``.

        All who run this wheel share it. Raises ``DocumentError`` (``broken-wheel``, ``damaged-download``) and
        ``StoreError`` (``home-not-writable``).
        """
        return self._folders.find_or_make(_key(wheel), _Unpacking(wheel))

    @contextmanager
    def in_use(self, wheel: Artifact) -> Iterator[Path]:
        """Like :meth:`folder_of`, and :meth:`collect` leaves the folder alone while the block runs."""
        with self._folders.in_use(_key(wheel), _Unpacking(wheel)) as folder:
            yield folder

    def collect(self, keep_days: float) -> list[str]:
        """Remove the folders that nobody has used for so many days; return their keys."""
        return self._folders.collect(keep_days)


def _forbid_writing(folder: Path) -> None:
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = os.path.join(place, name)
            os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) & ~0o222)
        os.chmod(place, 0o555)


def _key(wheel: Artifact) -> str:
    return wheel.sha[:32]


@dataclass(frozen=True, slots=True)
class _Unpacking:
    wheel: Artifact

    def __call__(self, folder: Path) -> None:
        import compileall
        import io
        import zlib
        from zipfile import BadZipFile, ZipFile

        content = io.BytesIO(self.wheel.read())
        try:
            with ZipFile(content) as archive:
                for member in archive.infolist():
                    self._unpack(archive, member, folder)
        except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
            raise self._broken(f"it cannot be unpacked: {error}") from error
        with writing(folder):
            # Tasks cannot keep what they compile. Of a user's Python of another version it is of no use and no harm.
            compileall.compile_dir(folder, quiet=2, stripdir=str(folder))
            _forbid_writing(folder)

    def _unpack(self, archive: ZipFile, member: ZipInfo, folder: Path) -> None:
        name, mode = member.filename, member.external_attr >> 16
        parts = name.removesuffix("/").split("/")
        if "\\" in name or {"", ".", ".."} & set(parts):
            raise self._broken(f"it holds '{name}', which lies outside of it")
        if stat.S_ISLNK(mode):
            raise self._broken(f"it holds '{name}', which is a link")
        data = archive.read(member)
        path = folder.joinpath(*parts)
        with writing(path):
            try:
                if member.is_dir():
                    path.mkdir(parents=True, exist_ok=True)
                    return
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    file.write(data)
            except (FileExistsError, NotADirectoryError) as error:
                raise self._broken(f"it holds '{name}' twice, or as a file and a folder") from error
            if mode & 0o111:
                path.chmod(0o755)

    def _broken(self, why: str) -> DocumentError:
        return DocumentError(
            "broken-wheel",
            f"the project's wheel {self.wheel.file} is no good: {why}",
            hint="deploy the project anew",
        )
