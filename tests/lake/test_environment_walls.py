"""Every attempt of a development run to write into production is refused, and production stays as it was, to the byte.

An attempt is a pipeline of one sink, compiled in the environment ``dev`` of a project and, if that was let pass, run.
"""

import json
import os
import random
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest

from aiflow_sdk.compiler import compile_pipeline
from aiflow_sdk.config import Environment, LakeRoot, Project, ReadThrough, load_project, parse_address
from aiflow_sdk.errors import AiflowError, ProblemsError
from aiflow_sdk.ir import NodeIR, PipelineIR
from aiflow_sdk.plan import Plan, make_run, read_plan
from aiflow_sdk.plugins import Write, installed_registry
from aiflow_sdk.runtime import bound_environment, claim_generation, execute_task
from aiflow_sdk.runtime.staging import sweep_staging
from harness.disks import _mounted

ATTEMPTS = 1000
REFUSALS = {"shared-lake", "outside-lake", "outside-store", "bad-table-path", "bad-table-name", "unsupported-store"}
REGISTRY = installed_registry()


@dataclass
class Attempt:
    """What a development run is told to do."""

    sink: dict[str, Any]
    settings: str = ""
    """More of ``[environments.dev]``."""
    lake: str = ".aiflow/lake"
    params: dict[str, Any] | None = None
    tamper: Callable[[dict[str, Any]], None] = lambda plan: None
    """Changes the compiled plan, as somebody could who edits it."""
    environment: str = "dev"


class Yard:
    """A project whose development lake holds links into production."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.loaded: dict[str, Project] = {}
        self.production = root / "company" / "Lake-é"
        self.mart = self.production / "mart"
        frame = pl.DataFrame({"n": [1, 2, 3]})
        for table in ("mart/orders", "raw/source"):
            frame.write_delta(str(self.production / table))
        for name in ("_staging", "_ledger", "_generations", "_locks"):
            (self.production / name).mkdir()
        frame.write_delta(str(root / ".aiflow/lake/raw/source"))
        (root / "links").mkdir()
        (root / "links/company").symlink_to(root / "company")
        (root / "links/lake").symlink_to(self.production)
        (root / "links/mart").symlink_to(self.mart)
        (root / ".aiflow/lake-linked").symlink_to(self.production)

    def project(self, attempt: Attempt) -> Project:
        lake = json.dumps(str(self.production), ensure_ascii=False)
        dev = json.dumps(attempt.lake, ensure_ascii=False)
        text = f"[environments.prod]\nlake = {lake}\n"
        text += f'[environments.dev]\nlake = {dev}\nreads_from = "prod"\n{attempt.settings}\n'
        if text not in self.loaded:
            (self.root / "aiflow.toml").write_text(text, "utf-8")
            self.loaded[text] = load_project(self.root)
        return self.loaded[text]

    def content(self) -> dict[str, tuple[bytes | None, float]]:
        return {
            path.relative_to(self.production).as_posix(): (
                path.read_bytes() if path.is_file() else None,
                path.lstat().st_mtime_ns,
            )
            for path in [self.production, *self.production.rglob("*")]
        }


def pipeline_of(attempt: Attempt) -> PipelineIR:
    source = NodeIR.make(id="source", type="source", params={"kind": "onelake", "table": "raw.source"})
    sink = NodeIR.make(id="sink", type="sink", params=attempt.sink, input_ids=("source",))
    return PipelineIR(
        id="attack", node_list=(source, sink), params=attempt.params or {}, partition="day", schedule="@daily"
    )


def do(project: Project, attempt: Attempt) -> None:
    """Compile and run, as the local runner does. Raises where it is refused."""
    environment = project.environment(attempt.environment)
    plan = compile_pipeline(pipeline_of(attempt), project=project, environment=environment, registry=REGISTRY)
    document = json.loads(plan.to_json())
    attempt.tamper(document)
    run_plan(read_plan(json.dumps(document)), project.root)


def run_plan(plan: Plan, root: Path) -> None:
    environment = bound_environment(plan, root)
    run = make_run(plan, partition="2026-11-20")
    sweep_staging(environment, 1e12)
    run = run.model_validate({**dict(run), "generation": claim_generation(environment, run)})
    for task in plan.tasks:
        execute_task(plan, task.id, run, root=root)


def code_of(attempt: Callable[[], Any]) -> str:
    """Return with which code it was refused; ``written`` where it was not."""
    try:
        attempt()
    except ProblemsError as error:
        return error.problems[0].code
    except AiflowError as error:
        cause: BaseException | None = error
        while isinstance(cause, AiflowError) and cause.code not in REFUSALS and cause.__cause__:
            cause = cause.__cause__
        return getattr(cause, "code", error.code)
    return "written"


def spellings(path: Path, root: Path, chance: random.Random) -> str:
    """One of the many ways to write a folder's address."""
    text = str(path)
    for _ in range(chance.randrange(4)):
        text = chance.choice(
            [
                lambda text: f"{text}/",
                lambda text: text.replace("/", "//"),
                lambda text: text.replace("/company", "/./company"),
                lambda text: text.replace("/company", "/company/../company"),
                lambda text: f"{text}/x/..",
                lambda text: f"{text}/.",
                lambda text: text if "/links/" in text else text.replace("/company/", "/links/company/", 1),
                lambda text: f"{text}/mart",
            ]
        )(text)
    match chance.randrange(7):
        case 0:
            return os.path.relpath(text, root)
        case 1:
            return f"file://{quote(text)}"
        case 2:
            return f"FILE://localhost{quote(text)}"
        case 3:
            return "file://" + "".join(f"%{ord(c):02x}" if c.isalpha() and ord(c) < 128 else quote(c) for c in text)
        case 4:
            return unicodedata.normalize("NFD", text)
        case 5:
            return text.replace("Lake", "LAKE")
        case _:
            return text


