"""The runs of a folder are told to a receiver as they go on, whatever was told before."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from aiflow_sdk.errors import ReceiverError
from aiflow_sdk.events import Spool
from aiflow_sdk.local import following
from aiflow_sdk.local.following import Follower
from aiflow_sdk.local.store import runs_folder
from aiflow_sdk.plugins import Heard, Listener
from aiflow_sdk.runtime.courier import Courier


class Receiver(Listener, kind="receiver"):
    """Keeps what it is told, and may be away, or refuse what is marked."""

    def model_post_init(self, context: Any) -> None:
        object.__setattr__(self, "told", [])
        object.__setattr__(self, "is_away", False)

    def on_event(self, event: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def on_events(self, events: Sequence[Mapping[str, Any]]) -> Heard:
        if self.is_away:  # type: ignore[attr-defined]  # set beside the options
            why = ReceiverError("receiver-unreachable", "gone", retryable=True)
            return Heard(0, why=why, is_reachable=False)
        self.told.extend(event["n"] for event in events)  # type: ignore[attr-defined]  # likewise
        return Heard(len(events), {i: "bad" for i, event in enumerate(events) if event.get("bad")})


@pytest.fixture
def receiver() -> Any:
    return Receiver()


def spool_of(root: Path, run: str) -> Spool:
    folder = runs_folder(root) / run
    folder.mkdir(parents=True, exist_ok=True)
    return Spool(folder / "events.jsonl")


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_past_runs_and_those_that_come_are_told(tmp_path, receiver):
    spool_of(tmp_path, "1").append({"n": 1})
    follower = Follower(tmp_path, receiver, "here")
    follower.start()
    until(lambda: receiver.told == [1])
    spool_of(tmp_path, "1").append({"n": 2})
    spool_of(tmp_path, "2").append({"n": 3})
    until(lambda: receiver.told == [1, 2, 3])
    follower.stop()
    spool_of(tmp_path, "2").append({"n": 4})
    assert receiver.told == [1, 2, 3]


def test_a_new_receiver_hears_of_all_runs_again(tmp_path, receiver):
    spool_of(tmp_path, "1").append({"n": 1})
    for _ in range(2):
        follower = Follower(tmp_path, receiver, "here")
        follower.send()
    assert receiver.told == [1, 1]


def test_a_receiver_that_is_away_is_told_later_and_what_it_refuses_is_passed_over(tmp_path, receiver):
    for n, bad in ((1, False), (2, True), (3, False)):
        spool_of(tmp_path, "1").append({"n": n, "bad": bad})
    follower = Follower(tmp_path, receiver, "here")
    object.__setattr__(receiver, "is_away", True)
    follower.send()
    assert receiver.told == []
    object.__setattr__(receiver, "is_away", False)
    follower.send()
    assert receiver.told == [1, 2, 3]
    assert not Courier("here", receiver, "any").is_behind(runs_folder(tmp_path) / "1" / "events.jsonl")


def test_a_project_that_has_no_runs_or_loses_one_is_no_trouble(tmp_path, receiver):
    follower = Follower(tmp_path / "nowhere", receiver, "here")
    assert follower.send() is None
    spool = spool_of(tmp_path, "1")
    spool.append({"n": 1})
    follower = Follower(tmp_path, receiver, "here")
    follower.send()
    spool.path.unlink()
    assert follower.send() is None


def test_an_error_while_it_looks_ends_nothing(tmp_path, receiver, monkeypatch):
    looked: list[float] = []

    def fail(*_: Any) -> dict[str, int]:
        looked.append(time.monotonic())
        if len(looked) < 3:
            raise RuntimeError("whatever it is")
        return {}

    monkeypatch.setattr(following, "tell_ends", fail)  # what no known error does
    monkeypatch.setattr(following, "_ENDS_SECONDS", 0.05)  # ten in truth
    spool_of(tmp_path, "1").append({"n": 1})
    follower = Follower(tmp_path, receiver, "here")
    follower.start()
    until(lambda: receiver.told == [1])
    follower.stop()
    assert len(looked) >= 3


def test_what_was_looked_at_is_passed_on_to_the_next_look(tmp_path, receiver, monkeypatch):
    given: list[Mapping[str, int]] = []

    def look(root: Path, looked_at: Mapping[str, int]) -> dict[str, int]:
        given.append(looked_at)
        return {"1": len(given)}

    monkeypatch.setattr(following, "tell_ends", look)  # to see what it is given
    monkeypatch.setattr(following, "_ENDS_SECONDS", 0.05)  # ten in truth
    follower = Follower(tmp_path, receiver, "here")
    follower.start()
    until(lambda: len(given) >= 3)
    follower.stop()
    assert given[:3] == [{}, {"1": 1}, {"1": 2}]
