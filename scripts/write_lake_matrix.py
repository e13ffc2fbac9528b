"""Writes the matrix of docs/lake.md from tests/lake/matrix.json: what the suite itself found.

scripts/write_lake_matrix.py        writes the page
scripts/write_lake_matrix.py --run  runs all cells' tests first (minutes) and writes the file with what they found
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "lake.md"
sys.path.insert(0, str(ROOT / "tests" / "lib"))

from cells.lake import ENGINES, MODES, STORES  # noqa: E402  # what tests share is no package
from cells.matrix import HOLDS, MATRIX, PARTS, Outcomes, merged, read_matrix  # noqa: E402

STORE_NAMES = {"folder": "Folder", "s3": "S3", "azure": "Azure Blob", "onelake": "Fabric OneLake"}


def write_page(text: str, outcomes: Outcomes) -> str:
    """Return the page with the matrix written anew."""
    table = "\n".join(describe(outcomes))
    region = re.compile(r"(<!-- begin: matrix -->\n).*?(<!-- end -->)", re.DOTALL)
    return region.sub(lambda found: f"{found[1]}\n{table}\n\n{found[2]}", text)


def describe(outcomes: Outcomes) -> Iterator[str]:
    """Yield the lines: how many claims hold in each cell and how often its writer was killed, the claims, the gaps."""
    claims = {claim: cells for claim, cells in outcomes.items() if not _is_kills(cells)}
    deaths = [cells for cells in outcomes.values() if _is_kills(cells)]
    yield f"How many of {len(claims)} claims hold, and how often a writer was killed, and all was well afterwards:"
    yield ""
    yield "| mode | engine | " + " | ".join(STORE_NAMES[store] for store in STORES) + " |"
    yield "| --- | --- |" + " --- |" * len(STORES)
    for mode in MODES:
        for engine in ENGINES:
            parts = []
            for store in STORES:
                cell = f"{mode}-{engine}-{store}"
                held = sum(cells.get(cell) == HOLDS for cells in claims.values())
                kills = sum(sum(cells.get(cell, {}).values()) for cells in deaths)
                parts.append(f"{held} of {len(claims)}, {kills} killed")
            yield f"| `{mode}` | {engine} | " + " | ".join(parts) + " |"
    yield ""
    yield f"{kills_of(outcomes)} kills in all. The claims:"
    yield ""
    yield from (f"- {claim}" for claim in claims)
    gaps: dict[tuple[str, str], list[str]] = {}
    for claim, cells in claims.items():
        for cell, outcome in cells.items():
            if outcome != HOLDS:
                gaps.setdefault((claim, outcome), []).append(cell)
    yield ""
    yield "What does not hold:" if gaps else "No gaps."
    if gaps:
        yield ""
    for (claim, reason), cells_of in gaps.items():
        modes = sorted({cell.split("-")[0] for cell in cells_of})
        yield f"- {claim}: `{'`, `'.join(modes)}` ({len(cells_of)} cells): {reason}"


def kills_of(outcomes: Outcomes) -> int:
    """Return how many kills there were."""
    return sum(sum(kills.values()) for cells in outcomes.values() if _is_kills(cells) for kills in cells.values())


def _is_kills(cells: dict[str, Any]) -> bool:
    return any(isinstance(outcome, dict) for outcome in cells.values())


def write_matrix(parts: list[Path]) -> None:
    """Write the file from what runs left."""
    found = merged([json.loads(part.read_text("utf-8")) for part in parts])
    MATRIX.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


def main() -> int:
    """Do what the arguments say."""
    if "--run" in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            patterns = ("test_modes_*.py", "test_kills_*.py")
            tests = sorted(str(path) for pattern in patterns for path in MATRIX.parent.glob(pattern))
            command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *tests]
            done = subprocess.run(command, cwd=ROOT, env={**os.environ, "WHOLE": "1", PARTS: folder}, check=False)
            if done.returncode:
                return done.returncode
            write_matrix(sorted(Path(folder).glob("*.json")))
    PAGE.write_text(write_page(PAGE.read_text("utf-8"), read_matrix()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
