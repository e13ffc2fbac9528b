"""The examples that ship, from their folder to the rows in the lake, as a user would run them."""

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from aiflow_sdk.partitions import Partition, partitions_between
from projects import aiflow

EXAMPLES = Path(__file__).parents[2] / "examples"
ZONE = "America/New_York"


def hours_of(first, last):
    start = Partition.parse(first, "day", ZONE).start
    end = Partition.parse(last, "day", ZONE).end
    hours = partitions_between(Partition.containing(start, "hour", ZONE), Partition.containing(end, "hour", ZONE))
    return [hour for hour in hours if hour.start < end]


@pytest.fixture
def hourly_daily(tmp_path):
    root = tmp_path / "hourly_daily"
    shutil.copytree(EXAMPLES / "hourly_daily", root, ignore=shutil.ignore_patterns(".aiflow", "__pycache__"))
    return root


def lay_clicks(root, hours, *, per_hour=2):
    rows = [{"hour": hour.key, "page": page} for hour in hours for page in ("home", "cart") for _ in range(per_hour)]
    target = root / ".aiflow" / "lake" / "raw" / "clicks"
    target.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_delta(str(target), mode="append", delta_write_options={"partition_by": ["hour"]})


def daily(root):
    return pl.read_delta(str(root / ".aiflow" / "lake" / "web" / "clicks_daily")).sort("dt", "page")


@pytest.mark.parametrize(("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25)])
def test_hours_become_a_day_when_the_clocks_change(hourly_daily, day, hours):
    wanted = hours_of(day, day)
    assert len(wanted) == hours
    lay_clicks(hourly_daily, wanted)
    aiflow(hourly_daily, "backfill", "clicks_hourly", "--from", wanted[0].key, "--to", wanted[-1].key)
    aiflow(hourly_daily, "run", "clicks_daily", "--date", day)
    assert daily(hourly_daily).to_dicts() == [
        {"page": "cart", "clicks": 2 * hours, "hours": hours, "dt": day},
        {"page": "home", "clicks": 2 * hours, "hours": hours, "dt": day},
    ]


def test_a_late_hour_is_waited_for_and_makes_the_day_again(hourly_daily):
    wanted = hours_of("2026-06-01", "2026-06-01")
    lay_clicks(hourly_daily, wanted[:-1])
    aiflow(hourly_daily, "backfill", "clicks_hourly", "--from", wanted[0].key, "--to", wanted[-2].key)
    told = aiflow(hourly_daily, "run", "clicks_daily", "--date", "2026-06-01", code=1).err
    assert "input-incomplete" in told
    assert "2026-06-01T23" in told
    lay_clicks(hourly_daily, wanted[-1:])
    aiflow(hourly_daily, "run", "clicks_hourly", "--date", wanted[-1].key)
    aiflow(hourly_daily, "backfill", "clicks_daily", "--from", "2026-06-01", "--to", "2026-06-01")
    assert daily(hourly_daily)["hours"].to_list() == [24, 24]
    # Made again by nobody who changed anything: skipped. Restated: made again, and the reason said.
    again = aiflow(hourly_daily, "backfill", "clicks_daily", "--from", "2026-06-01", "--to", "2026-06-01")
    assert "up to date" in again.out
    lay_clicks(hourly_daily, wanted[5:6])
    aiflow(hourly_daily, "run", "clicks_hourly", "--date", wanted[5].key)
    told = aiflow(hourly_daily, "backfill", "clicks_daily", "--from", "2026-06-01", "--to", "2026-06-01").out
    assert "restated" in told
    assert daily(hourly_daily)["clicks"].to_list() == [50, 50]


def test_the_flights_demo_ends_with_a_feature_table(tmp_path):
    root = tmp_path / "flights"
    shutil.copytree(EXAMPLES / "flights", root, ignore=shutil.ignore_patterns(".aiflow", "__pycache__"))
    done = subprocess.run([sys.executable, "demo.py"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in ("894 rows", "feature.daily_delays", "next:", "$ aiflow run flights_daily"):
        assert expected in done.stdout
    table = DeltaTable(str(root / ".aiflow" / "lake" / "feature" / "daily_delays"))
    assert table.metadata().partition_columns == ["dt"]
    made = pl.read_delta(str(root / ".aiflow" / "lake" / "feature" / "daily_delays"))
    assert (made.height, made["flights"].sum()) == (15, 894)


def test_every_example_passes_its_own_check(tmp_path):
    for example in sorted(EXAMPLES.iterdir()):
        if (example / "aiflow.toml").exists():
            root = tmp_path / example.name
            shutil.copytree(example, root, ignore=shutil.ignore_patterns(".aiflow", "__pycache__"))
            report = aiflow(root, "--json", "check").records[-1]
            assert report.get("problems") == [], report
