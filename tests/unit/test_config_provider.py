"""Secrets may come from an installed provider, and never stand in aiflow.toml themselves."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiflow_sdk.config import Environment, load_project, resolve_secret
from aiflow_sdk.errors import AiflowError, ProblemsError

MODULE = """
class Vault:
    def __init__(self, *, address):
        self.address = address
    def get(self, name):
        if name == "down":
            raise OSError("token s3cr3t refused")
        return f"{self.address}/{name}" if name == "db" else None
"""


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that offers the provider 'vault', installed as pip leaves it."""
    folder = tmp_path / "installed"
    (folder / "vault_plugin-1.0.dist-info").mkdir(parents=True)
    (folder / "vault_plugin.py").write_text(MODULE)
    (folder / "vault_plugin-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: vault_plugin\nVersion: 1.0\n"
    )
    (folder / "vault_plugin-1.0.dist-info/entry_points.txt").write_text(
        "[aiflow.secrets]\nvault = vault_plugin:Vault\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    yield tmp_path
    sys.modules.pop("vault_plugin", None)


def vaulted(**options: str) -> Environment:
    return Environment(name="prod", secrets={"provider": "vault", **options})


def test_an_installed_provider_is_asked(vault: Path) -> None:
    assert resolve_secret("secret://db", vaulted(address="https://v")) == "https://v/db"
    (vault / "aiflow.toml").write_text('[environments.prod.secrets]\nprovider = "vault"\naddress = "https://v"\n')
    assert load_project(vault).environment("prod").secrets["provider"] == "vault"


@pytest.mark.parametrize(
    ("name", "options", "code"),
    [
        ("nothing", {"address": "x"}, "unknown-secret"),
        ("down", {"address": "x"}, "unreadable-secrets"),
        ("db", {"adress": "x"}, "unreadable-secrets"),
    ],
)
def test_what_a_provider_says_is_not_shown(vault: Path, name: str, options: dict[str, str], code: str) -> None:
    with pytest.raises(AiflowError) as caught:
        resolve_secret(f"secret://{name}", vaulted(**options))
    assert caught.value.code == code
    assert "s3cr3t" not in str(caught.value.to_dict())


def test_an_unknown_provider_is_told_of_all_that_there_are(vault: Path) -> None:
    (vault / "aiflow.toml").write_text('[environments.prod.secrets]\nprovider = "keychain"\n')
    with pytest.raises(AiflowError, match="providers: airflow, env, file, vault"):
        load_project(vault)
    with pytest.raises(AiflowError) as caught:
        resolve_secret("secret://db", Environment(secrets={"provider": "vaul"}))
    assert caught.value.hint == "did you mean 'vault'?"
    assert caught.value.notes == ("providers: airflow, env, file, vault",)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[environments.prod.clusters.emr]\nkind = "local"\napi_key = "AKIA-no"\n', 3),
        ('[environments.prod.listeners.http]\nkind = "x"\nheader = "AKIAABCDEFGHIJKLMNOP"\n', 3),
        (f'[environments.prod.listeners.http]\nkind = "x"\nheader = "dapi{"0f" * 16}"\n', 3),
        ('[environments.prod.clusters.emr]\nkind = "local"\n[environments.prod.clusters.emr.conf]\ntoken = "x"\n', 4),
        ('[environments.prod]\nlake = "s3://user:hunter2@bucket/x"\n', 2),
    ],
)
def test_a_secret_in_plain_text_is_refused_and_not_shown(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "aiflow.toml").write_text(text)
    with pytest.raises(AiflowError) as caught:
        load_project(tmp_path)
    assert (caught.value.code, caught.value.where and caught.value.where.line) == ("literal-secret", line)
    assert not any(value in str(caught.value.to_dict()) for value in ("AKIA", "hunter2"))


def test_a_reference_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "aiflow.toml").write_text(
        '[environments.prod.clusters.emr]\nkind = "local"\napi_key = "secret://emr_key"\n'
    )
    load_project(tmp_path)


@pytest.mark.parametrize("name", ["..", "a/b", "../x", ".", "", "a b", "-x"])
def test_a_project_that_would_be_a_path_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "aiflow.toml").write_text(f'project = "{name}"\n')
    with pytest.raises(AiflowError) as caught:
        load_project(tmp_path)
    assert not isinstance(caught.value, ProblemsError)
    assert caught.value.code == "bad-setting"
