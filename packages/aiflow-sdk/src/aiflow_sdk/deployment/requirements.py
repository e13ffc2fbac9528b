"""What a project needs installed, as a text of requirements and as wheels of what no registry has."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from aiflow_sdk.code import interpreter
from aiflow_sdk.config import Project
from aiflow_sdk.deployment.credentials import credential_problems, literal_credential
from aiflow_sdk.errors import ConfigurationError, ProblemsError, Where

_PATIENCE_SECONDS = 120
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_LOCAL = re.compile(r"(?:\.{0,2}/|\.{1,2}$|~|file:)")
_NO_TEXT = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock")

_PROGRAM = """
import json, sys
from importlib.metadata import distributions
found = {}
for one in distributions():
    name = one.metadata["Name"]
    if name and name not in found:
        try:
            origin = json.loads(one.read_text("direct_url.json") or "null")
        except ValueError:
            origin = None
        found[name] = [name, one.version, origin, str(getattr(one, "_path", ""))]
print()
print(json.dumps({"python": "%d.%d" % sys.version_info[:2], "installed": list(found.values())}))
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed distribution."""

    name: str
    version: str
    origin: Mapping[str, Any]
    """Its ``direct_url.json`` (PyPA's "Recording the Direct URL Origin"); empty: it came from a registry."""
    dist_info: str
    """The folder that describes it."""

    @property
    def key(self) -> str:
        """The name in the one form in which names are compared."""
        return normalised(self.name)

    @property
    def path(self) -> Path | None:
        """The folder or file of this machine that it was installed from."""
        address = urlsplit(self.origin.get("url", ""))
        return Path(unquote(address.path)) if address.scheme == "file" else None

    @property
    def is_editable(self) -> bool:
        """Whether its files are used where they are written."""
        return bool(self.origin.get("dir_info", {}).get("editable"))

    @property
    def requirement(self) -> str:
        """The line that installs the same from where it came, which is not this machine."""
        url = self.origin.get("url")
        if not url:
            return f"{self.name}=={self.version}"
        if vcs := self.origin.get("vcs_info"):
            return f"{self.name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}"
        return f"{self.name} @ {url}"


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a project needs: a text, and what must be made into wheels because only this machine has it."""

    text: str
    """Lines as ``uv pip install -r`` takes them."""
    python: str
    """Version of the interpreter that imports the project's code: ``3.11``."""
    local: tuple[Installed, ...] = ()
    folders: tuple[Path, ...] = ()
    """Of a lock that names folders: these."""


def find_requirements(project: Project) -> Requirements:
    """Return what the project needs: of its lock, else of what its interpreter has installed.

    With a lock, what is installed from this machine counts as far as the lock does not name it. Raises
    ``ConfigurationError`` (``missing-lock``, ``unusable-lock``, ``broken-interpreter``), and where a password stands in
    an address, comments included, ``DefinitionError`` (``literal-secret``), several as ``ProblemsError``.
    """
    python, installed = _ask(interpreter(project))
    if project.lock is None:
        for one in installed:
            if one.path is None and any(credential_problems(one.name, one.requirement)):
                raise literal_credential(Where(about=f"the installed package '{one.name}'"))
        text = "".join(sorted(f"{one.requirement}\n" for one in installed if one.path is None))
        return Requirements(text, python, tuple(one for one in installed if one.path))
    path = project.root / project.lock
    where = Where(project.config_path.name if project.config_path else None, about="lock")
    if path.name in _NO_TEXT:
        raise ConfigurationError(
            "unusable-lock",
            f"'{project.lock}' is no text of requirements, which is what a deployment needs",
            where=where,
            hint="name a text: uv export --format requirements-txt -o requirements.lock, or what your tool has for it",
        )
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            "missing-lock",
            f"the lock file '{project.lock}' cannot be read: {error}",
            where=where,
            hint='correct lock = "…" in aiflow.toml, or remove it: then the installed versions count',
        ) from error
    if problems := list(credential_problems(project.lock, content)):
        raise ProblemsError(problems)
    kept: list[str] = []
    named: set[str] = set()
    folders: list[Path] = []
    for number, line in _logical_lines(content):
        target = _local_target(line)
        if line.startswith(("-r", "-c", "--requirement", "--constraint")):
            raise ConfigurationError(
                "unusable-lock",
                f"'{line}' names another file, which a deployment would have to take along",
                where=Where(project.lock, number),
                hint="write all requirements into one file, as uv pip compile does",
            )
        if target is not None:
            folders.append((path.parent / target).resolve())
            continue
        if found := _NAME.match(line):
            named.add(normalised(found[0]))
        kept.append(line)
    local = tuple(one for one in installed if one.path and one.key not in named and one.path not in folders)
    return Requirements("".join(f"{line}\n" for line in kept), python, local, tuple(folders))


def normalised(name: str) -> str:
    """Return the name of a distribution in the one form in which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _logical_lines(content: str) -> Iterator[tuple[int, str]]:
    """Yield the requirements, each with its line; what a backslash goes on with belongs to it, comments do not."""
    began, whole = 0, ""
    for number, line in enumerate(content.splitlines(), 1):
        began = began if whole else number
        text = re.sub(r"(^|\s)#.*$", "", line).strip()
        whole = f"{whole} {text}".strip()
        if whole.endswith("\\"):
            whole = whole[:-1].rstrip()
            continue
        if whole:
            yield began, whole
        whole = ""
    if whole:
        yield began, whole


def _local_target(line: str) -> str | None:
    """Return the folder or file of this machine that a requirement names, from the lock's folder; else None."""
    editable = re.match(r"(?:-e|--editable)[= ]\s*(.+)", line)
    target = (editable[1] if editable else line.partition(" @ ")[2] or line).strip()
    target = re.split(r"\s(?:--|;)|\s+;", target)[0].strip()
    if editable is None and not _LOCAL.match(target):
        return None
    target = re.sub(r"\[[^\]]*\]$", "", target)
    return unquote(urlsplit(target).path) if target.startswith("file:") else target


def _ask(python: str) -> tuple[str, Sequence[Installed]]:
    """Return the version of an interpreter and what it has installed, sorted by name."""
    try:
        done = subprocess.run(
            [python, "-P", "-c", _PROGRAM], capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=True
        )
        data = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        told = getattr(error, "stderr", None) or ""
        raise ConfigurationError(
            "broken-interpreter",
            f"{python} cannot tell what it has installed: {error}",
            hint='correct python = "…" in aiflow.toml',
            notes=told.strip().splitlines()[-3:],
        ) from error
    found = [Installed(name, version, origin or {}, place) for name, version, origin, place in data["installed"]]
    return data["python"], sorted(found, key=lambda one: one.key)
