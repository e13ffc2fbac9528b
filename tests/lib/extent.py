"""How much is tried: every pair of what may meet, or with ``WHOLE=1`` in the environment more, and all combinations.

Where several axes meet (stores, modes, engines, faults), one combination in two has every value of each axis meet every
value of each other one; a machine of two cores has no time for all, since servers of stores are slow there.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

WHOLE = os.environ.get("WHOLE", "0") not in ("", "0")


def combinations(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the black fields of a chessboard of three axes or more, or all of its fields.

    Any two values of two axes stand on a black field together, as long as each other axis has two values.
    """
    fields = itertools.product(*(enumerate(axis) for axis in axes))
    return [
        tuple(value for _, value in field) for field in fields if WHOLE or sum(index for index, _ in field) % 2 == 0
    ]
