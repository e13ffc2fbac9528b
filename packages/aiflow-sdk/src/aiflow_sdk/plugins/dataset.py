"""How a connector's dataset is called, also where the time of a run decides which part of it is touched."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiflow_sdk.ir import DatasetName
from aiflow_sdk.plugins.options import Plugin


@dataclass(frozen=True, slots=True)
class DatasetPart:
    """A dataset, and the part of it that one run touches."""

    name: DatasetName
    part: str = ""
    """With templates of the run's time, as ``dt={{ ds }}``; rendered it is the partition. Empty: the whole."""
    location: str = field(default="", compare=False)
    """Where the part lies, with the same templates: ``data/orders/dt={{ ds }}``."""


class Connector(Plugin, ABC):
    """What a source and a sink are: each has a dataset."""

    @abstractmethod
    def dataset(self) -> DatasetName:
        """Return how lineage calls the dataset."""

    @classmethod
    def dated(cls, options: Mapping[str, Any]) -> DatasetPart | None:
        """Return how lineage calls what raw options mean for all runs together, where templates of their time say
        which part of it is a run's.

        None, as it stands: each name that the templates give is a dataset of its own. It is asked before there is a
        run, and in a run with all other templates rendered.
        """
        return None
