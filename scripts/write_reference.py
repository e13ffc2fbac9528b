"""Writes the generated parts of docs/cli.md and docs/connectors.md: what stands between two marks in them.

    <!-- begin: command run -->      <!-- begin: source onelake -->
    …                                …
    <!-- end -->                     <!-- end -->

Run it after an option has changed. The tests compare, and say so when it was forgotten.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("cli.md", "connectors.md")
_REGION = re.compile(r"(<!-- begin: (\w+) ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TYPES = {
    r"\bPlainMap\b": "mapping",
    r"\bFormat\b": "`parquet`, `csv` or `jsonl`",
    r"tuple\[str, \.\.\.\]": "list of texts",
    r"\bNonNegativeInt\b|\bPositiveInt\b|\bint\b": "whole number",
    r"\bfloat\b": "number",
    r"\bbool\b": "true or false",
    r"\bstr\b": "text",
}


def write_page(text: str) -> str:
    """Return a page with every generated part written anew."""
    return _REGION.sub(lambda found: f"{found[1]}\n{describe(found[2], found[3])}\n{found[4]}", text)


def describe(what: str, name: str) -> str:
    """Return the text about one command, source or sink."""
    if what == "command":
        return "\n".join(describe_command(name))
    from aiflow_sdk.plugins import installed_registry

    return "\n".join(describe_connector(installed_registry().families[what].get(name)))  # type: ignore[index]


def describe_command(name: str) -> Iterator[str]:
    """Yield the lines about a command: how it is typed, what it does, its options, examples."""
    import click

    from aiflow_sdk.cli.command_line import aiflow

    context = click.Context(aiflow, info_name="aiflow")
    command: click.Command | None = aiflow
    inner = context
    for word in name.split("-") if name != "aiflow" else ():  # env-diff is aiflow env diff
        assert isinstance(command, click.Group)
        command = command.get_command(inner, word)
        assert command is not None
        inner = click.Context(command, info_name=word, parent=inner)
    assert command is not None
    shared = {option for parameter in aiflow.params for option in parameter.opts}
    pieces = [piece for piece in command.collect_usage_pieces(inner) if piece != "[OPTIONS]"]
    options = [
        p for p in command.params if isinstance(p, click.Option) and (name == "aiflow" or not shared & set(p.opts))
    ]
    yield "```"
    yield " ".join([inner.command_path, *pieces, *(_needed(option, inner) for option in options if option.required)])
    yield "```"
    yield ""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield " ".join(paragraph.split())
        yield ""
    if options:
        yield "| Option | Meaning |"
        yield "| --- | --- |"
        for option in options:
            yield f"| `{_cell(_spelled(option, inner))}` | {_cell(_meaning(option))} |"
        yield ""
    if command.epilog:
        yield "```"
        yield from (line.strip() for line in command.epilog.strip().splitlines())
        yield "```"


def describe_connector(plugin: Any) -> Iterator[str]:
    """Yield the lines about a source or sink: what it is, and each of its options."""
    yield from inspect.cleandoc(plugin.__doc__ or "").replace("``", "`").splitlines()
    yield ""
    yield "| Option | Holds | Default | Meaning |"
    yield "| --- | --- | --- | --- |"
    written: dict[str, tuple[str, str]] = {}
    for kind in reversed(plugin.__mro__):
        if kind.__module__.startswith(plugin.__module__.partition(".")[0]):
            written |= dict(_read_fields(kind))
    own = [name for name in plugin.model_fields if name in vars(plugin)["__annotations__"]]
    for name in [*own, *(name for name in plugin.model_fields if name not in own)]:
        field = plugin.model_fields[name]
        default = "*must be given*" if field.is_required() else _default(field.get_default(call_default_factory=True))
        annotation, about = written.get(name, ("", ""))
        yield f"| `{name}` | {_cell(_type(annotation))} | {default} | {_cell(about)} |"


def _read_fields(kind: type) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield name, annotation and the text below each field of a class, from its source."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError):
        return
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            about = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                about = " ".join(str(following.value.value).replace("``", "`").split())
            yield statement.target.id, (ast.unparse(statement.annotation), about)


def _type(annotation: str) -> str:
    parts = [part for part in re.split(r" \| (?![^\[]*\])", annotation) if part != "None"]
    shown = []
    for part in parts:
        if part.startswith("Literal["):
            shown.append(" or ".join(f"`{value}`" for value in ast.literal_eval(f"[{part[8:-1]}]")))
            continue
        for pattern, plain in _TYPES.items():
            part = re.sub(pattern, plain, part)
        shown.append(part)
    return ", or ".join(shown)


def _default(value: Any) -> str:
    if value is None or (not value and not isinstance(value, bool | int | float | str)):
        return "none"
    if isinstance(value, tuple | list):
        return ", ".join(f'`"{item}"`' for item in value)
    return f'`"{value}"`' if isinstance(value, str) else f"`{str(value).lower()}`"


def _needed(option: Any, context: Any) -> str:
    return f"{option.opts[0]} {option.make_metavar(context)}"


def _spelled(option: Any, context: Any) -> str:
    names = "/".join([*option.opts, *option.secondary_opts])
    metavar = option.make_metavar(context).replace("INTEGER RANGE", "N")
    return names if option.is_flag else f"{names} {metavar}"


def _meaning(option: Any) -> str:
    text = option.help or ""
    if option.show_default and option.default is not None:
        text = f"{text.rstrip('.')} (default: {option.default})."
    return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write the pages."""
    for name in PAGES:
        path = DOCS / name
        path.write_text(write_page(path.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
