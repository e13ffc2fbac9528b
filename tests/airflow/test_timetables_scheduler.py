"""Airflow's own dag processor, scheduler, asset manager and backfills, with aiflow's timetables in its database.

The scheduler's code runs in a process of its own (this file as a program), because Airflow reads its settings once.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

DAGS = """
# an airflow dag file
import pendulum
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from aiflow_airflow.assets import asset_of, restated_asset
from aiflow_airflow.mappers import InputRollup, Reading, WindowMapper
from aiflow_airflow.timetable import PartitionAssetTimetable, PartitionTimetable
from aiflow_sdk.partitions import Window

def dag(name, timetable, **settings):
    with DAG(name, schedule=timetable, catchup=settings.pop("catchup", False), max_active_runs=50, **settings) as made:
        EmptyOperator(task_id="make")
    globals()[name] = made

clicks, again = asset_of("prod", "raw.clicks"), restated_asset("prod", "raw.clicks")
reading = Reading(Window("covering", grain="hour"), "day", "Europe/Berlin")
dag("latest", PartitionTimetable("0 3 * * *", grain="day", timezone="Europe/Berlin"))
dag("all_days", PartitionTimetable("0 3 * * 1-5", grain="day", timezone="Europe/Berlin"), catchup=True,
    start_date=pendulum.parse({start!r}, tz="Europe/Berlin"))
