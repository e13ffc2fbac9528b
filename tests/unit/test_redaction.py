"""The value of a secret stands in nothing that is written down."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_sdk.config import Environment, Secret, resolve_secret, resolve_secrets
from aiflow_sdk.errors import AiflowError, UserCodeError, Where
from aiflow_sdk.local.logs import AttemptLog
from aiflow_sdk.plan import NodeFacts
from aiflow_sdk.redaction import REDACTOR, HidingStream, Redactor
from aiflow_sdk.runtime.rendering import shown_facts
from aiflow_sdk.variables import render

VALUE = "corr€ct horse/battery"
RUN = {
    "run_id": "r",
    "pipeline_id": "p",
    "execution": 1,
    "trace_id": "t",
    "environment": "dev",
    "partition_key": None,
    "last_partition_key": None,
}


@pytest.fixture
def value(monkeypatch: pytest.MonkeyPatch) -> Secret:
    monkeypatch.setenv("AIFLOW_SECRET_DB", VALUE)
    return resolve_secret("secret://db", Environment())


def test_looking_a_secret_up_hides_it(value: Secret) -> None:
    assert REDACTOR.hide(f"with {value}!") == "with ***!"


def test_a_value_is_hidden_in_the_forms_that_libraries_write() -> None:
    redactor = Redactor()
    redactor.add(VALUE)
    assert redactor.hide(json.dumps({"a": VALUE})) == '{"a": "***"}'
    assert redactor.hide("pg://u:corr%E2%82%ACct%20horse%2Fbattery@host") == "pg://u:***@host"
    assert redactor.hide("q=corr%E2%82%ACct+horse%2Fbattery") == "q=***"


def test_of_a_signed_token_the_signature_is_hidden_wherever_it_stands() -> None:
    redactor = Redactor()
    redactor.add("?sv=2024-01-01&sr=c&sig=aB%2Bc%2Fd%3D&se=2027")
    assert redactor.hide("GET /x?se=2027&sig=aB%2Bc%2Fd%3D&sv=1: 403, signature aB+c/d=") == (
        "GET /x?se=2027&sig=***&sv=1: 403, signature ***"
    )


def test_the_longest_value_goes_first_and_short_ones_stay() -> None:
    redactor = Redactor()
    for value in ("abcd", "abcdef", "xyz", ""):
        redactor.add(value)
    assert redactor.hide("abcdef abcd xyz") == "*** *** xyz"


def test_each_line_of_a_key_is_hidden() -> None:
    redactor = Redactor()
    redactor.add("-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ\n-----END KEY-----\n")
    assert redactor.hide("MIIEvQIBADANBg") == "***"


@given(st.text(min_size=4), st.text(), st.text())
def test_no_value_is_left_in_any_text(value: str, before: str, after: str) -> None:
    redactor = Redactor()
    redactor.add(value)
    hidden = redactor.hide(before + value + after)
    assert value not in hidden or value in "***" or "***" in hidden


def test_a_log_holds_no_secret_however_it_was_printed(value: Secret, tmp_path: Path) -> None:
    told: list[dict] = []
    log = AttemptLog(tmp_path / "a.log", RUN, "a", 1, told.append)
    log.write("stdout", f"first {value}\n{value[:5]}")
    log.write("stdout", f"{value[5:]} second\n")
    log.add("log", f"logged {value}")
    log.close()
    lines = [json.loads(line)["message"] for line in (tmp_path / "a.log").read_text().splitlines()]
    assert lines == [record["message"] for record in told] == ["first ***", "*** second", "logged ***"]


def test_an_error_leaves_without_the_secret(value: Secret) -> None:
    error = UserCodeError(
        "user-code-failed", f"a {value}", hint=f"b {value}", notes=[f"c {value}"], where=Where(about=f"d {value}")
    )
    assert VALUE not in json.dumps(error.to_dict(), ensure_ascii=False)
    assert AiflowError.from_dict(error.to_dict()).message == "a ***"


def test_the_facts_of_a_node_hold_no_secret(value: Secret) -> None:
    facts = NodeFacts(node_id="n", rows=3, identity="x", address=f"pg://{value}@h", counts={str(value): 1})
    shown = shown_facts(facts)
    assert (shown.address, dict(shown.counts), shown.rows) == ("pg://***@h", {"***": 1}, 3)


def test_a_stream_waits_for_the_end_of_a_line(value: Secret) -> None:
    under = io.StringIO()
    stream = HidingStream(under)
    stream.write(f"x {value[:4]}")
    stream.write(f"{value[4:]}\nrest")
    assert under.getvalue() == "x ***\n"
    stream.flush()
    assert under.getvalue() == "x ***\nrest"


def test_a_value_of_the_run_names_no_secret(value: Secret) -> None:
    facts = {"params": {"x": "secret://db"}, "run_id": "r", "pipeline_id": "p", "partition": None}
    with pytest.raises(AiflowError) as caught:
        render(resolve_secrets({"password": "{{ params.x }}"}, Environment()), facts)
    assert caught.value.code == "secret-in-param"


def test_braces_in_a_secret_are_no_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_SECRET_ODD", "{{ ds }}{% x %}")
    resolved = resolve_secrets({"password": "secret://odd", "day": "{{ run_id }}"}, Environment())
    assert render(resolved, {"run_id": "r"}) == {"password": "{{ ds }}{% x %}", "day": "r"}
