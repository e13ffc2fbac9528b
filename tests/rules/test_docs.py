"""The documentation says what the code does: every code, setting, command and option, and nothing that is not there."""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import aiflow_sdk.errors
from aiflow_sdk.cli.command_line import COMMANDS, aiflow
from aiflow_sdk.config.secret import PROVIDERS
from aiflow_sdk.config.settings import ENVIRONMENT_SETTINGS, PROJECT_SETTINGS
from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plugins import installed_registry

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCES = sorted((ROOT / "packages").glob("*/src"))
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "deploy").glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "packages").glob("*/*.md")]
)

RAISERS = {"unknown_name"} | {
    name
    for name, value in vars(aiflow_sdk.errors).items()
    if isinstance(value, type) and issubclass(value, AiflowError) and value is not aiflow_sdk.errors.ProblemsError
}
MADE = {
    "f'unknown-{self.plugin_type}'": {f"unknown-{kind}" for kind in installed_registry().families},
    "code": set(),  # unknown_name's own argument: its callers are looked at
}
"""Codes that are put together."""


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            yield path, ast.parse(path.read_text("utf-8"))


def codes_in(node: ast.expr) -> set[str]:
    match node:
        case ast.Constant(value=str() as code):
            return {code}
        case ast.IfExp(body=body, orelse=orelse):
            return codes_in(body) | codes_in(orelse)
        case _:
            text = ast.unparse(node)
            assert text in MADE, f"the code {text} is no literal"
            return MADE[text]


@cache
def codes_used() -> frozenset[str]:
    used = {"problems"}
    for path, tree in modules():
        if "conformance" in path.parts:
            continue  # what its functions raise is for the tests that they are
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                used |= codes_in(node.args[0]) if name in RAISERS else set()
    return frozenset(used)


def sections(page: Path) -> list[str]:
    return re.findall(r"^## (.+)$", page.read_text("utf-8"), re.MULTILINE)


def test_every_error_code_has_its_paragraph() -> None:
    assert codes_used() - set(sections(DOCS / "errors.md")) == set()


def test_every_paragraph_is_about_a_code() -> None:
    assert set(sections(DOCS / "errors.md")) - codes_used() == set()


def test_error_codes_stand_in_order_once_and_are_explained() -> None:
    page = (DOCS / "errors.md").read_text("utf-8")
    assert sections(DOCS / "errors.md") == sorted(set(sections(DOCS / "errors.md")))
    texts = re.split(r"^## .+$", page, flags=re.MULTILINE)[1:]
    assert min(len(text.split()) for text in texts) >= 8


def test_codes_are_words_joined_by_hyphens() -> None:
    assert [code for code in codes_used() if not re.fullmatch(r"[a-z]+(-[a-z]+)*", code)] == []