dag("by_hand", PartitionTimetable(None, grain="day", timezone="Europe/Berlin"))
dag("daily", PartitionAssetTimetable(
    assets=clicks | again, grain="day", timezone="Europe/Berlin",
    partition_mapper_config={{clicks: InputRollup(reading), again: WindowMapper(reading)}}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the scheduler did: facts by name."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    start = (datetime.now(UTC) - timedelta(days=9)).date().isoformat()
    (home / "dags" / "trial.py").write_text(DAGS.format(start=start))
    # Only what a shell has: settings of a live Airflow beside these tests are not meant.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
    }
    for arguments in (["-m", "airflow", "db", "migrate"], ["-m", "airflow", "dag-processor", "-n", "1"], [__file__]):
        done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    return {**facts, "start": start}


def test_without_catchup_the_latest_firing_is_made_up_for(found):
    from aiflow_sdk.partitions import due_partitions

    now = datetime.fromisoformat(found["now"])
    due = due_partitions("0 3 * * *", "day", "Europe/Berlin", after=None, now=now)
    assert [run["key"] for run in found["scheduled"]["latest"]] == [one.key for one in due]
    (run,) = found["scheduled"]["latest"]
    assert run["run_id"].startswith(f"scheduled__{run['key']}__")
    assert run["date"] == due[0].start.astimezone(UTC).isoformat()


def test_with_catchup_all_days_since_the_start_date_have_their_run_once(found):
    from aiflow_sdk.partitions import Partition, fire_times, last_complete, partitions_between

    now = datetime.fromisoformat(found["now"])
    last = last_complete(
        "day", "Europe/Berlin", fire_times("0 3 * * 1-5", "Europe/Berlin", now - timedelta(days=7), now)[-1]
    )
    days = partitions_between(Partition(found["start"], "day", "Europe/Berlin"), last)
    assert [run["key"] for run in found["scheduled"]["all_days"]] == [day.key for day in days]


def test_nothing_is_scheduled_that_has_no_schedule(found):
    assert found["scheduled"]["by_hand"] == []
    assert found["scheduled"]["daily"] == []


def test_the_day_waits_for_all_of_its_25_hours(found):
    assert found["after_24_hours"] == []
    (run,) = found["after_25_hours"]
    assert run["key"] == "2026-10-25"
    assert run["date"] == "2026-10-24T22:00:00+00:00"
    assert run["events"] == 25


def test_an_hour_made_again_makes_the_day_again(found):
    assert [run["key"] for run in found["after_restated"]] == ["2026-10-25", "2026-10-25"]


@pytest.mark.parametrize("dag_id", ["daily", "by_hand", "latest"])
def test_each_may_be_backfilled(found, dag_id):
    days = ["2026-10-23", "2026-10-24", "2026-10-25"][: 2 if dag_id == "daily" else 3]
    assert [run["key"] for run in found["backfilled"][dag_id]] == days
    assert {run["state"] for run in found["backfilled"][dag_id]} == {"success"}


def test_a_backfill_leaves_out_what_was_made(found):
    # The 25th was made by its inputs; as Airflow's own rule has it, a backfill makes it only if told to.
    assert found["skipped"]["daily"] == {"2026-10-25": "already exists"}


def test_after_the_backfills_the_schedule_goes_on(found):
    assert found["next"]["latest"] == found["next_before"]["latest"]


def test_a_key_that_is_no_partition_is_refused_and_one_that_is_is_run(found):
    assert "as a key it is 2026-11-20" in found["refused"]
    assert found["by_hand"] == {"key": "2026-11-20", "date": "2026-11-19T23:00:00+00:00"}


def main():
    """Let Airflow's scheduler run, tell it of hours, backfill; print what it did."""
    from aiflow_airflow.assets import asset_of, restated_asset
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.assets.manager import asset_manager
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.executors.local_executor import LocalExecutor
    from airflow.jobs.job import Job, run_job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models.backfill import BackfillDagRun, ReprocessBehavior, _create_backfill
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.serialization.definitions.assets import SerializedAsset
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType
    from sqlalchemy import select

    from aiflow_sdk.partitions import Partition, partitions_between

    DagBundlesManager().sync_bundles_to_db()

    def schedule(loops):
        runner = SchedulerJobRunner(Job(), num_runs=loops, executors=[LocalExecutor(parallelism=1)])
        run_job(job=runner.job, execute_callable=runner._execute)

    def runs(dag_id, run_type):
        with create_session() as session:
            rows = session.scalars(
                select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_type == run_type).order_by(DagRun.id)
            ).all()
            return [
                {
                    "key": row.partition_key,
                    "date": row.partition_date and row.partition_date.isoformat(),
                    "run_id": row.run_id,
                    "state": row.state,
                    "events": len(row.consumed_asset_events),
                }
                for row in rows
            ]

    def tell(asset, keys):
        with create_session() as session:
            for key in keys:
                asset_manager.register_asset_change(
                    asset=SerializedAsset(asset.name, asset.uri, asset.group, asset.extra, [], {}),
                    partition_key=key,
                    session=session,
                )

    def coming():
        with create_session() as session:
            return {row.dag_id: row.next_dagrun_partition_key for row in session.scalars(select(DagModel))}

    ids = ("latest", "all_days", "by_hand", "daily")
    facts: dict = {"now": datetime.now(UTC).isoformat()}
    schedule(20)
    facts["scheduled"] = {dag_id: runs(dag_id, "scheduled") for dag_id in ids}
    facts["next_before"] = coming()

    day = Partition("2026-10-25", "day", "Europe/Berlin")
    hours = partitions_between(
        Partition.containing(day.start, "hour", day.timezone), Partition.containing(day.end, "hour", day.timezone)
    )[:-1]
    clicks = asset_of("prod", "raw.clicks")
    tell(clicks, [hour.key for hour in hours[:-1]])
    schedule(2)
    facts["after_24_hours"] = runs("daily", "asset_triggered")
    tell(clicks, [hours[-1].key])
    schedule(3)
    facts["after_25_hours"] = runs("daily", "asset_triggered")
    tell(restated_asset("prod", "raw.clicks"), [hours[7].key])
    schedule(3)
    facts["after_restated"] = runs("daily", "asset_triggered")

    facts["skipped"] = {}
    for dag_id in ("daily", "by_hand", "latest"):
        backfill = _create_backfill(
            dag_id=dag_id,
            from_date=datetime(2026, 10, 23, tzinfo=UTC),
            to_date=datetime(2026, 10, 25, tzinfo=UTC),
            max_active_runs=5,
            reverse=False,
            dag_run_conf=None,
            triggering_user_name="ana",
            reprocess_behavior=ReprocessBehavior.NONE,
        )
        with create_session() as session:
            rows = session.scalars(select(BackfillDagRun).where(BackfillDagRun.backfill_id == backfill.id)).all()
            facts["skipped"][dag_id] = {row.partition_key: row.exception_reason for row in rows if not row.dag_run_id}
    schedule(6)
    facts["backfilled"] = {dag_id: runs(dag_id, "backfill") for dag_id in ("daily", "by_hand", "latest")}
    subprocess.run([sys.executable, "-m", "airflow", "dag-processor", "-n", "1"], check=True, capture_output=True)
    schedule(3)
    facts["next"] = coming()

    def start(key):
        return trigger_dag("by_hand", triggered_by=DagRunTriggeredByType.TEST, partition_key=key)

    try:
        start("20261120")
        facts["refused"] = "it was not"
    except ValueError as error:
        facts["refused"] = str(error)
    run = start("2026-11-20")
    facts["by_hand"] = {"key": run.partition_key, "date": run.partition_date.isoformat()}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
