"""Datasets as Airflow's assets: one name and one address for each, whoever writes or reads it.

The address is ``x-aiflow://…`` and not the table's own, because for a scheme such as ``s3://`` Airflow loads every
provider to look for a handler; what begins with ``x-`` it leaves alone. Nothing but the environment and the dataset's
name stands in an asset, so that all DAGs that mention it agree on it; the true address, rows and version are in the
events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import Asset, AssetAll, AssetAny
from airflow.sdk.definitions.asset import BaseAsset

if TYPE_CHECKING:  # every process of Airflow imports this module, through the plugin
    from aiflow_sdk.ir.schedule import DatasetCondition

UNPARTITIONED = "all"
"""The partition key of an event about a whole dataset.

Airflow starts no DAG with a partitioned timetable for an event without a key, and no other DAG for one with a key.
"""


_RESTATED = " restated"


def asset_of(environment: str, dataset: str) -> Asset:
    """Return the asset of a dataset (``schema.table``): an event says that a partition was made for the first time."""
    return Asset(name=f"{environment}/{_quoted(dataset)}", uri=f"x-aiflow://{environment}/{_quoted(dataset)}")


def restated_asset(environment: str, dataset: str) -> Asset:
    """Return the asset whose events say that a partition of the dataset, complete before, was made again."""
    return Asset(
        name=f"{environment}/{_quoted(dataset)}{_RESTATED}", uri=f"x-aiflow://{environment}/{_quoted(dataset)}/restated"
    )


def is_restated(name: str) -> bool:
    """Tell whether it is the name of a :func:`restated_asset`."""
    return name.endswith(_RESTATED)


def assets_of(environment: str, condition: DatasetCondition) -> BaseAsset:
    """Return the condition of datasets as one of assets, joined as they are."""
    match condition.op:
        case "dataset":
            assert condition.name is not None  # a condition that is not whole cannot be made
            return asset_of(environment, condition.name)
        case "all":
            return AssetAll(*(assets_of(environment, item) for item in condition.items))
        case "any":
            return AssetAny(*(assets_of(environment, item) for item in condition.items))


def _quoted(dataset: str) -> str:
    return quote(dataset, safe="./-_~")  # MySQL's column takes ASCII alone
