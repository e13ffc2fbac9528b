"""One text for one meaning: canonical JSON and the fingerprint made from it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

FINGERPRINT_RULE = "v1"
"""Names the rule (SHA-256 of the canonical JSON, defaults left out) in each fingerprint, so that a later one shows."""

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical_json(data: Any) -> str:
    """Return ``data`` as JSON with sorted keys, no spaces, and text as it is (not escaped to ASCII)."""
    return _encode(data)


def fingerprint(data: Any) -> str:
    """Return ``v1:`` and the SHA-256 (64 hexadecimal digits) of the canonical JSON of ``data``."""
    return fingerprint_of_json(canonical_json(data))


def fingerprint_of_json(text: str) -> str:
    """Return the fingerprint of the data that ``text`` is the canonical JSON of."""
    return f"{FINGERPRINT_RULE}:{hashlib.sha256(text.encode()).hexdigest()}"
