"""Plugins: options that are checked as a whole, and a door that calls nothing which nobody marked."""

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import field_validator

from aiflow_sdk.config import Environment, Secret
from aiflow_sdk.errors import ConfigurationError, MissingExtraError, PluginError, ProblemsError
from aiflow_sdk.plugins import Plugin, Registry, Source, load_plugin


class Store(Plugin, kind="store"):
    table: str
    port: int = 5432
    password: str = ""
    columns: tuple[str, ...] = ()

    @field_validator("table")
    @classmethod
    def _is_dotted(cls, value: str) -> str:
        if "." not in value and "{{" not in value:
            raise ConfigurationError("bad-table", "no dot")
        return value


def test_loading_tells_every_problem_not_the_first() -> None:
    with pytest.raises(ProblemsError) as caught:
        Store.load({"tabel": "a.b", "port": "x"})
    assert [problem.code for problem in caught.value.problems] == ["missing-option", "bad-option", "unknown-option"]
    with pytest.raises(ConfigurationError) as one:
        Store.load({"table": "a.b", "port": "x"})
    assert one.value.code == "bad-option"


@pytest.mark.parametrize("port", ["{{ params.port }}", "secret://port", {"$window": "last", "n": 2}])
def test_a_value_that_was_never_rendered_is_a_problem_of_loading_and_none_of_compiling(port: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Store.load({"table": "a.b", "port": port})
    assert caught.value.code == "bad-option"
    assert Store.problems({"table": "a.b", "port": port}) == []
    assert Store.try_load({"table": "a.b", "port": port}) is None


def test_what_only_a_run_can_tell_is_not_loaded_before_there_is_one() -> None:
    assert Store.try_load({"table": "raw.{{ params.x }}"}) is None
    assert Store.try_load({"table": "a.b", "password": "secret://p"}) is None
    assert Store.try_load({"table": "a.b", "columns": ["{{ params.x }}"]}) is None
    plugin = Store.try_load({"table": "a.b"}, Environment(name="prod"))
    assert plugin is not None
    assert plugin.environment.name == "prod"


def test_what_is_wrong_in_every_run_is_told_before_there_is_one() -> None:
    with pytest.raises(ConfigurationError, match="no option 'tabel'"):
        Store.try_load({"table": "a.b", "tabel": 1, "password": "secret://p"})
    with pytest.raises(ConfigurationError, match="no dot"):
        Store.try_load({"table": "ab", "password": "secret://p"})


def test_a_plugin_shows_the_names_of_its_options_alone() -> None:
    plugin = Store.load({"table": "a.b", "password": Secret("hunter2")})
    assert repr(plugin) == str(plugin) == f"{plugin}" == "<Store store: password, table>"
    assert "hunter2" not in repr([plugin]) + repr(list(plugin.__repr_args__()))


MODULE = """
from aiflow_sdk.plugins import Source, register_source
from aiflow_sdk.errors import MissingExtraError

class One(Source):
    url: str = ""
    def dataset(self): ...
    def arrow_schema(self): ...
    def scan(self, request): ...

class Half(Source):
    pass

@register_source("made")
def made():
    return One

@register_source("broken")
def broken():
    raise KeyError("x")

called = []
def unmarked():
    called.append(1)
    return One
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    (tmp_path / "ours_plugins.py").write_text(MODULE)
    (tmp_path / "torn_plugin.py").write_text("x = 1\ndef (:\n")
    (tmp_path / "failing_plugin.py").write_text("x = 1\n\nraise OSError('no driver')\n")
    (tmp_path / "leaving_plugin.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "bare_plugin.py").write_text(
        "from aiflow_sdk.errors import MissingExtraError\nraise MissingExtraError('missing-extra', 'install x')\n"
    )
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(("name", "line"), [("torn_plugin", 2), ("failing_plugin", 3), ("leaving_plugin", 2)])
def test_a_module_that_cannot_be_imported_is_named_with_its_line(modules: Path, name: str, line: int) -> None:
    with pytest.raises(PluginError) as caught:
        load_plugin(f"{name}:X", Source)
    assert caught.value.code == "broken-plugin"
    assert caught.value.where is not None
    assert (caught.value.where.path, caught.value.where.line) == (str(modules / f"{name}.py"), line)


def test_a_missing_extra_keeps_its_own_words(modules: Path) -> None:
    with pytest.raises(MissingExtraError):
        load_plugin("bare_plugin:X", Source)


def test_a_marked_function_is_called_and_its_failure_told(modules: Path) -> None:
    assert issubclass(load_plugin("ours_plugins:made", Source), Source)
    with pytest.raises(PluginError, match="KeyError") as caught:
        load_plugin("ours_plugins:broken", Source)
    assert caught.value.where is not None
    assert caught.value.where.line == 20


def test_nothing_is_called_that_nobody_marked(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(os, "getcwd", lambda: called.append(1))
    for reference in ("os:getcwd", "ours_plugins:unmarked", "builtins:breakpoint", "os:environ.clear"):
        with pytest.raises(PluginError) as caught:
            load_plugin(reference, Source)
        assert caught.value.code == "broken-plugin"
    import ours_plugins  # type: ignore[import-not-found]  # written by the fixture

    assert not called
    assert not ours_plugins.called
    assert os.environ


def test_a_class_without_what_its_type_needs_is_refused(modules: Path) -> None:
    with pytest.raises(PluginError, match=r"lacks what a Source must have: .*dataset"):
        load_plugin("ours_plugins:Half", Source)


def test_one_class_can_be_two_kinds(modules: Path) -> None:
    registry = Registry()
    registry.add_marked([("source", kind, "ours_plugins:One") for kind in ("first", "second")])
    first, second = registry.sources.get("first"), registry.sources.get("second")
    assert (first.kind, second.kind) == ("first", "second")
    assert load_plugin("ours_plugins:One", Source).kind == ""
    assert load_plugin("ours_plugins:One", Source, kind="first") is first
    assert "'second' has no option" in str(second.problems({"ulr": ""})[0])
    copied = pickle.loads(pickle.dumps(second.load({"url": "x"}, Environment(name="prod"))))
    assert (type(copied), copied.url, copied.environment.name) == (second, "x", "prod")
