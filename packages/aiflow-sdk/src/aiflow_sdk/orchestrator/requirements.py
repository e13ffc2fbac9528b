"""The settings that an Airflow needs for what aiflow deploys, as they are compared with those that it has.

``aiflow_airflow.settings`` sets them and says why; a test holds the two lists together. This one is for whoever looks
at an Airflow from elsewhere, where that package is not installed.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Requirement(NamedTuple):
    """One setting of airflow.cfg and what it has to be."""

    section: str
    name: str
    value: str
    holds: Literal["exactly", "at most", "at least"]
    """How another value than ``value`` is judged: a shorter interval is as good, for instance."""
    otherwise: str
    """What is to be expected where it does not hold."""
    is_vital: bool = False
    """Whether runs go wrong without it, and not only late."""

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"AIRFLOW__{self.section.upper()}__{self.name.upper()}"

    def accepts(self, value: str) -> bool:
        """Tell whether a value that an Airflow has will do."""
        if self.holds == "exactly":
            return value.strip().lower() == self.value
        try:
            number, wanted = float(value), float(self.value)
        except ValueError:
            return False
        return number <= wanted if self.holds == "at most" else number >= wanted


REQUIREMENTS = (
    Requirement(
        "core",
        "min_serialized_dag_update_interval",
        "0",
        "at most",
        "of two releases soon after one another the second's plans run on the first's graph",
        is_vital=True,
    ),
    Requirement("dag_processor", "refresh_interval", "2", "at most", "a release is seen that much later"),
    Requirement("dag_processor", "bundle_refresh_check_interval", "1", "at most", "a release is seen that much later"),
    Requirement(
        "dag_processor", "min_file_process_interval", "3600", "at least", "files that never change are parsed again"
    ),
    Requirement(
        "dag_processor", "file_parsing_sort_mode", "modified_time", "exactly", "what a release changed waits its turn"
    ),
    Requirement(
        "workers", "min_heartbeat_interval", "2", "at most", "a task hears that much later that it was cleared or ended"
    ),
)
