"""Time: the partitions that runs are for, the schedules that start them, and the windows of the inputs they read."""

from aiflow_sdk.partitions.asked import check_date, partition_range
from aiflow_sdk.partitions.partition import (
    GRAINS,
    Grain,
    Partition,
    column_value,
    last_complete,
    partitions_between,
)
from aiflow_sdk.partitions.schedule import (
    PRESETS,
    due_partitions,
    fire_times,
    infer_grain,
    normalise_schedule,
    read_duration,
)
from aiflow_sdk.partitions.window import Window, WindowKind, Windows, is_window, window

__all__ = [
    "GRAINS",
    "PRESETS",
    "Grain",
    "Partition",
    "Window",
    "WindowKind",
    "Windows",
    "check_date",
    "column_value",
    "due_partitions",
    "fire_times",
    "infer_grain",
    "is_window",
    "last_complete",
    "normalise_schedule",
    "partition_range",
    "partitions_between",
    "read_duration",
    "window",
]
