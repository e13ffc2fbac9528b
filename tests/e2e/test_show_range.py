"""What a run for a range is answered with can be typed."""

import json
import re
import shlex
from pathlib import Path

from projects import aiflow, lay

DAYS = ["2026-11-20", "2026-11-21", "2026-11-22"]
PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="ranged", schedule="@daily", ranges=True)
def ranged(p):
    numbers = p.read(source.onelake("numbers", table="raw.numbers", partitions={"dt": "{{ ds }}"}))
    p.write(numbers, sink.onelake("copy", table="mart.copy", partition_by=["dt"]))
"""


def test_the_next_command_of_a_run_for_a_range_shows_the_range(tmp_path: Path) -> None:
    lay(tmp_path, "raw/numbers", {"n": range(3), "dt": DAYS}, "dt")
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/ranged.py").write_text(PIPELINE)
    (tmp_path / "aiflow.toml").touch()
    told = aiflow(tmp_path, "run", "ranged", "--date", DAYS[0], "--last-date", DAYS[-1]).out
    following = re.search(r"next: aiflow ([^·\n]+)", told)
    assert following, told
    words = shlex.split(following[1])
    assert f"{DAYS[0]}..{DAYS[-1]}" in words
    (table,) = json.loads(aiflow(tmp_path, "--json", *words).out)["tables"]
    assert table["rows"] == 3
    assert len(table["sample"]) == 3
    assert "3 rows" in aiflow(tmp_path, *words).out
