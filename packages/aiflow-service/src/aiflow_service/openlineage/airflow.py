"""What Airflow's own OpenLineage provider tells of runs of aiflow: under ids that it makes by a rule of its own.

Its DAG run is a part of our run, and its tasks are parts of that, so that all of it is one story. Read off the facets
``airflowDagRun`` and ``airflow`` (apache-airflow-providers-openlineage 2.20, ``plugins/facets.py``): the operators of
the DAG's tasks say that it is ours, id and due moment of the DAG run which of our runs it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiflow_sdk.bundles.airflow import run_id_in_airflow
from aiflow_service.openlineage.events import Facets, Name, RunMention

_OPERATOR = "AiflowOperator"
"""Its module comes before it, in the DAG's events."""


def find_own_run(job: Name, run_facets: Facets, job_facets: Facets) -> RunMention | None:
    """Return the run of aiflow that a DAG run or a task of Airflow's belongs to; None of those that are not ours.

    It is called by the DAG's name as long as the run itself has told nothing.
    """
    if "airflowDagRun" in run_facets:
        tasks = _map(_map(job_facets.get("airflow")).get("tasks"))
        is_ours = any(str(_map(one).get("operator")).rpartition(".")[2] == _OPERATOR for one in tasks.values())
        dag_run = _map(run_facets["airflowDagRun"]).get("dagRun")
    elif "airflow" in run_facets:
        facet = _map(run_facets["airflow"])
        is_ours = _map(facet.get("task")).get("operator_class") == _OPERATOR
        dag_run = facet.get("dagRun")
    else:
        return None
    told = _map(dag_run)
    dag_id, dag_run_id, run_after = (told.get(name) for name in ("dag_id", "run_id", "run_after"))
    if not is_ours or not (isinstance(dag_id, str) and isinstance(dag_run_id, str) and isinstance(run_after, str)):
        return None
    try:
        moment = datetime.fromisoformat(run_after)
        return RunMention(run_id_in_airflow(dag_id, dag_run_id, moment), (job[0], dag_id)) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None  # not as Airflow writes it


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
