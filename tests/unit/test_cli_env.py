"""``aiflow env``: what it lists, how it compares, and what it removes and does not."""

import json
import os
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aiflow_sdk.cli import main
from aiflow_sdk.config import load_project
from aiflow_sdk.local.comparison import compare_environments
from aiflow_sdk.local.environments import drop_environment, find_copies, lake_store
from aiflow_sdk.local.store import RunFolder

SETTINGS = """
[environments.prod]
lake = "production"
[environments.dev]
reads_from = "prod"
keep_days = 3
[environments.test]
lake = "testing"
keep_days = 3
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "aiflow.toml").write_text(SETTINGS)
    days = pl.DataFrame({"n": [1, 2], "gone": [1, 2], "dt": ["a", "b"]})
    days.write_delta(str(tmp_path / "production/raw/orders"), delta_write_options={"partition_by": ["dt"]})
    days.write_delta(str(tmp_path / "production/raw/only_there"))
    return tmp_path


def claim(lake: Path, environment: str) -> None:
    """Say that a run of the environment has written to the lake."""
    folder = lake / "_generations" / environment / "default/p"
    folder.mkdir(parents=True)
    (folder / f"{1:020}").write_text("")


def make_lake(project: Path, name: str, age_days: float = 0) -> Path:
    lake = project / f".aiflow/lake{name}"
    claim(lake, name.removeprefix("-") or "dev")
    frame = pl.DataFrame({"n": [1.5, 2, 3], "new": ["x"] * 3, "dt": ["a", "b", "c"]})
    frame.write_delta(str(lake / "raw/orders"), delta_write_options={"partition_by": ["dt"]})
    frame.write_delta(str(lake / "raw/only_here"))
    moment = time.time() - age_days * 86_400
    for path in lake.rglob("*"):
        os.utime(path, (moment, moment))
    return lake


def told(project: Path, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    main(["-C", str(project), "env", *words, "--json"])
    return json.loads(capsys.readouterr().out)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_list_has_named_environments_and_the_copies_that_are_there(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("-dev-ana", "-pr-7", "-other", "-dev-"):
        make_lake(project, name)
    rows = {row["name"]: row for row in told(project, capsys)}
    assert list(rows) == ["dev", "dev-ana", "pr-7", "prod", "test"]
    assert (rows["prod"]["tables"], rows["dev-ana"]["tables"], rows["dev"]["tables"]) == (2, 2, 0)
    assert rows["dev"]["current"]
    assert rows["pr-7"]["reads_from"] == "prod"
    assert rows["pr-7"]["expires"] == pytest.approx(time.time() + 3 * 86_400, abs=300)
    assert rows["prod"]["expires"] is None
    assert rows["prod"]["bytes"] == sum(map(len, content(project / "production").values()))
    assert told(project, capsys, "list") == list(rows.values())
    assert main(["-C", str(project), "env"]) == 0
    assert "dev-ana" in capsys.readouterr().out


def test_a_lake_that_cannot_be_looked_into_is_told_beside_the_others(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (project / "aiflow.toml").open("a") as file:
        file.write('[environments.far]\nlake = "az://container/lake"\n')
    rows = {row["name"]: row for row in told(project, capsys)}
    assert rows["far"]["error"]["code"] == "bad-storage"
    assert rows["prod"]["tables"] == 2


def test_tables_are_compared_by_their_logs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_lake(project, "-dev-ana")
    tables = {one["table"]: one for one in told(project, capsys, "diff", "dev-ana")["tables"]}
    assert {name: one["place"] for name, one in tables.items()} == {
        "raw.only_here": "here",
        "raw.only_there": "through",
        "raw.orders": "both",
    }
    orders = tables["raw.orders"]
    assert (orders["added"], orders["removed"]) == ({"new": "string"}, {"gone": "int64"})
    assert orders["changed"] == {"n": ["int64", "double"]}
    assert orders["partitions"]["dt=c"] == [None, 1]
    assert main(["-C", str(project), "env", "diff", "dev-ana"]) == 0
    text = capsys.readouterr().out
    assert "raw.only_here  only in dev-ana: 3 rows" in text
    assert "+ column new string" in text
    assert "2 tables of 3 differ between dev-ana and prod, 0 alike, 1 not written in dev-ana and read from prod" in text
    assert "raw.only_there" not in text
    # What is not read from there is a difference.
    assert {one["place"] for one in told(project, capsys, "diff", "test", "prod")["tables"]} == {"there"}
    assert told(project, capsys, "diff", "dev")["tables"][0]["alike"]


def test_an_environment_is_like_itself_and_needs_another_to_be_compared_with(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = load_project(project).environment("prod")
    assert all(one.is_alike for one in compare_environments(here, here))
    assert told(project, capsys, "diff", "prod")["error"]["code"] == "bad-usage"


@pytest.mark.parametrize("words", [("diff", "prd"), ("drop", "prd"), ("diff", "dev", "prd")])
def test_an_environment_that_no_rule_makes_is_an_error_with_a_suggestion(
    project: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    error = told(project, capsys, *words)["error"]
    assert (error["code"], error["hint"]) == ("unknown-environment", "did you mean 'prod'?")


def test_a_copy_is_removed_with_its_staging_and_nothing_else(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake, other = make_lake(project, "-pr-1"), make_lake(project, "-pr-12")
    (lake / "link").symlink_to(project / "production")
    (lake / "raw/orders/link").symlink_to(project / "production/raw")
    before = content(project / "production") | content(other)
    assert main(["-C", str(project), "env", "drop", "pr-1"]) == 0
    said = capsys.readouterr().out
    assert str(lake) in said
    assert "removed pr-1" in said
    assert not lake.exists()
    assert content(project / "production") | content(other) == before
    assert main(["-C", str(project), "env", "drop", "pr-1"]) == 0  # there is nothing left, and that is no error
    assert find_copies(load_project(project)) == ["pr-12"]


def test_what_others_read_from_or_a_run_writes_to_or_is_named_stays(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(project / "production")
    assert told(project, capsys, "drop", "prod", "--yes")["error"]["code"] == "environment-read"
    pl.DataFrame({"n": [1]}).write_delta(str(project / "testing/raw/t"))
    claim(project / "testing", "test")
    assert told(project, capsys, "drop", "test")["error"]["code"] == "not-confirmed"
    folder = RunFolder(project, "0190a5c0-0000-7000-8000-000000000000")
    folder.path.mkdir(parents=True)
    run: dict[str, Any] = {
        "run_id": folder.run_id,
        "pipeline_id": "p",
        "project": "default",
        "environment": "test",
        "cause": "manual",
    }
    run |= {"trace_id": "", "execution": 1, "generation": 1}
    document = {"run": run, "state": "running", "started": 1.0, "seconds": 0.0, "version": "", "definition": ""}
    (folder.path / "run.json").write_text(json.dumps(document))
    folder.own()
    assert told(project, capsys, "drop", "test", "--yes")["error"]["code"] == "environment-busy"
    folder.disown()
    assert (project / "testing/raw/t").exists()
    assert told(project, capsys, "drop", "test", "--yes")["removed"][0]["name"] == "test"
    assert not (project / "testing").exists()
    assert content(project / "production") == before


@pytest.mark.parametrize("lake", [".", "/", "~"])
def test_a_root_that_holds_more_than_a_lake_is_not_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lake: str
) -> None:
    (tmp_path / "aiflow.toml").write_text(
        f'[environments.dev]\nlake = "/nowhere"\n[environments.odd]\nlake = "{lake}"\n'
    )
    error = told(tmp_path, capsys, "drop", "odd", "--yes")["error"]
    assert error["code"] in ("unsafe-drop", "shared-lake")
    assert (tmp_path / "aiflow.toml").exists()


def test_a_folder_that_is_not_this_environment_s_lake_is_not_removed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    papers = project / ".aiflow/lake-dev-old/papers/thesis.txt"
    papers.parent.mkdir(parents=True)
    papers.write_text("years of work")
    strangers = make_lake(project, "-dev-eu", 99)
    claim(strangers, "prod")
    for path in strangers.rglob("*"):
        os.utime(path, (time.time() - 99 * 86_400,) * 2)
    make_lake(project, "-pr-8").rename(project / "elsewhere")
    (project / ".aiflow/lake-pr-9").symlink_to(project / "elsewhere")
    before = content(project)
    for name, reason in (
        ("dev-old", "no run of 'dev-old' has written"),
        ("dev-eu", "environment prod has written"),
        ("pr-9", "is a link"),
    ):
        error = told(project, capsys, "drop", name, "--yes")["error"]
        assert error["code"] == "unsafe-drop"
        assert reason in error["message"]
    assert [one["code"] for one in told(project, capsys, "drop", "--expired")["errors"]] == ["unsafe-drop"]
    assert content(project) == before


def test_only_what_has_expired_is_removed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, young, dev = make_lake(project, "-pr-1", 3.5), make_lake(project, "-pr-2", 2.5), make_lake(project, "", 99)
    pl.DataFrame({"n": [1]}).write_delta(str(project / "testing/raw/t"))
    claim(project / "testing", "test")
    removed = told(project, capsys, "drop", "--expired")["removed"]
    assert [one["name"] for one in removed] == ["pr-1"]
    assert (old.exists(), young.exists(), dev.exists()) == (False, True, True)
    assert told(project, capsys, "drop", "--expired") == {"removed": [], "errors": []}


@pytest.mark.parametrize("words", [("drop",), ("drop", "pr-1", "--expired")])
def test_what_is_to_be_removed_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert told(project, capsys, *words)["error"]["code"] == "bad-usage"


@pytest.mark.parametrize("kind", ["s3", "azure", "onelake"])
def test_copies_in_object_stores_are_found_compared_and_removed(
    make_place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    place = make_place(kind)
    lake = place.address if kind == "onelake" else f"{place.address}/lake"
    stated = {name.replace("account_name", "account"): value for name, value in place.storage().items()}
    secret = "secret_access_key" if kind == "s3" else "account_key"
    monkeypatch.setenv("AIFLOW_SECRET_KEY", stated[secret])
    told = {**stated, secret: "secret://key"}
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items())
    text = f'[environments.dev]\nlake = "{lake}"\n[environments.dev.storage]\n{lines}'
    (tmp_path / "aiflow.toml").write_text(text)
    project = load_project(tmp_path)
    copy = project.environment("dev-ana")
    frame = pl.DataFrame({"n": [1, 2]})
    for environment in (project.environment("dev"), copy):
        frame.write_delta(f"{environment.lake_address}/raw/t", storage_options=place.options())
        lake_store(environment).put(f"_generations/{environment.name}/default/p/{1:020}", b"")
    assert find_copies(project) == ["dev-ana"]
    (one,) = compare_environments(copy, project.environment("dev"))
    assert (one.table, one.is_alike) == ("raw.t", True)
    assert drop_environment(project, "dev-ana").objects == 3
    assert find_copies(project) == []
    assert drop_environment(project, "dev-ana").objects == 0
    assert len(compare_environments(copy, project.environment("dev"))) == 1
