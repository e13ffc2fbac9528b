"""Types of the installed plugins, for editors and type checkers.

``source.rss(…)`` of somebody else's package is recorded by name at run time, which shows an editor nothing. So what is
installed is written down as a partial stub package (PEP 561) of the one module that has ``source`` and ``sink``.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import inspect
import keyword
import pathlib
import sysconfig
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import AnyUrl, BaseModel, SecretStr
from pydantic.fields import FieldInfo

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.factories.connectors import Sinks, Sources
from aiflow_sdk.plugins import Family, Plugin, Registry
from aiflow_sdk.stores import replace_file

_HEAD = '''"""Written by `aiflow plugins --stubs`: what is installed here. Write it again after installing a plugin."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal

{imports}
from aiflow_sdk.factories.declaration import Declaration
from aiflow_sdk.partitions import Window
from aiflow_sdk.variables import Variable

Text = str | Variable
PartitionValue = str | int | float | bool | Variable | Window | Sequence[str | int | Variable] | None
Completeness = Literal["all"] | int | None
Restated = Literal["stale", "rerun", "ignore"]
'''

_SCALARS: Mapping[Any, str] = {
    bool: "bool | Variable",
    int: "int | Variable",
    float: "float | Variable",
    str: "str | Variable",
    bytes: "bytes | str | Variable",
    SecretStr: "str | Variable",
    datetime.timedelta: "datetime.timedelta | str | float | Variable",
    decimal.Decimal: "decimal.Decimal | str | float | Variable",
    type(None): "None",
    Any: "Any",
}


def write_stubs(registry: Registry, site_packages: Path | None = None) -> Path:
    """Write the stub package ``aiflow_sdk-stubs`` into ``site_packages`` (this interpreter's) and return its folder.

    Doing it again changes nothing unless other plugins are installed. A plugin that cannot be loaded takes any option.
    """
    folder = (site_packages or Path(sysconfig.get_path("purelib"))) / "aiflow_sdk-stubs"
    _write(folder / "py.typed", "partial\n")
    _write(folder / "factories" / "connectors.pyi", stub_text(registry))
    return folder


def stub_text(registry: Registry) -> str:
    """Return the stub of ``aiflow_sdk.factories.connectors`` for the plugins of a registry."""
    imports: set[str] = set()
    classes = [
        _class("Sources", Sources, registry.sources, imports),
        _class("Sinks", Sinks, registry.sinks, imports),
    ]
    head = _HEAD.format(imports="".join(f"import {name}\n" for name in sorted(imports)))
    return "\n\n".join([head.rstrip() + "\n", *classes, "source: Sources\nsink: Sinks\n"])


def _class(name: str, typed: type, family: Family[Any], imports: set[str]) -> str:
    methods = []
    for kind in family.kinds:
        if kind.isidentifier() and not keyword.iskeyword(kind):
            method = vars(typed).get(kind)
            methods.append(_method_as_typed(kind, method) if method else _method(kind, family, imports))
    return f"class {name}:\n" + ("\n".join(methods) or "    ...\n")


def _method_as_typed(kind: str, method: Any) -> str:
    """Return the stub of a method of connectors.py; its annotations are text already."""
    parts: list[str] = []
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        annotation = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
        parts.append(name + annotation + ("" if parameter.default is parameter.empty else " = ..."))
    return _definition(f"    def {kind}({', '.join(parts)}) -> Declaration:", inspect.getdoc(method))


def _method(kind: str, family: Family[Any], imports: set[str]) -> str:
    try:
        plugin: type[Plugin] = family.get(kind)
    except AiflowError:
        return _definition(f"    def {kind}(self, id: str, **options: Any) -> Declaration:", None)
    own = [name for name in plugin.model_fields if name not in family.base.model_fields]
    options = "".join(
        f", {plugin.model_fields[name].alias or name}: {stub_type(_annotation(plugin.model_fields[name]), imports)}"
        + ("" if plugin.model_fields[name].is_required() else " = ...")
        for name in [*own, *family.base.model_fields]
    )
    star = ", *" if options else ""
    return _definition(f"    def {kind}(self, id: str{star}{options}) -> Declaration:", inspect.getdoc(plugin))


def _definition(head: str, doc: str | None) -> str:
    if not doc:
        return f"{head} ...\n"
    lines = doc.replace("\\", "\\\\").replace('"""', "'''").splitlines()
    body = "\n".join(f"        {line}".rstrip() for line in lines[1:])
    return f'{head}\n        """{lines[0]}' + (f"\n{body}\n        " if body else "") + '"""\n'


def _annotation(field: FieldInfo) -> Any:
    return Any if field.annotation is None else field.annotation


def stub_type(annotation: Any, imports: set[str]) -> str:
    """Return what an author may write for an option of that type; modules that the text names go to ``imports``."""
    if annotation in _SCALARS:
        text = _SCALARS[annotation]
        imports.update(name for name in ("datetime", "decimal") if f"{name}." in text)
        return text
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return stub_type(arguments[0], imports)
    if origin in (typing.Union, types.UnionType):
        return _union(stub_type(argument, imports) for argument in arguments)
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, arguments))}] | Variable"
    found = origin or annotation
    if not isinstance(found, type):
        return "Any"
    items = [stub_type(argument, imports) for argument in arguments if argument is not ...]
    if issubclass(found, Mapping):
        key = items[0].removesuffix(" | Variable") if items else "str"
        return f"Mapping[{key}, {items[1] if len(items) == 2 else 'Any'}]"
    if issubclass(found, Iterable) and not issubclass(found, str | AnyUrl | enum.Enum | BaseModel):
        return f"Sequence[{_union(items)}]" if items else "Sequence[Any]"
    if issubclass(found, pathlib.PurePath):
        return "str | PathLike[str] | Variable"
    if found.__module__ == "builtins" or "<" in found.__qualname__ or found.__module__ == "__main__":
        return "Any"
    imports.add(found.__module__)
    named = f"{found.__module__}.{found.__qualname__}"
    if issubclass(found, BaseModel):
        return f"{named} | Mapping[str, Any]"
    if issubclass(found, enum.Enum | datetime.date | datetime.time | AnyUrl) or "Url" in found.__name__:
        return f"{named} | str | Variable"
    return "Any"


def _union(texts: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(part for text in texts for part in _parts(text)))


def _parts(text: str) -> list[str]:
    """Split at the outermost ``|``."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if character == "|" and not depth:
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, text[start:].strip()]


def _write(path: Path, text: str) -> None:
    if path.is_file() and path.read_text("utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text)
