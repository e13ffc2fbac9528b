"""Writers that die at any step of any mode, in a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cells.kill_claims import EVERY_SCENARIO, KillClaims
from cells.kills import SCENARIOS, KillBench, place_maker


class TestKillsInAFolder(KillClaims):
    store = "folder"
    kills = 13
    scenarios = EVERY_SCENARIO


def write_in_two_commits(table: Mapping[str, Any], write: Mapping[str, Any]) -> None:
    """Write as nobody must: what goes first, then what comes."""
    from dataclasses import replace

    from aiflow_sdk.connectors.onelake import commit
    from aiflow_sdk.connectors.onelake.table import load_table
    from cells import jobs

    whole = commit._write

    def in_two(change: Any, state: Any, done: Any) -> Any:
        whole(change, state, replace(done, added=()))
        return whole(change, load_table(change.place), replace(done, removed=()))

    commit._write = in_two
    jobs.write(table, write)


def test_a_writer_that_commits_in_two_steps_is_caught(tmp_path: Path, writers) -> None:
    job = (Path(__file__), "write_in_two_commits")
    make_place = place_maker("folder", tmp_path)
    with KillBench(SCENARIOS[0], "python", make_place, writers, tmp_path, job) as bench:
        between = [point for point in bench.points if point.what.startswith("link")][-1]
        (violation, *_) = bench.kill(between).violations
    assert "neither the old rows nor the new ones" in violation
