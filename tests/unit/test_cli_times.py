"""Times, days and numbers that nobody could understand are refused where they are typed, with how to write them."""

import json

import pytest

from aiflow_sdk.cli import main

COMMANDS = [
    ("audit", "list", "--since"),
    ("audit", "list", "--until"),
    ("audit", "export", "-", "--since"),
    ("cost", "--from"),
    ("cost", "--to"),
    ("lineage", "a.b", "--as-of"),
    ("grant", "add", "a.b", "--to", "t", "--until"),
]


@pytest.fixture
def refused(tmp_path, capsys):
    # Nobody answers there, so that whatever is not refused here ends otherwise, with 1.
    (tmp_path / "aiflow.toml").write_text('[environments.dev]\nservice = "http://127.0.0.1:9"\n')

    def call(*words: str) -> str:
        assert main(["-C", str(tmp_path), *words, "--json"]) == 2
        error = json.loads(capsys.readouterr().out)["error"]
        return f"{error['message']} {error['hint']}"

    return call


@pytest.mark.parametrize("command", COMMANDS)
def test_a_time_that_is_none_is_refused_with_an_example(refused, command) -> None:
    for wrong in ("yesterdayy", "2026-13-01", "2026-11-20T25:00:00Z", "", "1", "0001-01-01T00:00:00+14:00"):
        assert "2026-11-20T03:00:00Z" in refused(*command, wrong)
    assert "write 2026-11-20T00:00:00Z" in refused(*command, "2026-11-20")
    assert "write 2026-11-20T03:00:00Z" in refused(*command, "2026-11-20T03:00")


def test_an_end_that_is_over_is_refused(refused) -> None:
    assert "is over" in refused("grant", "add", "a.b", "--to", "t", "--until", "2020-01-01T00:00:00Z")


@pytest.mark.parametrize(
    "words",
    [
        ("audit", "list", "--limit"),
        ("history", "p", "--limit"),
        ("runs", "--limit"),
        ("grant", "remove"),
        ("token", "revoke"),
        ("lineage", "a.b", "--depth"),
        ("sync", "--days"),
    ],
)
def test_a_number_that_is_none_or_too_great_is_refused(refused, words) -> None:
    for wrong in ("0", "x", "1.5", "9" * 30):
        refused(*words, wrong)
