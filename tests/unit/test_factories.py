"""``source``, ``sink``: what is recorded, what is typed, and the stubs of what is installed."""

import inspect
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import HttpUrl, PositiveInt

from aiflow_sdk import factories
from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.factories import Declaration, Sinks, Sources
from aiflow_sdk.factories.stubs import stub_text, stub_type, write_stubs
from aiflow_sdk.plugins import Registry, Source, installed_registry

source: Any = factories.source
sink: Any = factories.sink

REGISTRY = installed_registry()
TYPED = [
    *((Sources, REGISTRY.sources, kind) for kind in ("files", "onelake")),
    *((Sinks, REGISTRY.sinks, kind) for kind in ("files", "onelake")),
]


def test_what_is_said_is_recorded_raw_with_its_line():
    declared = source.nobody("x", depth=[1, 2], empty=None)
    assert (declared.type, declared.kind, declared.id) == ("source", "nobody", "x")
    assert declared.options == {"depth": [1, 2], "empty": None}
    assert declared.where.path.endswith("test_factories.py")
    assert declared.where.line == inspect.currentframe().f_lineno - 4  # type: ignore[union-attr]  # CPython has frames


def test_a_declaration_shows_no_options():
    assert repr(source.jdbc("x", password="hunter2")) == "source.jdbc(id='x', …)"


def test_a_default_spelled_out_is_left_out():
    spelled = source.onelake("x", "a.b", format="delta", partitions={}, wait_minutes=0, restated="stale", complete=None)
    assert spelled.options == {"table": "a.b"}
    assert source.onelake("x", "a.b", wait_minutes=False).options["wait_minutes"] is False
    assert sink.onelake("x", "a.b", "overwrite", [], keys=()).options == {"table": "a.b"}


def test_an_unknown_option_of_a_typed_kind_is_left_to_the_compiler():
    assert source.onelake("x", tabel="a.b").options == {"tabel": "a.b"}


@pytest.mark.parametrize("call", [lambda: source.onelake("x", "t", id="y"), lambda: source.nobody("x", "y")])
def test_arguments_that_cannot_be_named_are_refused(call):
    with pytest.raises(DefinitionError) as caught:
        call()
    assert caught.value.code == "bad-arguments"


def test_names_of_pythons_own_are_no_kinds():
    for name in ("__wrapped__", "_repr_html_", "__deepcopy__"):
        with pytest.raises(AttributeError):
            getattr(source, name)
        with pytest.raises(AttributeError):
            getattr(factories.resources, name)


@pytest.mark.parametrize(("face", "family", "kind"), TYPED)
def test_what_is_typed_by_hand_is_what_the_plugin_takes(face, family, kind):
    fields = family.get(kind).model_fields
    parameters = dict(inspect.signature(getattr(face, kind)).parameters)
    parameters.pop("self")
    parameters.pop("id")
    assert set(parameters) == set(fields)
    for name, parameter in parameters.items():
        default = fields[name].get_default(call_default_factory=True)
        if parameter.default is inspect.Parameter.empty:
            assert fields[name].is_required()
        elif default or parameter.default:
            assert parameter.default == default


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, "str | Variable"),
        (PositiveInt, "int | Variable"),
        (float | None, "float | Variable | None"),
        (HttpUrl, "pydantic.networks.HttpUrl | str | Variable"),
        (Literal["a", "b"], "Literal['a', 'b'] | Variable"),
        (tuple[str, ...], "Sequence[str | Variable]"),
        (list[dict[str, int]], "Sequence[Mapping[str, int | Variable]]"),
        (dict[str, Any], "Mapping[str, Any]"),
        (frozenset, "Sequence[Any]"),
        (Path, "str | PathLike[str] | Variable"),
        (Annotated[int, "anything"] | str, "int | Variable | str"),
        (Colour, f"{__name__}.Colour | str | Variable"),
        (object, "Any"),
        (Any, "Any"),
        ("text", "Any"),
    ],
)
def test_a_stub_says_what_may_be_written(annotation, expected):
    assert stub_type(annotation, set()) == expected


def test_stubs_are_python_and_name_every_installed_kind():
    text = stub_text(REGISTRY)
    compile(text, "connectors.pyi", "exec")
    for kind in (*REGISTRY.sources.kinds, *REGISTRY.sinks.kinds):
        assert f"    def {kind}(self, id: str" in text


def test_a_broken_plugin_and_a_kind_that_is_no_word_do_not_stop_the_others():
    registry = Registry()
    registry.sources.add("broken", "no.such.module:Source", "x 1.0")
    registry.sources.add("not-a-word", "no.such.module:Source", "x 1.0")
    registry.sources.add("class", "no.such.module:Source", "x 1.0")
    text = stub_text(registry)
    compile(text, "connectors.pyi", "exec")
    assert "def broken(self, id: str, **options: Any)" in text
    assert "word" not in text


class Strange(Source, kind="strange"):
    '''Has """quotes""" and \\ in its description.'''

    schema_: Annotated[str, "aliased"] = "x"


def test_a_description_with_quotes_stays_a_description():
    registry = Registry()
    registry.sources.add("strange", f"{__name__}:Strange", "x 1.0")
    compile(stub_text(registry), "connectors.pyi", "exec")


def test_writing_stubs_again_changes_nothing(tmp_path):
    folder = write_stubs(REGISTRY, tmp_path)
    assert (folder / "py.typed").read_text() == "partial\n"
    stub = folder / "factories" / "connectors.pyi"
    before = stub.stat().st_mtime_ns
    write_stubs(REGISTRY, tmp_path)
    assert stub.stat().st_mtime_ns == before
    assert sorted(path.name for path in folder.rglob("*")) == ["connectors.pyi", "factories", "py.typed"]


def test_a_declaration_is_a_value():
    assert source.nobody("x").where.line
    assert isinstance(sink.nobody("x"), Declaration)
