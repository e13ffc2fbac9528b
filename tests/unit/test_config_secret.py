"""Secrets are looked up where the environment says, and never show themselves."""

import json
import pickle
import re
import time
from pathlib import Path
from types import MappingProxyType

import pytest

from aiflow_sdk.config import Environment, Secret, resolve_secret, resolve_secrets, secret_problems
from aiflow_sdk.errors import ConfigurationError
from aiflow_sdk.redaction import ISSUED_TOKENS

VALUE = "hunter2-in-the-clear"


def files(path: Path) -> Environment:
    return Environment(secrets={"provider": "file", "path": str(path)})


def test_an_environment_variable_is_named_by_prefix_and_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_SECRET_DB_MAIN_PASSWORD", VALUE)
    assert resolve_secret("secret://db/main-password", Environment()) == VALUE
    monkeypatch.setenv("MY_TOKEN", "t")
    assert resolve_secret("secret://token", Environment(secrets={"provider": "env", "prefix": "MY_"})) == "t"


def test_no_variable_without_the_prefix_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", VALUE)
    with pytest.raises(ConfigurationError) as caught:
        resolve_secret("secret://password", Environment(name="prod"))
    assert caught.value.code == "unknown-secret"
    assert "looked for the environment variable AIFLOW_SECRET_PASSWORD" in caught.value.notes
    assert "prod" in str(caught.value)


