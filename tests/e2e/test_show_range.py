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


def test_what_lies_in_several_days_is_shown_though_no_run_makes_them_at_once(tmp_path: Path) -> None:
    text = PIPELINE.replace(", ranges=True", "") + (
        '    p.write(numbers, sink.onelake("added", table="mart.added", mode="append", partition_by=["dt"]))\n'
        '    p.write(numbers, sink.onelake("whole", table="mart.whole", mode="append"))\n'
    )
    lay(tmp_path, "raw/numbers", {"n": range(3), "dt": DAYS}, "dt")
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/ranged.py").write_text(text)
    (tmp_path / "aiflow.toml").write_text(
        '[environments.dev]\n[environments.far]\nlake = "s3://far/lake"\n[environments.far.storage]\n'
        'endpoint = "http://127.0.0.1:9"\nallow_http = true\nregion = "x"\n'
        'access_key_id = "secret://key"\nsecret_access_key = "secret://key"\n'
    )
    aiflow(tmp_path, "backfill", "ranged", "--from", DAYS[0], "--to", DAYS[-1])
    told = aiflow(tmp_path, "show", "ranged", "--date", f"{DAYS[0]}..{DAYS[1]}").out
    assert len(re.findall(rf"  2 rows \S+ \S+ for {DAYS[0]}\.\.{DAYS[1]},", told)) == 2, told
    assert f"next: aiflow backfill ranged --from {DAYS[0]} --to {DAYS[1]}" in told
    shown = json.loads(aiflow(tmp_path, "show", "ranged", "--date", DAYS[1], "--json").out)["tables"]
    assert {table["sink"]: (table["rows"], table["partition"]) for table in shown} == {
        "copy": (1, DAYS[1]),
        "added": (1, DAYS[1]),
        "whole": (3, None),
    }
    assert "half-a-range" in aiflow(tmp_path, "show", "ranged", "--date", f"{DAYS[0]}..", code=2).err
    # What cannot be looked at is not absent.
    far = aiflow(tmp_path, "show", "ranged", "--env", "far", "--date", DAYS[0], code=1, AIFLOW_SECRET_KEY="abcdefgh")
    assert "cannot be looked at: the store at s3://far/lake/mart/copy cannot be reached" in far.out
    assert "nothing there yet" not in far.out
    assert "error[store-unavailable]" in far.err
