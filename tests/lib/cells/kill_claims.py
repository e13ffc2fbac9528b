"""What must hold when a writer dies, as a class that a store's file of tests derives from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cells.kills import SCENARIOS, KillBench, Scenario, place_maker
from cells.lake import ENGINES, STORES
from extent import combinations
from harness.place import Kind
from harness.zygote import Zygote

EVERY_SCENARIO = tuple(scenario.name for scenario in SCENARIOS)
ONE_OF_EACH_MODE = (
    "overwrite with a checkpoint",
    "overwrite_partitions",
    "append that widens a type",
    "upsert over others' rows",
    "error_if_exists",
)
"""For stores, whose every request is dear."""


class KillClaims:
    """Derive from it and set ``store``."""

    store: ClassVar[Kind]
    kills: ClassVar[int]
    """Of each scenario's write, evenly over its steps."""
    scenarios: ClassVar[tuple[str, ...]] = ONE_OF_EACH_MODE

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give the tests each engine and scenario."""
        if "bench" in metafunc.fixturenames:
            kinds = combinations(self.scenarios, ENGINES, STORES)
            if self.store == "folder":
                cases = [(engine, name) for engine in ENGINES for name in self.scenarios]
            else:
                cases = [(engine, name) for name, engine, kind in kinds if kind == self.store]
            metafunc.parametrize("bench", cases, indirect=True, ids=[f"{engine}: {name}" for engine, name in cases])

    @pytest.fixture
    def bench(
        self, request: pytest.FixtureRequest, tmp_path: Path, writers: Zygote, spark_session: None
    ) -> Iterator[KillBench]:
        """A scenario's write, traced."""
        engine, name = request.param
        scenario = next(one for one in SCENARIOS if one.name == name)
        with self.bench_of(request, tmp_path, writers, scenario, engine) as bench:
            yield bench

    @pytest.fixture(
        params=[scenario.name for scenario in SCENARIOS if scenario.name in ("append", "upsert done again")]
    )
    def spark_bench(
        self, request: pytest.FixtureRequest, tmp_path: Path, writers: Zygote, spark_session: None
    ) -> Iterator[KillBench]:
        """A scenario's write by Spark, traced."""
        scenario = next(one for one in SCENARIOS if one.name == request.param)
        with self.bench_of(request, tmp_path, writers, scenario, "spark") as bench:
            yield bench

    def bench_of(
        self, request: pytest.FixtureRequest, folder: Path, zygote: Zygote, scenario: Scenario, engine: str
    ) -> KillBench:
        """Return the bench, which is not open yet."""
        server: Any = None
        if self.store == "s3":
            server = request.getfixturevalue("s3")
        elif self.store != "folder":
            azure = request.getfixturevalue("azure")
            server = azure.plain if self.store == "azure" else azure.onelake
        return KillBench(scenario, engine, place_maker(self.store, folder, server), zygote, folder)

    def test_readers_see_all_or_nothing_of_a_killed_write_and_doing_it_again_mends_it(
        self, bench: KillBench, request: pytest.FixtureRequest
    ) -> None:
        assert bench.old != bench.new != bench.newest or bench.scenario.refused
        first = SCENARIOS.index(bench.scenario)
        deaths = [bench.kill(point) for point in bench.sampled(self.kills, first)]
        assert [death for death in deaths if death.violations] == []
        assert all(death.was_killed for death in deaths), deaths
        note(request, bench, len(deaths))

    def test_a_spark_server_that_dies_at_work_harms_nothing(
        self, spark_bench: KillBench, request: pytest.FixtureRequest
    ) -> None:
        points = spark_bench.server_points()
        death = spark_bench.kill(points[len(points) // 2])
        assert death.violations == ()
        assert death.was_killed, death
        note(request, spark_bench, 1)


def note(request: pytest.FixtureRequest, bench: KillBench, kills: int) -> None:
    """Note for the matrix how often a writer was killed."""
    facts = {"cell": str(bench.cell), "scenario": bench.scenario.name, "kills": kills}
    request.node.user_properties.extend(facts.items())
