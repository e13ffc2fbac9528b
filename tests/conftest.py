"""Settings that every test shares."""

import pytest
from hypothesis import HealthCheck, settings

# A busy two-core machine is slow without anything being wrong; the same examples every time keep a green run green.
settings.register_profile(
    "aiflow",
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("aiflow")

pytest.register_assert_rewrite("cells.claims", "cells.kill_claims")
pytest_plugins = ["harness.fixtures", "cells.fixtures", "cells.matrix"]
