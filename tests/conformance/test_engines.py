"""Our engines pass the suite that a stranger's engine inherits."""

import pytest

from aiflow_sdk.engines.python import PythonEngine
from aiflow_sdk.testing.conformance.engine import EngineConformance


class TestPythonEngine(EngineConformance):
    @pytest.fixture
    def engine(self):
        return PythonEngine()
