"""aiflow.toml: what it says, where it is looked for, and what is wrong with it."""

from dataclasses import replace
from pathlib import Path

import pytest

from aiflow_sdk.config import Environment, load_project
from aiflow_sdk.errors import AiflowError, ConfigurationError, ProblemsError, UnknownNameError
from aiflow_sdk.service import Service
from aiflow_sdk.service.logins import keep_login


def write(folder: Path, text: str) -> Path:
    (folder / "aiflow.toml").write_text(text, encoding="utf-8")
    return folder


def problem_of(folder: Path, text: str) -> AiflowError:
    with pytest.raises(AiflowError) as caught:
        load_project(write(folder, text))
    return caught.value


def test_a_folder_without_a_file_has_the_defaults(tmp_path: Path) -> None:
    project = load_project(tmp_path)
    assert project.root == tmp_path.resolve()
    assert (project.name, project.pipelines, project.config_path) == ("default", ("pipelines",), None)
    assert (project.python, project.lock, project.discovery_timeout_seconds) == (None, None, 30)
    assert project.environment().name == "dev"


def test_everything_that_the_file_says_is_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        project = "shop"
        pipelines = ["pipelines", "teams.ads"]
        python = ".venv/bin/python"
        lock = "requirements.lock"
        discovery_timeout_seconds = 5
        default_environment = "test"

        [environments.prod]
        lake = "s3://company-lake"
        staging = "s3://scratch/staging"
        staging_keep_days = 3
        spark = "sc://spark:15002"
        clusters.emr = { kind = "local" }
        secrets = { provider = "file", path = "/run/secrets" }

        [environments.test]
        reads_from = "prod"
        keep_days = 2.5

        [masked]
        "raw.users" = ["email"]
        raw.orders = ["address", "phone"]
        """,
    )
    project = load_project(tmp_path)
    assert (project.name, project.pipelines) == ("shop", ("pipelines", "teams.ads"))
    assert (project.python, project.lock, project.discovery_timeout_seconds) == (
        ".venv/bin/python",
        "requirements.lock",
        5,
    )
    prod = project.environment("prod")
    assert (prod.lake, prod.staging, prod.staging_keep_days) == ("s3://company-lake", "s3://scratch/staging", 3)
    assert (prod.spark, prod.clusters["emr"]["kind"]) == ("sc://spark:15002", "local")
    assert prod.secrets["path"] == "/run/secrets"
    assert project.environment().name == "test"
    assert (project.environment().reads_from, project.environment().keep_days) == ("prod", 2.5)
    assert project.masked == {"raw.users": ("email",), "raw.orders": ("address", "phone")}


def test_the_nearest_file_above_is_the_projects(tmp_path: Path) -> None:
    write(tmp_path, 'project = "outer"')
    inner = tmp_path / "inner"
    (inner / "pipelines" / "deep").mkdir(parents=True)
    assert load_project(inner / "pipelines").name == "outer"
    write(inner, 'project = "inner"')
    project = load_project(inner / "pipelines" / "deep")
    assert (project.name, project.root) == ("inner", inner.resolve())


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_project(tmp_path / "nowhere")
    assert caught.value.code == "no-project"


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "aiflow.toml").write_bytes(b'\xef\xbb\xbfproject = "shop"\r\n[environments.prod]\r\nlak = "x"\r\n')
    with pytest.raises(ConfigurationError) as caught:
        load_project(tmp_path)
    assert str(caught.value.where).startswith("aiflow.toml:3")


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ('projekt = "x"', 1, "did you mean 'project'?"),
        ('\npipeline = ["x"]', 2, "did you mean 'pipelines'?"),
        ('[environments.dev]\n\n"lakes" = "x"', 3, "did you mean 'lake'?"),
        ('environments.dev.lakee = "x"', 1, "did you mean 'lake'?"),
        ('[environments]\ndev = { lake = "a", stagin = "b" }', 2, "did you mean 'staging'?"),
        ("[enviroments.dev]", 1, "did you mean 'environments'?"),
        ('[environments.dev.secrets]\nprovider = "env"\nprefx = "A"', 3, "did you mean 'prefix'?"),
    ],
)
def test_a_typo_is_told_with_its_line_and_the_nearest_setting(tmp_path: Path, text: str, line: int, hint: str) -> None:
    error = problem_of(tmp_path, text)
    assert (error.code, error.hint) == ("unknown-setting", hint)
    assert str(error.where).startswith(f"aiflow.toml:{line}, ")
    assert f"looked in {tmp_path.resolve() / 'aiflow.toml'}" in error.notes


@pytest.mark.parametrize(
    "text",
    [
        "project = 3",
        'project = "a/b"',
        'pipelines = "pipelines"',
        "pipelines = []",
        "discovery_timeout_seconds = 0",
        "discovery_timeout_seconds = true",
        "discovery_timeout_seconds = inf",
        "environments = 1",
        'environments.dev = "lake"',
        'environments."a b".lake = "x"',
        "environments.dev.lake = 1",
        "environments.dev.staging_keep_days = -1",
        'environments.dev.spark = "spark://host"',
        "environments.dev.clusters.emr = {}",
        'environments.dev.clusters = "local"',
        'environments.dev.secrets.provider = "vallt"',
        'environments.dev.secrets.provider = "file"',
        "environments.dev.secrets.prefix = 3",
        "masked.users = 3",
        'masked.users = ["email"]',
        '[masked]\n"raw.users" = "email"',
    ],
)
def test_a_value_of_the_wrong_kind_is_told_with_its_line(tmp_path: Path, text: str) -> None:
    error = problem_of(tmp_path, text)
    assert error.code == "bad-setting"
    assert error.where
    assert error.where.line


def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    error = problem_of(tmp_path, 'project = "shop"\nlake = s3://x\n')
    assert error.code == "bad-toml"
    assert error.where
    assert error.where.line == 2


@pytest.mark.parametrize("text", ["[environments.dev]\n[environments.dev]\n", 'project = "a"\nproject = "b"\n'])
def test_what_stands_twice_is_told_to_stand_once(tmp_path: Path, text: str) -> None:
    error = problem_of(tmp_path, text)
    assert error.code == "bad-toml"
    assert error.hint
    assert "stands once" in error.hint


def test_what_is_not_utf_8_is_told(tmp_path: Path) -> None:
    (tmp_path / "aiflow.toml").write_bytes(b'project = "caf\xe9"')
    with pytest.raises(ConfigurationError) as caught:
        load_project(tmp_path)
    assert caught.value.code == "bad-toml"


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    error = problem_of(tmp_path, 'projekt = "x"\nlock = 1\n[environments.prod]\nlak = "x"\n')
    assert isinstance(error, ProblemsError)
    assert [problem.code for problem in error.problems] == ["unknown-setting", "bad-setting", "unknown-setting"]


def test_an_environment_that_another_setting_names_must_be_there(tmp_path: Path) -> None:
    error = problem_of(tmp_path, '[environments.prod]\nlake = "x"\n[environments.dev]\nreads_from = "prd"\n')
    assert (error.code, error.hint) == ("unknown-environment", "did you mean 'prod'?")
    assert error.where
    assert error.where.line == 4


def test_an_unknown_environment_is_told_with_the_nearest_and_where_it_was_looked_for(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, '[environments.prod]\nlake = "x"'))
    with pytest.raises(UnknownNameError) as caught:
        project.environment("prood")
    assert (caught.value.code, caught.value.hint) == ("unknown-environment", "did you mean 'prod'?")
    assert any("aiflow.toml" in note for note in caught.value.notes)
    with pytest.raises(UnknownNameError) as caught:
        load_project(tmp_path / "..").environment("prod")
    assert any("there is no aiflow.toml" in note for note in caught.value.notes)


@pytest.mark.parametrize("name", ["dev-ana", "pr-123"])
def test_copies_of_dev_have_a_lake_of_their_own_beside_its(tmp_path: Path, name: str) -> None:
    project = load_project(write(tmp_path, '[environments.prod]\nlake="p"\n[environments.dev]\nreads_from = "prod"'))
    copy = project.environment(name)
    assert (copy.name, copy.reads_from) == (name, "prod")
    assert copy.lake_folder == tmp_path.resolve() / f".aiflow/lake-{name}"
    assert copy.keep_days
    assert project.environment("dev").keep_days is None


@pytest.mark.parametrize("name", ["dev-", "dev-a/b", "pr-", "prod-1", "pr-../x"])
def test_what_is_no_copy_of_dev_is_unknown(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownNameError):
        load_project(tmp_path).environment(name)


def test_environments_share_no_lake_by_silence(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, "[environments.dev]\n[environments.prod]\n[environments.test]\n"))
    lakes = {project.environment(name).lake_folder for name in ("dev", "prod", "test", "dev-ana", "pr-1")}
    assert len(lakes) == 5


@pytest.mark.parametrize(
    ("lake", "address", "copied"),
    [
        ("s3://bucket", "s3://bucket", "s3://bucket/_environments/dev-ana"),
        ("s3://bucket/lake/", "s3://bucket/lake", "s3://bucket/lake-dev-ana"),
        (
            "abfss://w@onelake.dfs.fabric.microsoft.com/x.Lakehouse/Tables",
            None,
            "abfss://w@onelake.dfs.fabric.microsoft.com/x.Lakehouse/Files/_environments/dev-ana",
        ),
        ("/data/lake", "/data/lake", "/data/lake-dev-ana"),
        ("file:///data/my%20lake", "/data/my lake", "/data/my lake-dev-ana"),
        ("lake", "/project/lake", "/project/lake-dev-ana"),
    ],
)
def test_a_lake_is_a_folder_of_the_project_or_an_address(lake: str, address: str | None, copied: str) -> None:
    environment = Environment(lake=lake, root=Path("/project"))
    assert environment.lake_address == (address or lake)
    assert environment.lake_folder == (None if "://" in environment.lake_address else Path(environment.lake_address))
    assert environment.staging_address == f"{environment.lake_address}/_staging"
    assert environment.copy_as("dev-ana").lake_address == copied


@pytest.mark.parametrize(
    ("lake", "staging"), [("lake", "s3://scratch/x"), ("s3://lake", "az://scratch/x"), ("az://lake", "s3://scratch")]
)
def test_staging_in_another_kind_of_store_would_have_no_keys(tmp_path: Path, lake: str, staging: str) -> None:
    text = f'[environments.prod]\nlake = "{lake}"\nstaging = "{staging}"\n'
    if "az:" in text:
        text += '[environments.prod.storage]\naccount = "me"\n' if lake.startswith("az") else ""
    with pytest.raises(ConfigurationError, match="another kind of store than the lake") as caught:
        load_project(write(tmp_path, text))
    assert caught.value.where is not None
    assert caught.value.where.line == 3


def test_staging_lies_where_it_is_said() -> None:
    environment = Environment(staging="scratch", root=Path("/project"))
    assert environment.staging_address == "/project/scratch"
    assert environment.copy_as("pr-1").staging_address == "/project/scratch-pr-1"
    assert Environment(staging="s3://b/s").staging_address == "s3://b/s"


@pytest.mark.parametrize(
    "more",
    [
        "http://127.0.0.1:8765",
        "http://localhost",
        "http://[::1]:1",
        "https://x",
        'http://x"\nservice_over_http = true #',
    ],
)
def test_a_token_goes_to_this_machine_over_tls_or_where_it_is_allowed(tmp_path, more):
    (tmp_path / "aiflow.toml").write_text(f'[environments.dev]\nservice_token = "secret://x"\nservice = "{more}"\n')
    assert load_project(tmp_path).environment().service_token == "secret://x"


def test_what_is_handed_out_and_a_kept_login_go_over_plain_http_to_this_machine_alone(tmp_path, monkeypatch):
    asking = '[environments.prod]\nconfiguration_from_service = true\nservice = "http://aiflow.example.org"\n'
    error = problem_of(tmp_path, asking)
    assert (error.code, error.where.line) == ("bad-setting", 3)
    assert "would come in plain text" in error.message
    assert "service_over_http" in error.hint
    write(tmp_path, asking + "service_over_http = true\n")
    assert load_project(tmp_path).asking("prod") == ("prod",)

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    keep_login("http://aiflow.example.org", "aiflow_x")
    environment = Environment(service="http://aiflow.example.org")
    with pytest.raises(ConfigurationError, match=r"the token would go to http://aiflow\.example\.org in plain text"):
        Service(environment)
    Service(environment, token="")  # which sends none
    assert Service(replace(environment, service_over_http=True)).address == environment.service
