"""One file of the user's code: its content's digest, and the modules that its import statements name."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

Stamp: TypeAlias = tuple[int, int, int, int]
"""(mtime_ns, ctime_ns, size, inode): while it stays, so does the content (but see :attr:`SourceFile.is_settled`)."""

_IMPORT_WORD = re.compile(rb"\bimport\b")
_IMPORT_LINE = re.compile(
    rb"^[ \t]*((?:from[ \t]+[\w.]+[ \t]+)?import[ \t]+(?:\([^()#]*\)|[\w.*, \t]+))[ \t]*(?:#[^\n]*)?$", re.MULTILINE
)
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "__pypackages__"})
_LARGEST = 2**63 - 1  # what a database column holds
_TICK_NS = 20_000_000
_COARSE_TICK_NS = 2_000_000_000


class SourceFile(NamedTuple):
    """What is known of one file while its stamp stays."""

    stamp: Stamp
    digest: str
    """SHA-256 of the content without a byte order mark and with line ends ``\\n``."""
    imports: tuple[str, ...]
    """``a.b`` of ``import a.b``, ``a.b:c`` of ``from a.b import c``; relative ones made absolute, from the root on."""
    looked_at_ns: int
    """When the content was read."""

    @property
    def is_settled(self) -> bool:
        """Whether a change after the content was read would show in the stamp.

        Clocks of file systems tick: a second write within the tick of the first has the same time.
        """
        newest = max(self.stamp[:2])
        return self.looked_at_ns - newest > (_TICK_NS if newest % 1_000_000_000 else _COARSE_TICK_NS)


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp that the status of a file gives."""
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino & _LARGEST)


def read_source(root: Path, path: str, stamp: Stamp) -> SourceFile:
    """Return what the file ``path`` holds; one that is no Python imports nothing. Raises ``OSError``."""
    looked_at_ns = time.time_ns()
    content = normalise((root / path).read_bytes())
    try:
        imports = tuple(sorted(set(_find_imports(_parse_imports(content), path))))
    except (SyntaxError, ValueError):
        imports = ()
    return SourceFile(stamp, hashlib.sha256(content).hexdigest(), imports, looked_at_ns)


def normalise(content: bytes) -> bytes:
    """Return the content without a byte order mark and with line ends ``\\n``."""
    return content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")


def _parse_imports(content: bytes) -> ast.Module:
    """Return a tree with all import statements: of their lines alone where it is sure that these are all."""
    lines = _IMPORT_LINE.findall(content)
    if len(lines) == len(_IMPORT_WORD.findall(content)) and b"\\\n" not in content:
        try:
            return parse_source(b"\n".join(lines))
        except SyntaxError:
            pass  # a line of prose
    return parse_source(content)


def parse_source(content: bytes) -> ast.Module:
    """Return the syntax tree of a file's content, its coding line obeyed, silently. Raises ``SyntaxError``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(content)


def scan_sources(root: Path, unimportable: list[str] | None = None) -> dict[str, Stamp]:
    """Return every importable ``.py`` file below ``root`` (relative, with ``/``) with its stamp.

    Folders that no import can name (``dt=2026-11-20``, hidden ones), and virtual environments, are not entered. To
    ``unimportable`` the ``.py`` files are added whose own name no import can say.
    """
    found: dict[str, Stamp] = {}
    folders = [(str(root), "")]
    linked: set[str] = set()
    while folders:
        folder, prefix = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        if prefix and any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        for entry in entries:
            name = entry.name
            if name.endswith(".py"):
                if not name[:-3].isidentifier():
                    if unimportable is not None and not name.startswith("."):
                        unimportable.append(prefix + name)
                elif entry.is_file():
                    found[prefix + name] = stamp_of(entry.stat())
            elif name.isidentifier() and name not in _SKIPPED_FOLDERS and entry.is_dir():
                if entry.is_symlink():
                    target = os.path.realpath(entry.path)
                    if target in linked or os.path.realpath(folder).startswith(target):
                        continue
                    linked.add(target)
                folders.append((entry.path, f"{prefix}{name}/"))
    return found


def module_name(path: str) -> str:
    """Return the name that the file ``path`` is imported by: ``a.b`` of ``a/b.py`` and of ``a/b/__init__.py``."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def import_origin(statement: ast.ImportFrom, path: str) -> str:
    """Return the module that ``from … import`` in the file ``path`` names, from the root on; empty: the root itself."""
    if not statement.level:
        return statement.module or ""
    package = path.split("/")[:-1]
    start = package[: max(0, len(package) - statement.level + 1)]
    return ".".join([*start, *([statement.module] if statement.module else [])])


def _find_imports(tree: ast.Module, path: str) -> Iterator[str]:
    bodies: list[list[ast.stmt]] = [tree.body]
    while bodies:
        for statement in bodies.pop():
            match statement:
                case ast.Import(names=names):
                    yield from (name.name for name in names)
                case ast.ImportFrom(names=names):
                    origin = import_origin(statement, path)
                    yield from (f"{origin}:{name.name}" if origin else name.name for name in names)
                case _:
                    bodies.extend(inner_blocks(statement))


def inner_blocks(statement: ast.stmt | ast.ExceptHandler | ast.match_case) -> Iterator[list[ast.stmt]]:
    """Yield the blocks of statements inside a statement."""
    for name in ("body", "orelse", "finalbody"):
        if block := getattr(statement, name, None):
            yield block
    for name in ("handlers", "cases"):
        for inner in getattr(statement, name, ()):
            yield from inner_blocks(inner)
