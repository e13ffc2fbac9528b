"""Keeps the values of secrets out of what is written down: logs, errors, records, events.

Whoever looks up a secret adds its value to :data:`REDACTOR`, the one of this process; whoever writes text that user
code, a driver or a server may have made asks it to hide them. What it cannot see: a value that was changed (reversed,
in base64, cut in two), a process that never looked the secret up, and values of fewer than four characters.
"""

from __future__ import annotations

import io
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"
_SHORTEST = 4
"""Shorter values are not hidden: nobody could read a log in which each ``1`` is replaced."""
_SHORTEST_LINE = 8
"""Of a secret of several lines, such as a private key, each line is hidden that is as long: logs hold single lines."""

REFERENCE = "secret://"
"""Begins what stands for a secret, and is none."""

# What secrets look like, for whoever refuses them in what is written and whoever hides them in what is sent. The first
# has to be sure and the second to miss none, so that each puts its own pattern together of these.
ISSUED_TOKENS = {
    **dict.fromkeys(("gho_", "ghp_", "ghr_", "ghs_", "ghu_"), r"[A-Za-z0-9]{36,}"),
    "github_pat_": r"[A-Za-z0-9_]{40,}",
    "glpat-": r"[A-Za-z0-9_-]{20,}",
    **dict.fromkeys(("xoxb-", "xoxp-"), r"[A-Za-z0-9-]{10,}"),
    "dapi": r"[a-f0-9]{32}",
    "AIza": r"[A-Za-z0-9_-]{35}",
}
"""Tokens that GitHub, GitLab, Slack, Databricks and Google issue: how they begin, by which scanners know them, and a
pattern of how they go on."""
ISSUED_TOKEN = "|".join(begin + rest for begin, rest in ISSUED_TOKENS.items())
AWS_KEY_ID = r"(?:AKIA|ASIA)[A-Z0-9]{16}"
PRIVATE_KEY = r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
KINDS_OF_KEY = r"(?:api|access|account|private|secret|shared|signing|encryption)"
"""What stands before ``key`` in the name of a secret one, other than of a primary or partition key."""

_SIGNATURE = re.compile(r"(?:^|[?&])sig=([^&\s]+)")
"""Of a signed address or token (Azure's SAS) the part that opens doors: drivers put the parts in another order."""


class Redactor:
    """Replaces the values that it knows by ``***``, the longest first. Any thread may use it."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()
        self.tell: Callable[[str], None] | None = None
        """Hears of each new value, so that another process that writes what this one prints can hide it too."""

    def add(self, value: str) -> None:
        """Hide this value from now on, also as it stands in JSON, in a ``repr`` and in an address."""
        value = str.__str__(value)
        forms = set(_forms(value))
        with self._lock:
            if forms <= self._forms:
                return
            self._forms |= forms
            self._pattern = re.compile("|".join(map(re.escape, sorted(self._forms, key=len, reverse=True))))
        if self.tell:
            self.tell(value)

    def __bool__(self) -> bool:
        """Tell whether there is any value to hide."""
        return self._pattern is not None

    def hide(self, text: str) -> str:
        """Return the text without the values."""
        return text if self._pattern is None else self._pattern.sub(HIDDEN, text)

    def hide_in(self, data: Any) -> Any:
        """Return plain data with the values hidden in each text of it, keys too."""
        if self._pattern is None:
            return data
        match data:
            case str():
                return self.hide(data)
            case Mapping():
                return {self.hide_in(key): self.hide_in(item) for key, item in data.items()}
            case list():
                return [self.hide_in(item) for item in data]
            case tuple():
                return tuple(self.hide_in(item) for item in data)
            case _:
                return data


REDACTOR = Redactor()
"""Of this process: a secret that one pipeline looked up is hidden in what every other one writes too."""


class HidingStream(io.TextIOBase):
    """A text stream that passes on, with the values hidden, what is written to it: a line when it is complete."""

    def __init__(self, original: TextIO) -> None:
        self._original = original
        self._rest = ""
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Take text; what follows the last line end or carriage return waits for its end."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._lock:
            whole = self._rest + text
            end = max(whole.rfind("\n"), whole.rfind("\r")) + 1
            self._rest = whole[end:]
            self._original.write(REDACTOR.hide(whole[:end]))
        return len(text)

    def flush(self) -> None:
        """Pass on the beginning of a line too."""
        with self._lock:
            self._original.write(REDACTOR.hide(self._rest))
            self._rest = ""
            self._original.flush()

    def fileno(self) -> int:
        """Return the number of the file below, which hides nothing."""
        return self._original.fileno()

    def writable(self) -> bool:
        """Say yes."""
        return True


@contextmanager
def hidden_in_output() -> Iterator[None]:
    """Hide the values in what Python code of this process prints meanwhile."""
    stdout, stderr = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = HidingStream(stdout), HidingStream(stderr)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = stdout, stderr


def _forms(value: str) -> Iterator[str]:
    lines = [line.strip() for line in value.splitlines()]
    texts = [value, value.strip(), *(line for line in lines if len(lines) > 1 and len(line) >= _SHORTEST_LINE)]
    for found in _SIGNATURE.finditer(value):
        texts += [found[1], unquote(found[1])]
    for text in texts:
        if len(text) >= _SHORTEST:
            yield from (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1])
            yield from (quote(text), quote(text, safe=""), quote_plus(text))