def cells(page: Path) -> set[str]:
    """Return what stands in backticks at the beginning of the rows of a page's tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", page.read_text("utf-8"), re.MULTILINE))


def test_every_setting_of_aiflow_toml_is_described() -> None:
    secrets = {"provider", *(name for names in PROVIDERS.values() for name in names)}
    assert cells(DOCS / "settings.md") == {*PROJECT_SETTINGS, *ENVIRONMENT_SETTINGS, *secrets}


@cache
def writer() -> ModuleType:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return importlib.import_module("write_reference")
    finally:
        sys.path.pop(0)


@pytest.mark.parametrize("page", ["cli.md", "connectors.md"])
def test_generated_parts_are_up_to_date(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    assert writer().write_page(text) == text, "run .venv/bin/python scripts/write_reference.py"


def test_every_command_and_option_is_described() -> None:
    text = (DOCS / "cli.md").read_text("utf-8")
    context = click.Context(aiflow)
    for name in COMMANDS:
        assert f"## aiflow {name}\n" in text
        command = aiflow.get_command(context, name)
        assert command is not None
        part = text.split(f"## aiflow {name}\n")[1].split("\n## ")[0]
        shared = {option for parameter in aiflow.params for option in parameter.opts}
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not shared & set(parameter.opts):
                assert all(option in part for option in parameter.opts), f"{name} {parameter.opts}"
    assert set(re.findall(r"^## aiflow (\w+)$", text, re.MULTILINE)) == set(COMMANDS)


def test_every_connector_of_ours_is_described() -> None:
    marks = set(re.findall(r"<!-- begin: (\w+) ([\w-]+) -->", (DOCS / "connectors.md").read_text("utf-8")))
    registry = installed_registry()
    ours = {
        (plugin_type, kind)
        for plugin_type in ("source", "sink")
        for kind in registry.families[plugin_type].kinds
        if registry.families[plugin_type].reference(kind).startswith("aiflow_sdk.")
    }
    assert marks == ours


def imported_modules() -> Iterator[ModuleType]:
    for source in SOURCES:
        (package,) = (folder.name for folder in source.iterdir() if folder.is_dir() and "." not in folder.name)
        if find_spec(package) is None:
            continue  # Airflow's side lives in .venv-airflow, where tests/airflow/test_package.py does the same
        for path in sorted(source.rglob("*.py")):
            name = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
            if not name.endswith(("__main__", "migrations.env")) and "conformance" not in name:
                yield importlib.import_module(name)


def public_members(holder: Any, module: str) -> Iterator[tuple[str, Any]]:
    for name, value in list(vars(holder).items()):
        plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        plain = plain.fget if isinstance(plain, property) else plain
        plain = plain.func if isinstance(plain, cached_property) else plain
        told = inspect.isclass(plain) or (inspect.isfunction(plain) and plain.__name__ != "<lambda>")
        if told and not name.startswith("_") and plain.__module__ == module:
            yield name, getattr(holder, name) if inspect.isclass(holder) and inspect.isfunction(plain) else plain


def is_sentence(text: str | None) -> bool:
    first = (text or "").strip().split("\n\n")[0].rstrip()
    return bool(first) and (not first[0].islower() or first.startswith("aiflow")) and first[-1] in ".:?…"


def test_everything_public_says_what_it_is_in_a_whole_sentence() -> None:
    silent = []
    for module in imported_modules():
        if inspect.getsource(module).strip() and not is_sentence(module.__doc__):
            silent.append(module.__name__)
        for name, value in public_members(module, module.__name__):
            if not is_sentence(inspect.getdoc(value)):
                silent.append(f"{module.__name__}.{name}")
            if inspect.isclass(value):
                silent.extend(
                    f"{module.__name__}.{name}.{inner}"
                    for inner, member in public_members(value, module.__name__)
                    if not is_sentence(inspect.getdoc(member))
                )
    assert silent == []


def anchors(page: Path) -> set[str]:
    found = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        for target in re.findall(r"\]\(([^)\s#]+)", page.read_text("utf-8") if page.suffix == ".md" else ""):
            found = (page.parent / target).resolve()
            waiting.extend(found.glob("*.md") if found.is_dir() else [found] if found.exists() else [])
    assert [page for page in DOCS.rglob("*.md") if page not in reached] == []


def pipelines() -> Iterator[tuple[str, str]]:
    """Every Python block of the pages that is a whole pipeline, or several."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL), 1):
            if "@pipeline(" in block and "import" in block:
                yield f"{page.name}-{number}", block


@pytest.mark.parametrize("block", [pytest.param(block, id=name) for name, block in pipelines()])
def test_a_pipeline_of_the_pages_builds(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shown.py"
    path.write_text(block, "utf-8")
    monkeypatch.setitem(sys.modules, "shown", ModuleType("shown"))
    names = vars(sys.modules["shown"])
    exec(compile(block, str(path), "exec"), names)
    built = [value() for value in names.values() if hasattr(value, "_pipeline_id")]
    assert built
    assert all(pipeline.nodes for pipeline in built)


@pytest.mark.parametrize("way", ["", '"leniently"'])
def test_the_commands_that_ask_for_what_is_handed_out_stand_in_the_docs(way: str) -> None:
    told = (DOCS / "registry.md").read_text("utf-8").partition("- **Asked** are")[2].partition("; `aiflow env`")[0]
    failing, _, going_on = told.partition("ask nobody")
    folder = ROOT / "packages/aiflow-sdk/src/aiflow_sdk/cli/commands"
    asking = [path.stem for path in folder.glob("*.py") if f"invocation.configure({way})" in path.read_text("utf-8")]
    assert asking
    assert [name for name in asking if not re.search(rf"`(aiflow )?{name}\b", going_on if way else failing)] == []
