"""The tables of types in the docs are the list that the tests try."""

from pathlib import Path

from lake_types import render

PAGE = Path(__file__).parents[2] / "docs" / "lake.md"


def test_the_docs_show_the_types_that_are_tested() -> None:
    shown = PAGE.read_text("utf-8").split("<!-- begin: types -->\n")[1].split("<!-- end -->")[0]
    assert shown == render() + "\n", "run .venv/bin/python scripts/write_types.py"