def paths_out(root: Path, chance: random.Random) -> str:
    """One of the many ways to write a path that leaves the development lake for production."""
    up = chance.choice(["../..", "x/../../..", "./../..", "..//..", "a/b/../../../../"])
    inside = chance.choice(["mart/orders", "mart/new", "", "_staging/x", "raw/source"])
    lake = root / "company" / "Lake-é"
    return chance.choice(
        [
            f"{up}/company/Lake-é/{inside}",
            f"{lake}/{inside}",
            f"file://{lake}/{inside}",
            f"//{lake}/{inside}",
            f"~/{inside}",
            f"..\\..\\company\\Lake-é\\{inside}",
            f"mart\\..\\..\\company/{inside}",
            f"s3://company/{inside}",
            f"abfss://c@a.dfs.core.windows.net/{inside}",
            "../lake-linked/mart/orders",
            "_staging/../../lake-linked/mart/orders",
            "linked/orders",
            "linked_schema/orders",
            "linked_schema/new",
            "linked_log/orders",
            "deep/linked/mart/new",
            f"_locks/{inside or 'x'}",
            f"_Staging/{inside or 'x'}",
            f"x/../_generations/{inside or 'x'}",
            f"_environments/{inside or 'x'}",
            ".",
            "mart/..",
        ]
    )


def sinks_out(root: Path, chance: random.Random) -> dict[str, Any]:
    kind = chance.choice(["onelake", "files"])
    path = paths_out(root, chance)
    if kind == "onelake" and chance.random() < 0.2:
        return {
            "kind": "onelake",
            "table": chance.choice(["../mart.orders", "linked.orders", "linked_schema.new", "a.b.c", path]),
        }
    mode = chance.choice(["overwrite", "append", "error_if_exists"]) if kind == "onelake" else "overwrite"
    return {"kind": kind, "path": path, "mode": mode}


HARMLESS = {"kind": "onelake", "table": "mart.orders"}


def attempts(yard: Yard, chance: random.Random) -> Iterator[Attempt]:
    root = yard.root
    while True:
        match chance.randrange(6):
            case 0 | 1:
                yield Attempt(sinks_out(root, chance))
            case 2:  # known only when it runs
                sink = sinks_out(root, chance)
                name = "path" if "path" in sink else "table"
                text = sink[name]
                cut = chance.randrange(len(text) + 1)
                value = chance.choice(["{{ params.a }}{{ params.b }}", "{{params.a}}{{ params.b }}"])
                yield Attempt({**sink, name: value}, params={"a": text[:cut], "b": text[cut:]})
            case 3:  # the development lake is production's, by another spelling
                yield Attempt(HARMLESS, lake=spellings(yard.production, root, chance))
            case 4:
                staging = yard.production / chance.choice(["", "_staging", "mart", "deep/er"])
                said = json.dumps(spellings(staging, root, chance), ensure_ascii=False)
                yield Attempt(HARMLESS, f"staging = {said}")
            case 5:  # somebody edits the plan
                where = spellings(yard.production, root, chance)
                key = chance.choice(["lake", "staging"])

                def tamper(plan: dict[str, Any], key: str = key, where: str = where) -> None:
                    plan["environment"][key] = where

                yield Attempt(HARMLESS, tamper=tamper)


