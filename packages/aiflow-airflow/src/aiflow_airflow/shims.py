"""The files that Airflow parses, all alike, never changing; what they show stands in plans.

A pipeline belongs to one by the hash of its DAG's id (:mod:`aiflow_airflow.layout`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aiflow_airflow.layout import shard_in, shown_in
from aiflow_sdk.errors import AiflowError, DocumentError
from aiflow_sdk.stores import replace_file

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from aiflow_airflow.deployed import Deployed, Found

_log = logging.getLogger(__name__)

SHIM = '''"""A shard of what aiflow deployed, as Airflow DAGs. Written by aiflow; do not edit."""

from aiflow_airflow.shims import dags_of

globals().update(dags_of(__file__))
'''


REFUSING_SHIM = '''"""An error, no DAG: what Airflow's side of aiflow is too old for. Written by aiflow; do not edit."""

from aiflow_airflow.shims import refuse_newer

refuse_newer(__file__)
'''


def write_shim(path: Path) -> None:
    """Write a shim, in one step."""
    replace_file(path, SHIM)


def write_refusing_shim(path: Path) -> None:
    """Write the shim that says what cannot be read, in one step."""
    replace_file(path, REFUSING_SHIM)


def refuse_newer(file: str) -> None:
    """Raise ``DocumentError`` (``newer-document``) naming the projects that a newer aiflow deployed than this one."""
    from aiflow_airflow.deployed import Deployed

    if told := Deployed.lying_in(Path(file).parent).tell_newer():
        raise DocumentError("newer-document", told)


def read_lacking(shim: Path) -> list[str]:
    """Return the digests of the objects that could not be had when the shim was parsed last."""
    try:
        return [str(sha) for sha in json.loads(_lacking_beside(shim).read_text("utf-8"))]
    except (OSError, ValueError):
        return []


def _note_lacking(shim: Path, shas: Iterable[str]) -> None:
    path = _lacking_beside(shim)
    try:
        if text := sorted(shas):
            path.write_text(json.dumps(text), encoding="utf-8")
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("what the shard lacks is not noted, and not looked for before it is parsed again: %s", error)


def _lacking_beside(shim: Path) -> Path:
    return shim.with_suffix(".lacking")


def dags_of(file: str) -> dict[str, DAG]:
    """Return the DAGs that the shim ``file`` shows, by id; in a task's process its own alone.

    A pipeline whose plan cannot be read has a DAG too, which says so and whose one task fails: the others go on.
    """
    from airflow.sdk import get_parsing_context

    from aiflow_airflow.deployed import Deployed
    from aiflow_airflow.supply import BundleSupply

    path = Path(file)
    deployed = Deployed.lying_in(path.parent)
    context = get_parsing_context()
    if context.dag_id:
        one = deployed.pipeline(context.dag_id)
        supply = BundleSupply(deployed, one) if one and context.task_id else None
        if supply:
            with suppress(AiflowError, OSError):  # the task itself will meet it and tell it
                supply.start_ahead()
        dags = _dags(file, deployed, [one] if one else [])
        if supply and context.task_id:
            with suppress(AiflowError, OSError):  # likewise
                supply.tell_ahead(context.task_id)
        return dags
    found: list[Found] = []
    number = shard_in(path.name)
    try:
        for project, shard in _parts(deployed, number):
            try:
                found += deployed.pipelines(project, shard)
            except AiflowError as error:
                _log.error("the DAGs of project %s in this shard are not known: %s", project, error)
        depth = None if deployed.depths is None else deployed.depths.get(number, 0)
        shown = shown_in(path.name, (one.dag_id for one in found), depth)
        return _dags(file, deployed, (one for one in found if one.dag_id in shown))
    finally:
        _note_lacking(path, deployed.lacking)


def _parts(deployed: Deployed, number: str) -> tuple[tuple[str, str], ...]:
    """Return what a shard is made of, without the projects that are not known."""
    try:
        return deployed.parts(number)
    except AiflowError:
        unknown = deployed.unknown()
        for project, error in unknown.items():
            _log.error("the DAGs of project %s are not known: %s", project, error)
        return deployed.parts(number, without=unknown)


def start_ahead(deployed: Deployed) -> None:
    """Start the process of the task that Airflow is about to do in this one, if it is about to do one."""
    from airflow.sdk import get_parsing_context

    from aiflow_airflow.supply import BundleSupply

    context = get_parsing_context()
    with suppress(AiflowError, OSError):  # the task itself will meet it and tell it
        if context.dag_id and context.task_id and (one := deployed.pipeline(context.dag_id)):
            BundleSupply(deployed, one).start_ahead()


def _dags(file: str, deployed: Deployed, found: Iterable[Found]) -> dict[str, DAG]:
    from aiflow_airflow.dag import dag_of_plan, make_broken_dag
    from aiflow_airflow.supply import BundleSupply
    from aiflow_sdk.plan import read_plan

    dags: dict[str, DAG] = {}
    for pipeline in found:
        try:
            plan = read_plan(deployed.read(pipeline.entry.plan))
            dags[pipeline.dag_id] = dag_of_plan(plan, pipeline.dag_id, BundleSupply(deployed, pipeline))
        except Exception as error:  # noqa: BLE001 whatever is wrong with one pipeline, the others of the file are shown
            level = logging.WARNING if isinstance(error, AiflowError) else logging.ERROR
            _log.log(level, "the DAG %s cannot be made: %s", pipeline.dag_id, error, exc_info=level > logging.WARNING)
            dags[pipeline.dag_id] = make_broken_dag(pipeline.dag_id, error)
        dags[pipeline.dag_id].fileloc = file  # Airflow takes the caller's, which is a module of ours
    return dags
