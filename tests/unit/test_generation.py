"""Generations: claimed in the lake, so that all machines agree on them."""

import threading
import uuid
from pathlib import Path

import pytest

from aiflow_sdk.config import Environment
from aiflow_sdk.plan import Run
from aiflow_sdk.runtime import claim_generation
from aiflow_sdk.stores import FolderStore


def run_of(environment: str = "dev") -> Run:
    return Run(run_id=str(uuid.uuid4()), environment=environment, project="default", pipeline_id="p")


@pytest.fixture
def lake(tmp_path: Path) -> Environment:
    return Environment(lake=str(tmp_path / "lake"))


def claims(lake: Environment) -> list[int]:
    return [int(key.rpartition("/")[2]) for key in FolderStore(Path(lake.lake)).list("_generations/dev/default/p")]


def test_no_generation_is_given_twice(lake):
    given: list[int] = []
    threads = [
        threading.Thread(target=lambda: given.extend(claim_generation(lake, run_of()) for _ in range(25)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(given)) == 100
    assert claim_generation(lake, run_of("prod")) == 1


def test_a_generation_is_above_what_the_tables_note(lake):
    assert claim_generation(lake, run_of(), known=41) == 42
    assert [claim_generation(lake, run_of()) for _ in range(3)] == [43, 44, 45]
    assert claim_generation(lake, run_of(), known=7) == 46


def test_old_claims_are_swept_and_none_is_taken_a_second_time(lake, monkeypatch):
    for _ in range(210):
        claim_generation(lake, run_of())
    assert len(claims(lake)) < 210
    assert claims(lake)[-1] == 210
    real, lists = FolderStore.list, iter([["x/3"]])
    # A machine that stood still since it looked, when 3 was the newest.
    monkeypatch.setattr(FolderStore, "list", lambda store, prefix="": next(lists, None) or real(store, prefix))
    assert claim_generation(lake, run_of()) == 211