def plant_links(yard: Yard) -> None:
    """Lay links into production in the development lake."""
    lake = yard.root / ".aiflow/lake"
    for path, target in {
        "linked": yard.mart,
        "linked_schema": yard.mart,
        "deep/linked": yard.production,
        "linked_log/orders/_delta_log": yard.mart / "orders/_delta_log",
    }.items():
        (lake / path).parent.mkdir(parents=True, exist_ok=True)
        (lake / path).symlink_to(target)


def test_a_thousand_attempts_to_write_into_production_are_refused(tmp_path: Path) -> None:
    yard, chance = Yard(tmp_path), random.Random(20261120)
    plant_links(yard)
    before = yard.content()
    ways: dict[str, int] = {}
    for number, attempt in zip(range(ATTEMPTS), attempts(yard, chance), strict=False):
        code = code_of(lambda attempt=attempt: do(yard.project(attempt), attempt))  # type: ignore[misc]  # bound
        assert code in REFUSALS, (number, attempt, code)
        ways[code] = ways.get(code, 0) + 1
        if number % 100 == 0:
            assert yard.content() == before, attempt
    assert yard.content() == before
    assert sum(ways.values()) == ATTEMPTS
    assert {"shared-lake", "outside-lake"} < set(ways)
    assert code_of(lambda: do(yard.project(Attempt(HARMLESS)), Attempt(HARMLESS))) == "written"  # the yard works
    assert yard.content() == before


@pytest.mark.parametrize("name", ["_staging", "_generations", "_locks", "mart", "w-folder"])
@pytest.mark.parametrize("kind", ["onelake", "files"])
def test_no_folder_of_the_lake_may_be_a_link_into_production(tmp_path: Path, name: str, kind: str) -> None:
    from aiflow_sdk.connectors.onelake.identity import Owner

    yard = Yard(tmp_path)
    attempt = Attempt(HARMLESS if kind == "onelake" else {"kind": "files", "path": "mart/files"})
    lake = tmp_path / ".aiflow/lake"
    if name == "w-folder":
        if kind == "files":
            return
        run = make_run(
            compile_pipeline(
                pipeline_of(attempt),
                project=(project := yard.project(attempt)),
                environment=project.environment("dev"),
                registry=REGISTRY,
            ),
            partition="2026-11-20",
        )
        folder = lake / "mart/orders" / Owner.of_run(run, "sink").folder
        folder.parent.mkdir(parents=True)
        folder.symlink_to(yard.mart)
    else:
        (lake / name).symlink_to(yard.production / name)
    before = yard.content()
    assert code_of(lambda: do(yard.project(attempt), attempt)) in REFUSALS
    assert yard.content() == before


@pytest.mark.parametrize("inner", ["", "mart"])
def test_a_lake_that_production_is_mounted_at_is_refused(tmp_path: Path, inner: str) -> None:
    yard = Yard(tmp_path)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    before = yard.content()
    with _mounted(mounted, "--bind", str(yard.production / inner)):
        attempt = Attempt(HARMLESS, lake="mounted")
        assert code_of(lambda: do(yard.project(attempt), attempt)) == "shared-lake"
        attempt = Attempt(HARMLESS, 'staging = "mounted"')
        assert code_of(lambda: do(yard.project(attempt), attempt)) == "shared-lake"
        tampered = Attempt(HARMLESS, tamper=lambda plan: plan["environment"].update(lake="mounted"))
        assert code_of(lambda: do(yard.project(tampered), tampered)) == "shared-lake"
    assert yard.content() == before


def test_a_copy_of_dev_whose_lake_would_be_another_environments_is_refused(tmp_path: Path) -> None:
    (tmp_path / "aiflow.toml").write_text('[environments.prod]\nlake = ".aiflow/lake-pr-1"\n')
    project = load_project(tmp_path)
    for name in ("pr-1",):
        with pytest.raises(AiflowError) as caught:
            project.environment(name)
        assert caught.value.code == "shared-lake"
    assert project.environment("pr-2").lake == ".aiflow/lake-pr-2"


