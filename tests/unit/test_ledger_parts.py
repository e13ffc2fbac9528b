"""Partitions as they are told, one within another."""

import pytest

from aiflow_service.ledger.evaluation import Ledger, Made, Pipeline, Use
from aiflow_service.ledger.parts import PartSet, moved


@pytest.mark.parametrize(
    ("partition", "key", "to", "expected"),
    [
        ("dt=2026-11-20", "2026-11-20", "2026-12-01", "dt=2026-12-01"),
        ("country=de/dt=2026-11-20", "2026-11-20", "2026-12-01", "country=de/dt=2026-12-01"),
        ("2026-11-20", "2026-11-20", "2026-12-01", "2026-12-01"),
        ("dt=20261120", "2026-11-20", "2026-12-01", "dt=20261201"),
        ("2026/11/20/country=de", "2026-11-20", "2026-12-01", "2026/12/01/country=de"),
        ("year=2026/month=11/day=20", "2026-11-20", "2026-12-01", "year=2026/month=12/day=01"),
        ("dt=2026-11-20/hour=05", "2026-11-20T05", "2026-11-21T23", "dt=2026-11-21/hour=23"),
        ("month=2026-11-01", "2026-11", "2026-12", "month=2026-12-01"),
        ("hour=2026-10-25T02", "2026-10-25T02", "2026-10-25T02+02:00", "hour=2026-10-25T02+02:00"),
        ("country=de", "2026-11-20", "2026-12-01", "country=de"),
        ("v12026-11-20", "2026-11-20", "2026-12-01", "v12026-11-20"),
        ("dt=2026-11-20", "-", "2026-12-01", "dt=2026-11-20"),
        ("dt=2026-11-20", "-", "-", "dt=2026-11-20"),
    ],
)
def test_a_write_for_one_partition_says_what_one_for_another_would_write(partition, key, to, expected):
    assert moved(partition, key, to) == expected


@pytest.mark.parametrize(
    ("written", "read", "is_touched"),
    [
        ("dt=2026-11-20", "dt=2026-11-20", True),
        ("dt=2026-11-20", "dt=2026-11-21", False),
        ("country=de/dt=2026-11-20", "dt=2026-11-20", True),  # a column of a table
        ("2026/11/20", "2026/11", True),  # a month of days
        ("2026/11", "2026/11/20", True),  # a day of a month that is written whole
        ("2026/11/21", "2026/11/20", False),
        ("2026/11/20", "2026/12", False),
        ("2026/12/11", "2026/11", False),
    ],
)
def test_what_is_written_is_read_in_folders_above_and_below_it(written, read, is_touched):
    remade = PartSet()
    remade.update([written])
    assert remade.touches(read) is is_touched
    table = (1, "dev")
    before, after = (Use("out", table, (written,), None, moment, f"run {moment}") for moment in (1, 3))
    first = Pipeline(1, "shop", "first", "dev", [_made(before), _made(after)])
    reading = Use("in", table, (read,), None, 2, "run 2")
    assert Ledger([first], now=None)._newest(reading) == ("moment 3" if is_touched else "moment 2")  # type: ignore[arg-type]  # nothing asks it


def _made(write: Use) -> Made:
    keys = ("2026-11-20",)
    return Made(
        write.run_uid, keys, "v", 1, write.moment, "succeeded", write.moment, None, "day", "UTC", True, (), (write,)
    )
