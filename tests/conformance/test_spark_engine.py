"""The engine ``spark``, on its embedded server, passes the suite that a stranger's engine inherits."""

import pytest

from aiflow_sdk.engines.spark import SparkEngine
from aiflow_sdk.testing.conformance.engine import EngineConformance


class TestSparkEngine(EngineConformance):
    @pytest.fixture
    def engine(self):
        return SparkEngine()