S3_SPELLINGS = [
    "s3://{0}",
    "S3://{0}",
    "s3a://{0}",
    "s3n://{0}",
    "s3://{0}/",
    "s3://{0}//",
    "s3://{0}/./",
    "s3://{0}/x/..",
    "s3://{0}/mart",
    "s3://{0}/%6dart",
    "s3://{0}/MART/../.",
]
AZURE_SPELLINGS = [
    "az://{0}",
    "azure://{0}",
    "AZ://{0}/",
    "adl://{0}",
    "abfss://{0}@acc.dfs.core.windows.net",
    "abfs://{0}@ACC.dfs.core.windows.net/",
    "abfss://{0}@acc.blob.core.windows.net/mart",
    "https://acc.dfs.core.windows.net/{0}",
    "https://acc.blob.core.windows.net/{0}/./mart",
    "HTTPS://acc.blob.core.windows.net//{0}",
]


@pytest.mark.parametrize("spelling", [*S3_SPELLINGS, *AZURE_SPELLINGS])
@pytest.mark.parametrize("where", ["settings", "plan", "staging", "copy"])
def test_an_object_store_by_another_spelling_is_refused_before_anybody_is_asked(
    tmp_path: Path, spelling: str, where: str
) -> None:
    is_s3 = spelling in S3_SPELLINGS
    production = ("s3://{0}" if is_s3 else "az://{0}").format("company-lake")
    said = spelling.format("company-lake")
    storage = "" if is_s3 else 'storage = { account = "acc" }'
    other = ("s3" if is_s3 else "az") + "://development"
    lines = {
        "settings": f'lake = "{said}"',
        "plan": f'lake = "{other}"',
        "staging": f'lake = "{other}"\nstaging = "{said}"',
        "copy": f'lake = "{other}"',
    }
    text = f'[environments.prod]\nlake = "{production}"\n{storage}\n'
    text += f'[environments.dev]\n{lines[where]}\nreads_from = "prod"\n{storage}\n'
    (tmp_path / "aiflow.toml").write_text(text)

    def attempt() -> None:
        environment = load_project(tmp_path).environment("dev")
        tampered = Environment(**{**vars(environment), "lake": said})
        run = make_run_for(tampered)
        claim_generation(tampered, run)

    assert code_of(attempt) in ("shared-lake", "unsupported-store")


def make_run_for(environment: Environment) -> Any:
    from aiflow_sdk.plan import Run

    return Run(run_id=str(uuid.uuid4()), environment=environment.name, project="default", pipeline_id="p")


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_production_in_an_object_store_stays_as_it_was(make_place: Any, tmp_path: Path, kind: Any) -> None:
    place = make_place(kind)
    frame = pl.DataFrame({"n": [1, 2, 3]})
    frame.write_delta(f"{place.address}/production/mart/orders", storage_options=place.options())
    frame.write_delta(str(tmp_path / ".aiflow/lake/raw/source"))
    before = {key: place.read(key) for key in place.files()}
    storage = dict(place.storage())
    chance = random.Random(7)
    base = f"{place.address}/production"
    for number in range(30):
        tails = ["/", "//", "/.", "/x/..", "/mart"]
        lake = (base[:2].upper() + base[2:] if chance.random() < 0.5 else base) + chance.choice(tails)
        reads = ReadThrough("prod", base, storage)
        inside = chance.random() < 0.5
        own = f"{place.address}/development" if inside else lake
        environment = Environment("dev", own, storage=storage, reads=(reads,), root=tmp_path)
        ways_out = [
            "../production/mart/orders",
            f"{base}/mart/orders",
            "mart/../../production/x",
            "%2e%2e/x",
            "_staging/x",
        ]
        path = chance.choice(ways_out)
        options = {"path": path} if inside else {"table": "mart.orders"}

        def attempt(environment: Environment = environment, options: dict[str, str] = options) -> None:
            run = make_run_for(environment)
            sink = REGISTRY.sinks.get("onelake").load(options, environment)
            request = Write("sink", run.model_validate({**dict(run), "generation": 1}))
            sink.write(frame.to_arrow().to_reader(), request)

        assert code_of(attempt) in REFUSALS, (number, lake, options)
    assert {key: place.read(key) for key in place.files()} == before


def test_lakes_in_one_bucket_are_apart() -> None:
    def root(text: str) -> LakeRoot:
        return LakeRoot("x", parse_address(text))

    assert not root("s3://b/prod").collides(root("s3://b/dev"))
    assert not root("s3://b/prod").collides(root("s3://b/prod-2"))
    assert not root("s3://b").collides(root("s3://b/_environments/dev-ana"))
    assert root("s3://b").collides(root("s3://b/dev"))
    assert root("s3://b/Prod").collides(root("s3://b/prod"))
    with suppress(AiflowError):
        assert not root("/tmp/a").collides(root("s3://tmp/a"))
