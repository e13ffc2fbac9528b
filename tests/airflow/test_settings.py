"""The settings that an Airflow for aiflow needs stand alike in the code, in the guide and in ``deploy``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its types are a package that Airflow's lock has not
from aiflow_airflow.bundle import AiflowBundle

from aiflow_sdk.bundles.airflow import REQUIRED

ROOT = Path(__file__).parents[2]


def test_the_guide_names_every_required_setting() -> None:
    rows = re.findall(
        r"^\| `\[(\w+)\] (\w+)` \| `?([\w]+)`? \|", (ROOT / "docs/airflow.md").read_text("utf-8"), re.MULTILINE
    )
    assert rows == [(setting.section, setting.name, setting.value) for setting in REQUIRED]


def test_compose_sets_them_and_a_bundle_that_can_be_opened() -> None:
    text = re.sub(r"\$\{ENVIRONMENT:-(\w+)\}", r"\1", (ROOT / "deploy/compose.yaml").read_text("utf-8"))
    compose = yaml.safe_load(text.replace("${BUNDLES:?}", "/bundles"))
    variables = compose["services"]["worker"]["environment"]
    assert {setting.variable: setting.value for setting in REQUIRED}.items() <= variables.items()
    (bundle,) = json.loads(variables["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert bundle["classpath"] == f"{AiflowBundle.__module__}.{AiflowBundle.__name__}"
    AiflowBundle(name=bundle["name"], **bundle["kwargs"])


def test_helm_sets_them_and_a_bundle_that_can_be_opened() -> None:
    values = yaml.safe_load((ROOT / "deploy/helm-values.yaml").read_text("utf-8"))
    for setting in REQUIRED:
        assert values["config"][setting.section][setting.name] == setting.value
    (bundle,) = json.loads(values["config"]["dag_processor"]["dag_bundle_config_list"])
    AiflowBundle(name=bundle["name"], **bundle["kwargs"])


def test_compose_starts_nobody_before_the_database_is_migrated() -> None:
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))["services"]
    ours = {name: service for name, service in services.items() if "build" in service}
    assert ours.keys() == {"migrate", "api-server", "scheduler", "dag-processor", "triggerer", "worker"}
    for name, service in ours.items():
        after = "postgres" if name == "migrate" else "migrate"
        asked = "service_healthy" if name == "migrate" else "service_completed_successfully"
        assert service["depends_on"][after]["condition"] == asked
    assert "pg_isready" in services["postgres"]["healthcheck"]["test"]


def services() -> dict[str, Any]:
    """Return what the compose file says of the services that run Airflow."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))["services"]
    return {name: service for name, service in found.items() if "build" in service}


def test_the_key_that_signs_for_anybody_is_not_where_users_code_runs() -> None:
    keyed = {name for name, one in services().items() if "AIRFLOW__API_AUTH__JWT_SECRET" in one["environment"]}
    assert keyed == {"api-server", "scheduler"}


def test_a_worker_that_is_told_to_end_does_its_tasks_to_the_end() -> None:
    worker = services()["worker"]
    assert worker["environment"]["DUMB_INIT_SETSID"] == "0"
    assert worker["stop_grace_period"].endswith("m")


def test_no_driver_of_the_database_is_left_to_its_default() -> None:
    for service in services().values():
        for name in ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CELERY__RESULT_BACKEND"):
            assert "postgresql+psycopg2://" in service["environment"][name]


def test_a_folder_that_is_mounted_for_all_is_mounted_for_workers_too() -> None:
    assert {tuple(service["volumes"]) for service in services().values()} == {("aiflow:/aiflow",)}


def test_each_value_of_the_chart_s_configuration_is_one_line() -> None:
    # The chart writes them into airflow.cfg, and a second line would end that.
    values = yaml.safe_load((ROOT / "deploy/helm-values.yaml").read_text("utf-8"))
    for section in values["config"].values():
        assert not any("\n" in value for value in section.values())


def test_the_folder_that_kubernetes_makes_is_given_to_the_image_s_user() -> None:
    values = yaml.safe_load((ROOT / "deploy/helm-values.yaml").read_text("utf-8"))
    for kind in ("kubernetes", "celery"):
        (first,) = values["workers"][kind]["extraInitContainers"]
        assert first["command"] == ["chown", "50000:0", values["env"][0]["value"]]
        assert first["volumeMounts"] == values["workers"][kind]["extraVolumeMounts"]


def test_pythons_of_the_image_are_not_linked_into_airflow_s_environment() -> None:
    (line,) = re.findall(r"^RUN uv python install .*$", (ROOT / "deploy/Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert "--no-bin" in line


def test_image_and_chart_are_of_one_airflow_and_both_executors_keep_environments() -> None:
    values = yaml.safe_load((ROOT / "deploy/helm-values.yaml").read_text("utf-8"))
    (version,) = re.findall(
        r"^ARG AIRFLOW_VERSION=(\S+)$", (ROOT / "deploy/Dockerfile").read_text("utf-8"), re.MULTILINE
    )
    assert values["airflowVersion"] == values["defaultAirflowTag"] == version
    assert services()["worker"]["image"].endswith(f":{version}")
    home = next(one["value"] for one in values["env"] if one["name"] == "AIFLOW_HOME")
    for kind in ("kubernetes", "celery"):
        (volume,), (mount,) = (values["workers"][kind][part] for part in ("extraVolumes", "extraVolumeMounts"))
        assert (volume["name"], mount["mountPath"]) == (mount["name"], home)
