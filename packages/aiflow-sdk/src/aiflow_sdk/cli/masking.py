"""Makes values unreadable: the same value always becomes the same one, of the same type, so that joins still join."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiflow_sdk.errors import StoreError


class Mask:
    """Replaces values by what a key makes of them. Without the key nobody can try out which value it was."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def hide(self, value: Any) -> Any:
        """Return what stands for ``value``: None stays None, text keeps its being an address, a number its length."""
        match value:
            case None:
                return None
            case bool():
                return bool(self._number(value) % 2)
            case int():
                return self._digits(value, len(str(abs(value))))
            case float():
                return self._digits(value, 6) / 100
            case Decimal():
                return Decimal(self._digits(value, 6)).scaleb(min(0, int(value.as_tuple().exponent)))
            case datetime():
                seconds = self._number(value) % (7300 * 86_400)
                return datetime(2000, 1, 1, tzinfo=value.tzinfo) + timedelta(seconds=seconds)
            case date():
                return date(2000, 1, 1) + timedelta(days=self._number(value) % 7300)
            case time():
                return time(self._number(value) % 24, self._number(value) // 24 % 60)
            case bytes():
                return self._digest(value)[: max(4, min(len(value), 16))]
            case Mapping():
                return {name: self.hide(item) for name, item in value.items()}
            case list() | tuple():
                return [self.hide(item) for item in value]
            case _:
                text = f"masked-{self._digest(value).hex()[:10]}"
                return f"{text}@example.com" if "@" in str(value) else text

    def _digest(self, value: Any) -> bytes:
        raw = value if isinstance(value, bytes) else str(value).encode()
        return hashlib.blake2b(raw, key=self._key, digest_size=16).digest()

    def _number(self, value: Any) -> int:
        return int.from_bytes(self._digest(value), "big")

    def _digits(self, value: Any, digits: int) -> int:
        least: int = 10 ** (digits - 1)
        found = least + self._number(value) % (9 * least)
        return -found if value < 0 else found


def project_mask(root: Path) -> Mask:
    """Return the project's mask. Its key is made once and stays in ``.aiflow``, which no repository holds."""
    from aiflow_sdk.local.store import HOME, make_home

    path = root / HOME / "mask.key"
    try:
        if not path.exists():
            make_home(path.parent)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(os.urandom(32))
        return Mask(path.read_bytes())
    except OSError as error:
        raise StoreError(
            "store-not-writable",
            f"{path} cannot be made: {error.strerror}",
            hint="let the project's folder be written to",
        ) from error
