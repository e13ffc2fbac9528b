"""How two versions of a pipeline differ, as meaning and not as text; pure, for the command line and for services."""

from aiflow_sdk.difference.model import ABSENT, Difference, Effect, Kind, effect_of
from aiflow_sdk.difference.pipelines import compare_pipelines

__all__ = ["ABSENT", "Difference", "Effect", "Kind", "compare_pipelines", "effect_of"]
