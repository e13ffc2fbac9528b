"""A small disk fills, a read-only one takes nothing, and both are gone afterwards."""

import errno

import pytest

from harness.disks import read_only, small_disk


def test_a_small_disk_fills(tmp_path):
    with small_disk(tmp_path / "disk", 64 << 10):
        with pytest.raises(OSError, match="No space") as caught:
            (tmp_path / "disk" / "x").write_bytes(bytes(100_000))
        assert caught.value.errno == errno.ENOSPC
    assert list((tmp_path / "disk").iterdir()) == []


def test_what_is_read_only_cannot_be_changed_by_root_either(tmp_path):
    (tmp_path / "x").write_text("before")
    with read_only(tmp_path):
        with pytest.raises(OSError, match="Read-only") as caught:
            (tmp_path / "x").write_text("after")
        assert caught.value.errno == errno.EROFS
        assert (tmp_path / "x").read_text() == "before"
    (tmp_path / "x").write_text("after")
