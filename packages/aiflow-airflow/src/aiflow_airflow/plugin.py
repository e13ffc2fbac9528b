"""What Airflow learns of aiflow by itself: the classes that a serialized DAG may name.

Every process of Airflow imports this module, so it imports nothing that those do not import anyway.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from aiflow_airflow.deadlines import RunDue
from aiflow_airflow.mappers import InputRollup, InputWindow, WindowMapper
from aiflow_airflow.timetable import FiringTimetable, PartitionAssetTimetable, PartitionTimetable


class AiflowPlugin(AirflowPlugin):
    """Registers aiflow's timetables, partition mappers and deadline."""

    name = "aiflow"
    timetables: list[Any] = [FiringTimetable, PartitionAssetTimetable, PartitionTimetable]  # noqa: RUF012 how Airflow's plugins are written
    partition_mappers: list[Any] = [InputRollup, WindowMapper]  # noqa: RUF012 how Airflow's plugins are written
    windows: list[Any] = [InputWindow]  # noqa: RUF012 how Airflow's plugins are written
    deadline_references: list[Any] = [RunDue]  # noqa: RUF012 how Airflow's plugins are written
