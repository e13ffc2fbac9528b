"""The lake's page shows the matrix that the suite found, and the matrix has every cell."""

import importlib
import sys
from pathlib import Path

from cells.claims import ModeClaims
from cells.kill_claims import KillClaims
from cells.lake import ENGINES, MODES, STORES
from cells.matrix import claim_of, read_matrix

ROOT = Path(__file__).parents[2]
CELLS = {f"{mode}-{engine}-{store}" for mode in MODES for engine in ENGINES for store in STORES}


def claims(of: type) -> set[str]:
    return {claim_of(name) for name in vars(of) if name.startswith("test_")}


def writer():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return importlib.import_module("write_lake_matrix")
    finally:
        sys.path.pop(0)


def test_the_page_shows_what_the_suite_found() -> None:
    text = (ROOT / "docs" / "lake.md").read_text("utf-8")
    assert writer().write_page(text, read_matrix()) == text, "run .venv/bin/python scripts/write_lake_matrix.py"


def test_every_claim_is_made_in_every_cell() -> None:
    found = read_matrix()
    assert found.keys() == claims(ModeClaims) | claims(KillClaims)
    assert {claim for claim in claims(ModeClaims) if found[claim].keys() != CELLS} == set()


def test_writers_die_in_every_cell_and_three_hundred_times_in_all() -> None:
    cells = [cell for claim in claims(KillClaims) for cell in read_matrix()[claim]]
    assert set(cells) == CELLS
    assert writer().kills_of(read_matrix()) >= 300
