"""Errors pass from process to process and lose nothing on the way but the values of secrets."""

import importlib.metadata
import json
import pickle

import pytest

from aiflow_sdk.errors import AiflowError, ConfigurationError, DataError, ProblemsError, Where, install_hint

PROBLEMS = ProblemsError(
    [
        ConfigurationError("bad-setting", "one", where=Where("aiflow.toml", 3), hint="mend it", notes=["a"]),
        ProblemsError([DataError("malformed-file", "two", retryable=True), DataError("malformed-file", "three")]),
    ]
)


def parts(error: AiflowError) -> list[tuple[object, ...]]:
    inner = getattr(error, "problems", None)
    if inner is not None:
        return [(type(error), error.code, str(error)), *(part for one in inner for part in parts(one))]
    return [(type(error), error.code, str(error), error.where, error.hint, error.retryable, error.notes)]


def test_several_problems_survive_json() -> None:
    copied = AiflowError.from_dict(json.loads(json.dumps(PROBLEMS.to_dict())))
    assert parts(copied) == parts(PROBLEMS)


def test_several_problems_survive_pickle() -> None:
    assert parts(pickle.loads(pickle.dumps(PROBLEMS))) == parts(PROBLEMS)


def test_a_place_is_given_to_each_of_several_problems() -> None:
    error = ProblemsError([DataError("malformed-file", "two")]).at(Where(about="source 'x'"))
    assert error.problems[0].where == Where(about="source 'x'")


def test_a_place_of_a_newer_aiflow_is_read() -> None:
    data = {**DataError("malformed-file", "x", where=Where("a.py", 2)).to_dict()}
    data["where"]["end_line"] = 9
    assert AiflowError.from_dict(data).where == Where("a.py", 2)


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'aiflow-sdk[sql]'"),
        ('{"url": "https://example.com/x.whl"}', "pip install 'aiflow-sdk[sql]'"),
        ('{"url": "file:///a%20b/aiflow-sdk", "dir_info": {}}', "pip install '/a b/aiflow-sdk[sql]'"),
        ('{"url": "file:///x", "dir_info": {"editable": true}}', "pip install -e '/x[sql]'"),
    ],
)
def test_an_extra_is_installed_from_where_aiflow_came(
    monkeypatch: pytest.MonkeyPatch, origin: str | None, command: str
) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return origin

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed())
    assert install_hint("sql") == command
