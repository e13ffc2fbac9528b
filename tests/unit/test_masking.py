"""Secrets in what others send are hidden; what only sounds like one stays."""

import json
import time

import pytest

from aiflow_service.masking import (
    hide_secrets,
    hide_secrets_in_bytes,
    hide_secrets_in_text,
    is_name_of_secret,
    may_hold_secrets,
)

SECRET = "hunter2-9f3a"
TEXTS = [
    f"postgres://app:{SECRET}@db:5432/shop",
    f"mongodb://app:p@{SECRET}@db/x",
    f"redis://:{SECRET}@cache",
    f"could not connect: host=db password={SECRET} port=5",
    f"{{'user': 'a', 'password': '{SECRET}'}}",
    f'{{"client_secret": "{SECRET}"}}',
    f'a text in a text {{\\"password\\": \\"{SECRET}\\"}}',
    f"Authorization: Bearer {SECRET}",
    f"https://x.blob/y?sv=1&sig={SECRET}%2F&x=1",
    f"curl https://x/?token={SECRET}",
    f"SharedAccessKey={SECRET}==;EntityPath=q",
    f"export AWS_SECRET_ACCESS_KEY={SECRET}",
    f"--conf spark.hadoop.fs.s3a.secret.key={SECRET}",
    f"jdbc:postgresql://db/x?user=u&password={SECRET}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
    f"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.{SECRET}",
]
ISSUED = [
    *(f"gh{kind}_{'a1B2' * 9}" for kind in "oprsu"),
    f"github_pat_{'a1_B' * 12}",
    f"glpat-{'a-B_1' * 4}",
    *(f"xox{kind}-123456789012-abc" for kind in "bp"),
    f"dapi{'0f' * 16}",
    f"AIza{'a_B-1' * 7}",
]
PLAIN = [
    "secret://warehouse",
    "SELECT * FROM users WHERE token_count > 5 AND password == b.password",
    "Unexpected token: foo",
    "http://host:8080/path@2",
    "mail ana@company.com about https://company.com",
    "basic usage",
    "urn:uuid:5c1f",
    "the dapi of high_ghp_s, glpat-x and xoxb-",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_in_a_text_is_hidden(text: str) -> None:
    assert SECRET not in hide_secrets_in_text(text)
    raw = json.dumps({"message": text}).encode()
    assert may_hold_secrets(raw)
    hidden = hide_secrets_in_bytes(raw)
    assert SECRET.encode() not in hidden
    json.loads(hidden)
    assert SECRET.encode() not in hide_secrets_in_bytes(text.encode())


@pytest.mark.parametrize("token", ISSUED)
def test_a_token_that_a_provider_issued_is_hidden_wherever_it_stands(token: str) -> None:
    for text in (token, f"git+https://{token}@host/shop", f"denied for {token}."):
        raw = json.dumps({"message": text}).encode()
        assert may_hold_secrets(raw)
        assert json.loads(hide_secrets_in_bytes(raw))["message"] == text.replace(token, "***")


@pytest.mark.parametrize("text", PLAIN)
def test_what_only_sounds_like_a_secret_stays(text: str) -> None:
    assert hide_secrets_in_text(text) == text


@pytest.mark.parametrize(
    "name",
    [
        *("password", "DB_PASSWORD", "accessToken", "access-token", "spark.hadoop.fs.s3a.secret.key", "Authorization"),
        *("X-Api-Key", "Set-Cookie", "fs.azure.account.key.lake.net", "privateKey", "db_pwd", "client.secret"),
    ],
)
def test_values_that_are_called_like_secrets_are_hidden(name: str) -> None:
    assert is_name_of_secret(name)
    for value in (SECRET, 12345678, [SECRET], 0.5):
        assert hide_secrets({name: value})[name] in ("***", ["***"])
    assert hide_secrets({"variables": [{"name": name, "value": SECRET}]}) == {
        "variables": [{"name": name, "value": "***"}]
    }


@pytest.mark.parametrize("name", ["tokenizer", "max_tokens", "keys", "primary_key", "pwdx", "author", "sasl_mechanism"])
def test_other_names_are_not_taken_for_secrets(name: str) -> None:
    assert not is_name_of_secret(name)


def test_references_columns_and_facts_beside_secrets_stay_and_what_has_none_is_the_very_same() -> None:
    sources = {"fields": {"password": {"inputFields": [{"namespace": "n", "name": "t", "field": "token"}]}}}
    columns = {"fields": [{"name": "password", "type": "string"}, {"name": "token", "type": "string"}]}
    document = {"password": "secret://shop", "is_secret": True, "token": None}
    document |= {"facets": {"columnLineage": sources, "schema": columns}, "nodes": {"user_secrets": {"rows": 5}}}
    assert hide_secrets(document) is document
    assert hide_secrets({"secrets": {"db": SECRET, "port": 5}}) == {"secrets": {"db": "***", "port": "***"}}


def test_escaped_letters_and_wrong_bytes_hide_nothing_from_it() -> None:
    escaped = b'{"p\\u0061ssword": "%b"}' % SECRET.encode()
    assert SECRET.encode() not in hide_secrets_in_bytes(escaped)
    pair = b'{"name": "DB_PASSWORD", "value": "%b"'
    for raw in (
        b'\xff{"password": "%b"',
        b'{"password": "%b", ',
        b'[{"password": "%b"}',
        b'{"a.secret.key": "%b"',
        pair,
    ):
        assert SECRET.encode() not in hide_secrets_in_bytes(raw % SECRET.encode())
    deep = b'{"a":' * 5000 + b'{"password":"%b"}' % SECRET.encode() + b"}" * 5000
    assert SECRET.encode() not in hide_secrets_in_bytes(deep)


@pytest.mark.parametrize(
    "text",
    [
        *("a" * 300_000 + " = ", "secret" * 50_000 + " = ", "eyJ-" * 75_000 + ":", "a://b:" * 50_000),
        *("secret " * 45_000, "-----BEGIN PRIVATE KEY" * 14_000 + " :", "bearer " * 40_000, "pwd = '" * 40_000),
        "x" * 300_000 + "://u:p@h",
    ],
    ids=lambda text: text[:12],
)
def test_a_long_text_is_looked_through_once(text):
    began = time.process_time()
    hide_secrets_in_text(text)
    assert time.process_time() - began < 10  # by its square it would be hours


@pytest.mark.parametrize("part", [b'\\"', b'"secret', b'"name":'])
def test_so_are_bytes_that_are_no_json(part):
    began = time.process_time()
    hide_secrets_in_bytes(b'{"secret": ' + part * 100_000)
    assert time.process_time() - began < 10
