"""Masked values cannot be read, keep their type, and are always the same."""

import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_sdk.cli.masking import Mask, project_mask

MASK = Mask(b"k" * 32)
DAY = datetime.date(2026, 11, 20)

plain_values = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.decimals(allow_nan=False, allow_infinity=False, places=2)
)


@given(st.recursive(plain_values, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_a_value_keeps_its_type_and_its_mask(value) -> None:
    hidden = MASK.hide(value)
    assert type(hidden) is type(value)
    assert hidden == MASK.hide(value)


@pytest.mark.parametrize(
    "value",
    ["Ana", 12345678, 3.25, DAY, datetime.datetime(2026, 11, 20, 5, tzinfo=datetime.UTC), Decimal("3.25"), b"secret"],
)
def test_a_masked_value_is_another_one(value) -> None:
    assert MASK.hide(value) != value
    assert MASK.hide(value) != Mask(b"other key").hide(value)


def test_an_address_stays_one_and_a_number_keeps_its_length() -> None:
    assert MASK.hide("ana@company.org").endswith("@example.com")
    assert "ana" not in MASK.hide("ana@company.org").removesuffix("@example.com").removeprefix("masked-")
    assert len(str(MASK.hide(123_456))) == 6
    assert MASK.hide(-5) < 0
    assert MASK.hide(None) is None


def test_what_is_inside_is_masked_and_its_names_stay() -> None:
    hidden = MASK.hide({"name": "Ana", "tags": ["a", "b"]})
    assert hidden.keys() == {"name", "tags"}
    assert hidden["name"] == MASK.hide("Ana")
    assert hidden["tags"] == [MASK.hide("a"), MASK.hide("b")]


def test_the_key_is_made_once_and_nobody_else_reads_it(tmp_path: Path) -> None:
    first, second = project_mask(tmp_path), project_mask(tmp_path)
    assert first.hide("x") == second.hide("x")
    assert (tmp_path / ".aiflow/mask.key").stat().st_mode & 0o077 == 0
    assert (tmp_path / ".aiflow/.gitignore").read_text() == "*\n"
    other = tmp_path / "other"
    other.mkdir()
    assert project_mask(other).hide("x") != first.hide("x")
