"""From a plan's schedule to what ``DAG(schedule=…)`` takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow.partition_mappers.base import PartitionMapper
from airflow.partition_mappers.fixed_key import FixedKeyMapper
from airflow.sdk import Asset, AssetAny
from airflow.sdk.definitions.asset import BaseAsset
from airflow.timetables.base import Timetable

from aiflow_airflow.assets import UNPARTITIONED, asset_of, assets_of, restated_asset
from aiflow_airflow.mappers import InputRollup, Reading, WindowMapper
from aiflow_airflow.timetable import FiringTimetable, PartitionAssetTimetable, PartitionTimetable
from aiflow_sdk.ir.schedule import DatasetCondition
from aiflow_sdk.partitions import Grain, Window, is_window
from aiflow_sdk.plan import Plan, PlanNode
from aiflow_sdk.variables import TIME_NAMES, has_template, references

_DEMANDING = ("covering", "same", "last", "offset", "latest", "all")
"""Which window speaks for a dataset that is read by several: the one that ends with the run and holds most."""


def schedule_of(plan: Plan, input_grains: Mapping[str, Grain] | None = None) -> Timetable | None:
    """Return the timetable of a plan, or None for one that has neither schedule nor partitions.

    ``input_grains`` tells for what a run of an input's own pipeline is, by the dataset's name, where that is known and
    the pipeline's windows do not say it: a Monday's key is a day's or a week's.
    """
    match plan.schedule:
        case None:
            return PartitionTimetable(None, grain=plan.partition, timezone=plan.timezone) if plan.partition else None
        case str() as schedule:
            if plan.partition is None:
                return FiringTimetable(schedule, timezone=plan.timezone)
            return PartitionTimetable(schedule, grain=plan.partition, timezone=plan.timezone)
        case condition:
            return _asset_timetable(plan, condition, input_grains or {})


def _asset_timetable(plan: Plan, condition: DatasetCondition, grains: Mapping[str, Grain]) -> PartitionAssetTimetable:
    environment = plan.environment.name
    mappers: dict[Asset, PartitionMapper] = {}
    restated: dict[Asset, PartitionMapper] = {}
    for name in condition.names():
        demands = [demand for node in plan.node_list for demand in _demands(node, name)]
        reruns = [demand for demand in demands if demand.reruns]
        asset, again = asset_of(environment, name), restated_asset(environment, name)
        if plan.partition is None:
            mappers[asset] = FixedKeyMapper(UNPARTITIONED)
            if reruns:
                restated[again] = FixedKeyMapper(UNPARTITIONED)
            continue
        grain = grains.get(name)
        demand = _strongest(demands)
        window = demand.window
        if window.kind == "last" and demand.needed is not None and demand.needed <= 1:
            window = replace(window, n=1)  # the newest alone starts the run, so that nothing waits for the others
        needed = None if window.n == 1 else demand.needed
        mappers[asset] = InputRollup(_reading(plan, window, grain, plan.partition), needed)
        if reruns:
            restated[again] = WindowMapper(_reading(plan, _strongest(reruns).window, grain, plan.partition))
    assets: BaseAsset = assets_of(environment, condition)
    if restated:
        assets = AssetAny(assets, *restated)
    return PartitionAssetTimetable(
        assets=assets, partition_mapper_config=mappers | restated, grain=plan.partition, timezone=plan.timezone
    )


@dataclass(frozen=True)
class _Demand:
    """What a source asks of a dataset."""

    window: Window
    needed: int | None
    """How many of the window's partitions suffice; None: all."""
    reruns: bool


def _demands(node: PlanNode, dataset: str) -> list[_Demand]:
    """Return what the node asks of the dataset, column by column; of one that names no partition the whole."""
    if node.type != "source" or node.dataset is None or node.dataset[1] != dataset:
        return []
    values = node.options.get("partitions")
    windows = [window for value in values.values() if (window := _window(value))] if isinstance(values, Mapping) else []
    complete, reruns = node.options.get("complete"), node.options.get("restated") == "rerun"
    windows = windows or _dated(node.options.get("path")) or [Window("all")]
    return [_Demand(window, _needed(window, complete), reruns) for window in windows]


def _dated(path: Any) -> list[Window]:
    """Return the windows of a path that another time than the run's own decides: yesterday's files."""
    return [Window("offset", shift) for shift in sorted(_shifts(path)) if shift]


def _window(value: Any) -> Window | None:
    """Return the window that a partition column's value stands for; a template follows the run, text does not."""
    if is_window(value):
        return Window.from_json(value)
    if not isinstance(value, str) or not has_template(value):
        return None
    shift = min(_shifts(value), default=0)
    return Window("offset", shift) if shift else Window("same")


def _shifts(text: Any) -> set[int]:
    """Return by how many periods the times in a text lie beside the run's own."""
    times = [one for one in references(text) if one.name in TIME_NAMES] if isinstance(text, str) else []
    return {one.offset + (one.name == "data_interval_end") for one in times}


def _needed(window: Window, complete: Any) -> int | None:
    if complete is None:
        return 1 if window.kind == "last" else None
    return None if complete == "all" else int(complete)


def _strongest(demands: list[_Demand]) -> _Demand:
    anything = _Demand(Window("all"), None, reruns=False)
    return min(
        demands, key=lambda demand: (_DEMANDING.index(demand.window.kind), -(demand.window.n or 0)), default=anything
    )


def _reading(plan: Plan, window: Window, grain: Grain | None, run_grain: Grain) -> Reading:
    known = window if window.grain or grain is None else replace(window, grain=grain)
    return Reading(known, run_grain, plan.timezone)
