"""How quickly the first thing is there."""

from __future__ import annotations

import statistics

from measure import Command, Row, aiflow, compare, python, run


def imports() -> list[Row]:
    """Importing the authoring names against importing pydantic."""
    ours = Command(python("-c", "from aiflow_sdk import pipeline, source, sink"))
    rival = Command(python("-c", "import pydantic"))
    return [compare("imports", ours, rival, 1.3, times=15)]


def help_text() -> list[Row]:
    """``aiflow --help`` as a whole process."""
    command = Command(aiflow("--help"))
    run(command)
    seconds = statistics.median(run(command).seconds for _ in range(15))
    return [Row("help", f"{seconds:.2f} s", "0.30 s", seconds / 0.3, "≤ 1", seconds <= 0.3)]
