"""Thousands of deaths: every scenario, engine and store in turn, evenly over the steps of each; it ends by itself.

``python -m cells.soak --kills 5000`` prints how many writers were killed where, and every violation; its status tells
whether there was one. It is ``make soak``.
"""

from __future__ import annotations

import argparse
import atexit
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from cells.kills import SCENARIOS, KillBench, Point, place_maker
from cells.lake import ENGINES, STORES
from harness.azure import AzureServer, azure_server
from harness.place import Kind

FOLDER_SHARE = 0.6
"""Of all kills: a folder's cost a fifth of a store's."""
SERVER_SHARE = 0.03
"""Of the kills of a Spark write: how often the server dies alone."""


@dataclass
class Tally:
    """What was killed of one scenario's write."""

    scenario: str
    mode: str
    engine: str
    store: str
    steps: int = 0
    kills: int = 0
    missed: int = 0
    """The write ended before its step."""
    saw_new: int = 0
    """So many times readers saw the new rows already."""
    seconds: float = 0.0
    where: dict[str, int] = field(default_factory=dict)
    """Kind of step → kills."""
    violations: list[str] = field(default_factory=list)


@cache
def _stack() -> ExitStack:
    stack = ExitStack()
    atexit.register(stack.close)
    return stack


@cache
def _zygote() -> Any:
    from cells.fixtures import writing_zygote

    zygote = writing_zygote()
    _stack().callback(zygote.close)
    return zygote


@cache
def _server(kind: Kind) -> Any:
    if kind == "s3":
        from harness.s3 import s3_server

        return _stack().enter_context(s3_server())
    return _azure().plain if kind == "azure" else _azure().onelake


@cache
def _azure() -> AzureServer:
    return _stack().enter_context(azure_server())


def soak(name: str, engine: str, store: Kind, kills: int, deadline: float) -> Tally:
    """Kill one scenario's write so often, or until the deadline (seconds since 1970)."""
    scenario = next(one for one in SCENARIOS if one.name == name)
    tally = Tally(name, scenario.mode, engine, store)
    started = time.time()
    if started > deadline:
        return tally
    with tempfile.TemporaryDirectory(prefix="aiflow-soak-") as text:
        folder = Path(text)
        make_place = place_maker(store, folder, None if store == "folder" else _server(store))
        with KillBench(scenario, engine, make_place, _zygote(), folder) as bench:
            tally.steps = len(bench.points)
            for point in _points(bench, kills):
                if time.time() > deadline:
                    break
                death = bench.kill(point)
                tally.kills += death.was_killed
                tally.saw_new += death.was_killed and death.saw == "new"
                tally.missed += not death.was_killed
                if death.was_killed:
                    kind = f"{point.victim}: {_kind_of(point.what)}"
                    tally.where[kind] = tally.where.get(kind, 0) + 1
                tally.violations += [f"{death.point}: {violation}" for violation in death.violations]
    tally.seconds = time.time() - started
    return tally


def _points(bench: KillBench, kills: int) -> Iterator[Point]:
    alone = max(1, round(kills * SERVER_SHARE)) if bench.engine == "spark" else 0
    servers = bench.server_points()
    rounds = -(-(kills - alone) // max(1, len(bench.points)))
    # Every step before any of them is taken a second time, in another way.
    for turn in range(rounds):
        count = min(len(bench.points), kills - alone - turn * len(bench.points))
        yield from bench.sampled(count, first=turn)
    for number in range(alone if servers else 0):
        yield servers[number % len(servers)]


def _kind_of(what: str) -> str:
    """Return a step without what is this run's alone."""
    verb, _, path = what.partition(" ")
    if "_delta_log" in path:
        last = path.rpartition("/")[2]
        return f"{verb} log " + (
            "checkpoint" if "checkpoint" in last else "commit" if re.search(r"\d{20}", last) else "…"
        )
    return f"{verb} data" if ".parquet" in path else f"{verb} {'folder' if 'w-' in path else 'other'}"


def plan(kills: int, stores: Sequence[Kind]) -> list[tuple[str, str, Kind, int]]:
    """Return how many of the kills each scenario, engine and store gets."""
    cases = [(scenario.name, engine) for engine in ENGINES for scenario in SCENARIOS]
    others = [store for store in stores if store != "folder"]
    folder = kills * (FOLDER_SHARE if others else 1) if "folder" in stores else 0
    each: dict[Kind, int] = {
        store: -(-round(folder if store == "folder" else (kills - folder) / len(others)) // len(cases))
        for store in stores
    }
    return [(name, engine, store, each[store]) for name, engine in cases for store in stores]


def report(tallies: Sequence[Tally]) -> Iterator[str]:
    """Yield the table of what was killed where, and the violations."""
    yield f"{'scenario':<38} engine  store    steps  kills missed    new  bad  seconds"
    for one in tallies:
        yield (
            f"{one.scenario:<38} {one.engine:<7} {one.store:<8} {one.steps:>5} {one.kills:>6} {one.missed:>6} "
            f"{one.saw_new:>6} {len(one.violations):>4} {one.seconds:>8.0f}"
        )
    where: Counter[str] = Counter()
    for one in tallies:
        where.update(one.where)
    yield ""
    yield from (f"{count:>6}  {kind}" for kind, count in where.most_common())
    bad = [(one, violation) for one in tallies for violation in one.violations]
    yield ""
    yield f"{sum(one.kills for one in tallies)} kills, {len(bad)} violations"
    yield from (f"{one.scenario}, {one.engine}, {one.store}: {violation}" for one, violation in bad)


def main() -> int:
    """Soak, and return 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5000)
    parser.add_argument("--minutes", type=float, default=24 * 60, help="ends earlier, with what was done until then")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stores", nargs="+", default=list(STORES), choices=STORES)
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    given = parser.parse_args()
    deadline = time.time() + given.minutes * 60
    tallies = []
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(soak, *case, deadline): case for case in plan(given.kills, given.stores)}
        for future in as_completed(futures):
            if error := future.exception():
                name, engine, store, _ = futures[future]
                tally = Tally(name, "", engine, store, violations=[f"the harness itself failed: {error!r}"[:300]])
            else:
                tally = future.result()
            tallies.append(tally)
            print(
                f"{tally.scenario}, {tally.engine}, {tally.store}: {tally.kills} killed, "
                f"{len(tally.violations)} violations, {tally.seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    tallies.sort(key=lambda one: (STORES.index(one.store), one.engine, one.scenario))
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in tallies], indent=1))
    print("\n".join(report(tallies)))
    return 1 if any(one.violations for one in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