def test_a_folder_holds_a_file_for_each_secret(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "password").write_text(f"{VALUE}\n")
    (tmp_path / "two_lines").write_text("a\nb\n")
    assert resolve_secret("secret://db/password", files(tmp_path)) == VALUE
    assert resolve_secret("secret://two_lines", files(tmp_path)) == "a\nb"
    with pytest.raises(ConfigurationError) as caught:
        resolve_secret("secret://two_line", files(tmp_path))
    assert caught.value.hint == "did you mean 'two_lines'?"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("secrets.toml", f'[db]\npassword = "{VALUE}"'),
        ("secrets.toml", f'"db/password" = "{VALUE}"'),
        (".env", f"# comment\nexport DB_PASSWORD='{VALUE}'\n"),
        (".env", f"\ufeffDB_PASSWORD = {VALUE}\r\nOTHER=x"),
    ],
)
def test_one_file_may_hold_them_all(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert resolve_secret("secret://db/password", files(tmp_path / name)) == VALUE


def test_a_relative_path_starts_at_the_project(tmp_path: Path) -> None:
    (tmp_path / "secrets.env").write_text("token=x")
    environment = Environment(secrets={"provider": "file", "path": "secrets.env"}, root=tmp_path)
    assert resolve_secret("secret://token", environment) == "x"


@pytest.mark.parametrize("name", ["../token", "a/../b", "/etc/passwd", "", "a b", ".hidden", "a//b", "a\n"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "token").write_text("x")
    with pytest.raises(ConfigurationError) as caught:
        resolve_secret(f"secret://{name}", files(tmp_path / "inner"))
    assert caught.value.code == "unknown-secret"


@pytest.mark.parametrize("content", [f'password = "{VALUE}'.encode(), b"\xff" + VALUE.encode()])
def test_no_error_shows_a_piece_of_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secrets.toml").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        resolve_secret("secret://password", files(tmp_path / "secrets.toml"))
    assert caught.value.code == "unreadable-secrets"
    assert VALUE not in json.dumps(caught.value.to_dict())
    assert caught.value.__cause__ is None


def test_plain_data_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_SECRET_A", VALUE)
    data = {"url": "https://x", "headers": [{"key": "secret://a"}], "pair": ("secret://a", 1), "none": None}
    assert resolve_secrets(data, Environment()) == {
        "url": "https://x",
        "headers": [{"key": VALUE}],
        "pair": (VALUE, 1),
        "none": None,
    }


def test_a_resolved_secret_does_not_show_itself_in_a_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_SECRET_A", VALUE)
    resolved = resolve_secrets({"password": "secret://a"}, Environment())
    assert VALUE not in repr(resolved)
    assert f"x{resolved['password']}" == f"x{VALUE}"
    copied = pickle.loads(pickle.dumps(resolved["password"]))
    assert (copied, repr(copied), type(copied)) == (VALUE, "'***'", Secret)


@pytest.mark.parametrize(
    "piece",
    ["x", "a.", "a://", "://", "password ", "AKIA", "-----BEGIN ", "bearer ", "bearer a", "eyJabcdefgh", "&sig="],
)
def test_a_long_text_is_looked_through_once(piece: str) -> None:
    begun = time.process_time()
    assert list(secret_problems({"note": piece * (65_536 // len(piece))})) == []
    assert time.process_time() - begun < 2  # by each letter anew it took 45 seconds


@pytest.mark.parametrize("text", ["postgres://me:pw@db", "at jdbc:postgresql+x://:pw@db/shop", "1://a:pw@db"])
def test_a_password_in_an_address_is_found(text: str) -> None:
    assert [problem.code for problem in secret_problems({"note": text})] == ["literal-secret"]
    assert not list(secret_problems({"note": text.replace(":pw", "")}))


def shortest(begin: str, rest: str) -> str:
    """Return the shortest text that begins so and goes on as the pattern says: a class of characters, so many times."""
    times = re.search(r"\{(\d+),?\}$", rest)
    assert times
    return begin + "a" * int(times[1])


@pytest.mark.parametrize(
    "text",
    [
        *(shortest(begin, rest) for begin, rest in ISSUED_TOKENS.items()),
        "AKIA" + "A" * 16,
        "-----BEGIN PRIVATE KEY-----",
        "pwd=x",
        "a://:b@",
    ],
)
def test_the_shortest_secret_of_each_kind_is_found(text: str) -> None:
    assert [problem.code for problem in secret_problems([{"note": text}])] == ["literal-secret"]


def test_what_holds_no_text_holds_no_secret() -> None:
    assert not list(secret_problems({"password": [None, True, 1, 2.5, {}, []]}))
    found = list(secret_problems(MappingProxyType({"database": MappingProxyType({"password": "hunter2"})})))
    assert [problem.message.split("'")[1] for problem in found] == ["database.password"]


@pytest.mark.parametrize(
    "value",
    [
        {"headers": {"Authorization": "Bearer abc123def456"}},
        {"headers": {"Authorization": "Basic dXNlcjpodW50ZXIyMg=="}},
        {"env": [{"name": "DB_PASSWORD", "value": "hunter2"}]},
        {"dbPassword": "hunter2"},
        {"passwords": ["hunter2"]},
        {"address": "https://a.blob.core.windows.net/c?sv=1&sig=abcdefgh%3D"},
        {"jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijk"},
        {"header": f"aiflow_{'a1' * 21}b"},
    ],
)
def test_secrets_that_stand_elsewhere_than_under_their_names_are_found(value: dict) -> None:
    (found,) = secret_problems(value)
    assert found.code == "literal-secret"


@pytest.mark.parametrize(
    "value",
    [
        {"headers": {"Authorization": "Bearer {{ token }}"}},
        {"env": [{"name": "DB_PASSWORD", "value": "secret://db"}, {"name": "password", "type": "string"}]},
        {"password": None, "use_password": True, "max_token": 100, "token": 5},
        {"note": "basic authentication, and a bearer of news; eyJust.a.text", "url": "https://x/?signature=none&sig="},
        {"tokenizer": "words", "keyboard": "qwerty", "secretary": "ana", "passwordless": "yes"},
        {"aiflow_run": "aiflow_metadata_service"},
    ],
)
def test_what_only_sounds_like_a_secret_is_none(value: dict) -> None:
    assert list(secret_problems(value)) == []
