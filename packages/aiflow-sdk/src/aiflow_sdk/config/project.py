"""A project: the folder of ``aiflow.toml``, what the file says, and the environments that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from aiflow_sdk.config.address import StoreKind, parse_address
from aiflow_sdk.config.configuration import Configuration, ConfigurationItem, stated_names
from aiflow_sdk.config.environment import Environment, LakeRoot, ReadThrough
from aiflow_sdk.config.settings import SettingsFile, flatten_masked, read_settings
from aiflow_sdk.config.storage import storage_options
from aiflow_sdk.errors import AiflowError, ConfigurationError, ProblemsError, UnknownNameError, Where, did_you_mean

CONFIG_FILE = "aiflow.toml"
DEFAULT_PROJECT = "default"

_COPY_OF_DEV = re.compile(r"(dev|pr)-[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Project:
    """A folder with pipelines, and what its ``aiflow.toml`` says; without one the defaults hold."""

    root: Path
    """Absolute. It is on the import path of everything that the project runs."""
    name: str = DEFAULT_PROJECT
    """``project`` of aiflow.toml, else ``default``; never the folder's name."""
    pipelines: tuple[str, ...] = ("pipelines",)
    """Packages or folders, from the root, that are searched for pipelines."""
    python: str | None = None
    """The interpreter that imports user code; None: the one that runs aiflow."""
    lock: str | None = None
    """A file that pins what is installed, from the root; its content is a part of every version."""
    discovery_timeout_seconds: float = 30
    """How long one module may take to be imported and its pipelines to be built."""
    environments: Mapping[str, Environment] = field(default_factory=dict)
    default_environment: str = "dev"
    stated: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Environment → the names of what aiflow.toml states of it; see ``aiflow_sdk.config.configuration``."""
    masked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """``schema.table`` → the columns that ``aiflow sample`` masks."""
    config_path: Path | None = None
    """The ``aiflow.toml`` that was read; None: there is none."""

    def place_of(self, *keys: str) -> Where:
        """Return where a setting stands: the file and the line, as far as they are known, or that it was handed out."""
        if keys[:1] == ("environments",) and (found := self.environments.get("".join(keys[1:2]))):
            names = {".".join(keys[2:end]) for end in (3, 4)}
            for item in found.handed_out:
                if item.name in names:
                    return item.where
        if self.config_path is None or not self.config_path.is_file():
            return Where(CONFIG_FILE, about=".".join(keys))
        return SettingsFile(self.config_path, self.config_path.read_text("utf-8")).where(*keys)

    def environment(self, name: str | None = None) -> Environment:
        """Return the environment of that name, else the default one, with ``root`` set.

        ``dev`` exists even where no file names it; ``dev-ana`` and ``pr-123`` are copies of it, each with a lake root
        of its own. Raises ``UnknownNameError`` with the nearest name.
        """
        name = name or self.default_environment
        found = self.environments.get(name)
        if found is None and (name == "dev" or _COPY_OF_DEV.fullmatch(name)):
            dev = self.environments.get("dev", Environment())
            found = dev if name == "dev" else self._apart(dev.copy_as(name))
        if found is None:
            known = {"dev", *self.environments}
            place = (
                f"looked in {self.config_path}"
                if self.config_path
                else f"there is no {CONFIG_FILE} in {self.root} or above"
            )
            raise UnknownNameError(
                "unknown-environment",
                f"unknown environment '{name}'",
                where=Where(CONFIG_FILE) if self.config_path else None,
                hint=did_you_mean(name, known) or f"known: {', '.join(sorted(known))}",
                notes=[place, "dev-NAME and pr-NUMBER are copies of dev and need not be named"],
            )
        handed_out = found.handed_out
        if found.reads_from and any(one.configuration_from_service for one in self.environments.values()):
            handed_out += tuple(self._handed_out_to_read(found))
        return replace(found, root=self.root, reads=self._reads(found), handed_out=handed_out)

    def asking(self, name: str | None = None) -> tuple[str, ...]:
        """Return the environments for which the service is to be asked where this one is meant: itself, as ``dev`` a
        copy of it, and those that it reads from. Raises ``UnknownNameError``."""
        meant = name or self.default_environment
        environment = self.environment(meant)
        chain = ["dev" if self.is_copy(meant) else meant, *(one.environment for one in environment.reads)]
        named = dict.fromkeys("dev" if self.is_copy(one) else one for one in chain)
        return tuple(one for one in named if one in self.environments and self._asks(one))

    def _asks(self, name: str) -> bool:
        return self.environments[name].configuration_from_service

    def configured(self, configuration: Configuration) -> Project:
        """Return this project with what the service hands out for an environment in its place.

        Raises as :meth:`Configuration.fill`, and ``ConfigurationError`` (``shared-lake``).
        """
        name = configuration.environment
        stated = replace(self.environments[name], root=self.root)
        filled = replace(configuration.fill(stated, self.stated.get(name, ())), root=None)
        environments = {**self.environments, name: filled}
        for problem in _shared({"dev": Environment(), **environments}, self.root):
            raise problem.error  # an account that the options name makes places one that seemed two
        return replace(self, environments=environments)

    def _handed_out_to_read(self, environment: Environment) -> Iterator[ConfigurationItem]:
        """Yield what was handed out of the environments that this one reads from and that it goes by: their storage."""
        seen = {environment.name}
        while (name := environment.reads_from) is not None and name not in seen:
            seen.add(name)
            is_theirs = environment.reads_storage is None
            environment = self.environments.get(name, environment)
            yield from (one for one in environment.handed_out if is_theirs and one.name == "storage")

    def is_copy(self, name: str) -> bool:
        """Whether an environment of that name is a copy of ``dev`` that no file names."""
        return name not in self.environments and _COPY_OF_DEV.fullmatch(name) is not None

    def _apart(self, copy: Environment) -> Environment:
        """Return a copy of ``dev`` whose places are no other environment's. Raises ``ConfigurationError``."""
        stated = {"dev": Environment(), **self.environments}
        for problem in _shared({**stated, copy.name: copy}, self.root):
            if copy.name in (problem.environment, problem.other):
                raise problem.error
        return copy

    def _reads(self, environment: Environment) -> tuple[ReadThrough, ...]:
        """Return the lakes in which a table is looked for that the environment lacks, nearest first."""
        found: list[ReadThrough] = []
        storage = environment.reads_storage
        seen = {environment.name}
        while (name := environment.reads_from) is not None and name not in seen:
            seen.add(name)
            environment = self.environments.get(name) or self.environments.get("dev", Environment()).copy_as(name)
            found.append(ReadThrough(name, environment.lake, environment.storage if storage is None else storage))
            storage = environment.reads_storage
        return tuple(found)


