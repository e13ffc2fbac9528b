"""Writes the tables of types in docs/lake.md anew, between their two marks, from tests/lib/lake_types.py."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "lake.md"
_REGION = re.compile(r"(<!-- begin: types -->\n).*?(<!-- end -->)", re.DOTALL)


def write_page(text: str) -> str:
    """Return the page with the tables written anew."""
    sys.path.insert(0, str(ROOT / "tests" / "lib"))
    try:
        from lake_types import render
    finally:
        sys.path.pop(0)
    return _REGION.sub(lambda found: f"{found[1]}{render()}\n{found[2]}", text)


if __name__ == "__main__":
    PAGE.write_text(write_page(PAGE.read_text("utf-8")), "utf-8")
