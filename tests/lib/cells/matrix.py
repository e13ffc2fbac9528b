"""Outcomes of the cells' tests, as a pytest plugin: they must be those of tests/lake/matrix.json, or the run fails.

With ``AIFLOW_MATRIX_PARTS`` (a folder) the outcomes are written there instead, for scripts/write_lake_matrix.py.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

MATRIX = Path(__file__).parents[2] / "lake" / "matrix.json"
PARTS = "AIFLOW_MATRIX_PARTS"
HOLDS = "holds"

Outcomes = dict[str, dict[str, Any]]
"""Claim → cell → ``holds``, or why it is a gap; of the deaths of writers how many there were."""

_found: Outcomes = defaultdict(dict)


def read_matrix() -> Outcomes:
    """Return what is committed."""
    found: Outcomes = json.loads(MATRIX.read_text("utf-8")) if MATRIX.exists() else {}
    return found


def merged(outcomes: list[Mapping[str, Mapping[str, Any]]]) -> Outcomes:
    """Return several runs' outcomes as one."""
    result: Outcomes = defaultdict(dict)
    for one in outcomes:
        for claim, cells in one.items():
            result[claim].update(cells)
    return {claim: dict(sorted(cells.items())) for claim, cells in sorted(result.items())}


def claim_of(test: str) -> str:
    """Return a test's name as the sentence that it is."""
    return re.sub(r"\[.*", "", test.rpartition("::")[2]).removeprefix("test_").replace("_", " ")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the outcome of a cell's test; with xdist it is the controller that hears of all."""
    properties: dict[str, Any] = dict(report.user_properties)
    if report.when != "call" or "cell" not in properties:
        return
    outcome: Any = HOLDS if report.passed else getattr(report, "wasxfail", None) or report.outcome
    cells = _found[claim_of(report.nodeid)]
    if "kills" in properties and report.passed:
        before = cells.get(properties["cell"], {})
        outcome = {**before, properties["scenario"]: properties["kills"]}
    cells[properties["cell"]] = outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run whose outcomes are not the committed ones."""
    if not _found or hasattr(session.config, "workerinput"):
        return
    if folder := os.environ.get(PARTS):
        path = Path(folder) / f"{os.getpid()}.json"
        path.write_text(json.dumps(_found), "utf-8")
    elif differences() and session.exitstatus in (pytest.ExitCode.OK, 0):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which outcomes differ."""
    if _found and PARTS not in os.environ and (lines := differences()):
        terminalreporter.section("the lake's matrix differs: .venv/bin/python scripts/write_lake_matrix.py --run")
        for line in lines:
            terminalreporter.write_line(line)


def differences() -> list[str]:
    """Return what this run found and tests/lake/matrix.json does not say."""
    known, lines = read_matrix(), []
    if not known:
        return []
    for claim, cells in _found.items():
        for cell, outcome in cells.items():
            said = known.get(claim, {}).get(cell)
            if isinstance(outcome, dict) and isinstance(said, dict):
                said = {name: said.get(name) for name in outcome}
            if said != outcome:
                lines.append(f"{claim}, {cell}: {outcome}, and the file says {said}")
    return lines