def load_project(directory: str | Path = ".") -> Project:
    """Return the project of ``directory``: the nearest folder, itself or one above, that holds ``aiflow.toml``.

    Where none does, ``directory`` itself is the project and the defaults hold. Raises ``ConfigurationError`` (several
    at once as ``ProblemsError``) with file and line for what is wrong in the file.
    """
    folder = Path(directory).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigurationError(
            "no-project",
            f"{directory} is no folder",
            hint="name the project's folder: the one with aiflow.toml, or with the package 'pipelines'",
            notes=[f"looked for {folder}"],
        )
    for candidate in (folder, *folder.parents):
        if (candidate / CONFIG_FILE).is_file():
            return _read(candidate / CONFIG_FILE)
    return Project(folder)


def _read(path: Path) -> Project:
    data, file = read_settings(path)
    environments = {name: _environment(name, settings) for name, settings in data.get("environments", {}).items()}
    project = Project(
        root=path.parent,
        name=data.get("project", DEFAULT_PROJECT),
        pipelines=tuple(data.get("pipelines", Project.pipelines)),
        python=data.get("python"),
        lock=data.get("lock"),
        discovery_timeout_seconds=data.get("discovery_timeout_seconds", Project.discovery_timeout_seconds),
        environments=environments,
        default_environment=data.get("default_environment", Project.default_environment),
        stated={name: stated_names(settings) for name, settings in data.get("environments", {}).items()},
        masked={table: tuple(columns) for table, columns in flatten_masked(data.get("masked", {})).items()},
        config_path=path,
    )
    references: list[tuple[tuple[str, ...], str]] = [(("default_environment",), project.default_environment)]
    references += [
        (("environments", environment.name, "reads_from"), environment.reads_from)
        for environment in environments.values()
        if environment.reads_from
    ]
    problems: list[AiflowError] = []
    for keys, name in references:
        try:
            project.environment(name)
        except UnknownNameError as error:
            error.where = file.where(*keys)
            problems.append(error)
    problems += _store_problems(environments, file, path.parent)
    if problems:
        raise problems[0] if len(problems) == 1 else ProblemsError(problems)
    return project


