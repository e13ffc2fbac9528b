"""``aiflow plugins``: what can be used, who provides it, and what may be said of each."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.command_line import Exit, Invocation, subcommand
from aiflow_sdk.cli.console import format_table
from aiflow_sdk.errors import AiflowError, StoreError, unknown_name
from aiflow_sdk.ir import thaw

if TYPE_CHECKING:
    from aiflow_sdk.plugins import Family, Plugin, Registry


@subcommand(
    "plugins",
    """aiflow plugins
aiflow plugins onelake
aiflow plugins --stubs""",
)
@click.argument("kind", required=False)
@click.option("--stubs", is_flag=True, help="Write types of what is installed, for editors and type checkers.")
def command(invocation: Invocation, kind: str | None, stubs: bool) -> None:
    """List every plugin that is installed or that the project registers; of KIND show each option."""
    console = invocation.console
    if stubs:
        _write_stubs(invocation)
        return
    registry = _all_plugins(invocation)
    listed = [item for family in registry.families.values() for item in _describe_family(family)]
    if kind is not None:
        listed = [item for item in listed if item["kind"] == kind]
        if not listed:
            kinds = [name for family in registry.families.values() for name in family.kinds]
            raise unknown_name("unknown-plugin", "plugin", kind, kinds)
    if invocation.as_json:
        console.print_json(listed)
    elif kind is None:
        rows = [{**item, "options": ", ".join(_short(option) for option in item["options"])} for item in listed]
        for line in format_table(console, rows, ["type", "kind", "provider", "options"]):
            console.print(line)
        console.print("\na star marks what must be given   next: aiflow plugins KIND · aiflow plugins --stubs")
    else:
        for item in listed:
            console.print(
                f"{console.style(item['type'] + ' ' + kind, 'bold')}  {item['provider']}  {item['reference']}"
            )
            console.print(f"  {item['error'] or item['summary']}")
            if item["options"]:
                for option in item["options"]:
                    default = "must be given" if option["required"] else f"default {option['default']}"
                    name = console.style(option["name"], "bold")
                    console.print(f"    {name}: {option['type']}  {console.style(default, 'dim')}")
                    if option["about"]:
                        console.print(f"        {option['about']}")
            console.print()
    if any(item["error"] for item in listed):
        raise Exit(1)


def _write_stubs(invocation: Invocation) -> None:
    from aiflow_sdk.factories.stubs import write_stubs
    from aiflow_sdk.plugins import installed_registry

    try:
        folder = write_stubs(installed_registry())
    except OSError as error:
        raise StoreError(
            "stubs-not-writable",
            f"{error.filename} cannot be written: {error.strerror}",
            hint="activate an environment of your own (python -m venv .venv) and install aiflow-sdk there",
        ) from error
    if invocation.as_json:
        invocation.console.print_json({"stubs": str(folder)})
    else:
        invocation.console.print(f"wrote {folder}")


def _all_plugins(invocation: Invocation) -> Registry:
    from aiflow_sdk.plugins import installed_registry

    project = invocation.project
    if not any((project.root / entry.replace(".", "/")).exists() for entry in project.pipelines):
        return installed_registry()  # there is no project here, and what is installed can be listed all the same
    from aiflow_sdk.cli.arguments import discover_all, registry_of

    return registry_of(invocation, discover_all(invocation))


def _describe_family(family: Family[Any]) -> list[dict[str, Any]]:
    described = []
    for kind in family.kinds:
        claims = family.references[kind]
        item: dict[str, Any] = {
            "type": family.plugin_type,
            "kind": kind,
            "provider": " and ".join(provider for _, provider in claims),
            "reference": " and ".join(reference for reference, _ in claims),
            "summary": "",
            "options": [],
            "error": None,
        }
        try:
            plugin = family.get(kind)
        except AiflowError as error:
            item["error"] = str(error)
        else:
            item["summary"] = (inspect.getdoc(plugin) or "").partition("\n")[0]
            item["options"] = _describe_options(plugin, family.base)
        described.append(item)
    return described


def _describe_options(plugin: type[Plugin], base: type[Plugin]) -> list[dict[str, Any]]:
    """Return the options, those of the plugin itself before those that all of its type have."""
    from aiflow_sdk.factories.stubs import stub_type

    docs = _option_docs(plugin)
    names = [name for name in plugin.model_fields if name not in base.model_fields]
    described = []
    for name in [*names, *base.model_fields]:
        field = plugin.model_fields[name]
        default = (
            "" if field.is_required() else json.dumps(thaw(field.get_default(call_default_factory=True)), default=str)
        )
        described.append(
            {
                "name": name,
                "type": stub_type(field.annotation, set()).replace(" | Variable", "") if field.annotation else "Any",
                "required": field.is_required(),
                "default": default,
                "about": field.description or docs.get(name, ""),
            }
        )
    return described


def _option_docs(plugin: type[Plugin]) -> dict[str, str]:
    """Return what stands in the text below each field of a class and its bases."""
    docs: dict[str, str] = {}
    for kind in reversed(plugin.__mro__):
        try:
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        except (OSError, TypeError, SyntaxError, ValueError):
            continue  # built in, or its source is not there
        body = getattr(definition, "body", [])
        for statement, below in itertools.pairwise(body):
            match statement, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = " ".join(text.split())
    return docs


def _short(option: dict[str, Any]) -> str:
    return f"{option['name']}{'*' if option['required'] else ''}"