def _store_problems(environments: Mapping[str, Environment], file: SettingsFile, root: Path) -> Iterator[AiflowError]:
    """Yield what is wrong with the addresses of lakes and the options of their stores, and lakes within one another."""
    stated = {"dev": Environment(), **environments}
    for name, environment in stated.items():
        try:
            lake = parse_address(environment.lake, root=root, storage=environment.storage)
        except AiflowError as error:
            yield error.at(file.where("environments", name, "lake"))
            continue
        try:
            staging = parse_address(environment.staging or environment.lake, root=root, storage=environment.storage)
        except AiflowError as error:
            yield error.at(file.where("environments", name, "staging"))
            continue
        if not staging.is_folder and staging.kind != lake.kind:
            yield file.bad(
                ("environments", name, "staging"),
                f"staging at {staging.uri} is another kind of store than the lake {lake.uri}, whose keys it is given",
                "put it into the lake's kind of store, or into a folder that all machines of the environment see",
            )
        yield from _option_problems(name, "storage", f"the lake {lake.uri}", lake.kind, environment.storage, file)
        try:
            bundles = replace(environment, root=root).bundles_root
        except AiflowError as error:
            yield error.at(file.where("environments", name, "bundles"))
            continue
        if environment.bundles_storage is not None:
            what = f"the bundles {bundles.address.uri}"
            yield from _option_problems(name, "bundles_storage", what, bundles.address.kind, bundles.storage, file)
    for problem in _shared(stated, root):
        yield problem.error.at(file.where("environments", problem.environment, problem.setting))


def _option_problems(
    name: str, setting: str, store: str, kind: StoreKind, options: Mapping[str, Any], file: SettingsFile
) -> Iterator[AiflowError]:
    known = storage_options(kind)
    for option in options:
        if option not in known:
            what = f"options: {', '.join(sorted(known))}" if known else "a folder, which has no options"
            yield file.bad(
                ("environments", name, setting, option),
                f"the store of {store} has no option '{option}'",
                did_you_mean(option, known) or what,
            )


class _Shared(NamedTuple):
    """An environment that would write to a place of another one."""

    environment: str
    setting: str
    other: str
    error: AiflowError


def _shared(environments: Mapping[str, Environment], root: Path) -> Iterator[_Shared]:
    """Yield lakes within one another, and staging in a lake or staging of another environment, each once."""
    places: dict[tuple[str, str], LakeRoot] = {}
    for name, environment in environments.items():
        for setting, text in (("lake", environment.lake), ("staging", environment.staging)):
            with suppress(AiflowError):  # told by itself
                if text:
                    address = parse_address(text, root=root, storage=environment.storage)
                    places[name, setting] = LakeRoot(name, address, environment.storage)
    for (name, setting), place in places.items():
        for (other, their_setting), theirs in places.items():
            if name == other or not place.collides(theirs):
                continue
            # Of two that are alike it is told once: of the one that lies within, else of the later one.
            mine, others = (setting, name), (their_setting, other)
            is_within = theirs.address.contains(place.address), place.address.contains(theirs.address)
            if is_within == (True, False) or (is_within[0] == is_within[1] and mine > others):
                yield _Shared(
                    name,
                    setting,
                    other,
                    ConfigurationError(
                        "shared-lake",
                        f"the {setting} of environment '{name}' ({place.address.uri}) lies in the {their_setting} of "
                        f"'{other}' ({theirs.address.uri})",
                        hint=f"give each environment a {setting} of its own",
                    ),
                )


def _environment(name: str, settings: Mapping[str, Any]) -> Environment:
    known = {item.name for item in fields(Environment)} - {"name", "root", "reads", "handed_out"}
    given = {key: value for key, value in settings.items() if key in known}
    # Two environments must not share a lake by mere silence.
    lake = Environment.lake if name == "dev" else f"{Environment.lake}-{name}"
    return Environment(name=name, **{"lake": lake, **given})
