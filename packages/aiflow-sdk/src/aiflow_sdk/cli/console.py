"""Where the command line writes: colours where they are wanted, plain text elsewhere, JSON where it is asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from aiflow_sdk.errors import plural

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""The last ones turn the direction of what follows: a name or a line could read as another one."""
_PLAIN = str.maketrans(
    {"▸": ">", "…": "...", "·": "-", "─": "-", "│": "|", "├": "|", "└": "`", "→": "->", "×": "x", "█": "#", "░": "."}
)


class Console:
    """One output. A reader that goes away (``aiflow … | head``) silences it."""

    def __init__(self, stream: TextIO | None = None, *, as_json: bool = False) -> None:
        self.stream = stream if stream is not None else sys.stdout
        self.as_json = as_json
        """Whether data is wanted instead of words."""
        self.is_terminal = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.has_colour = self.is_terminal and not os.environ.get("NO_COLOR")
        self.is_closed = False
        self._ends_with_reader = False
        self._lock = threading.RLock()
        self._encoding = self.stream.encoding or "utf-8"

    @property
    def width(self) -> int:
        """How many characters a line has; without a terminal 120."""
        return shutil.get_terminal_size((120, 40)).columns if self.is_terminal else 120

    @property
    def height(self) -> int:
        """How many lines the terminal shows."""
        return shutil.get_terminal_size((120, 40)).lines

    def style(self, text: str, *names: str) -> str:
        """Return ``text`` in these styles, unchanged where colours are not wanted."""
        if not self.has_colour or not text or not names:
            return text
        return f"\x1b[{';'.join(_STYLES[name] for name in names)}m{text}\x1b[0m"

    @contextmanager
    def ending_with_reader(self) -> Iterator[None]:
        """Meanwhile a reader that goes away is a ``KeyboardInterrupt``, once: work of hours is not done for nobody.

        One that has gone before is it at once.
        """
        if self.is_closed:
            raise KeyboardInterrupt
        before, self._ends_with_reader = self._ends_with_reader, True
        try:
            yield
        finally:
            self._ends_with_reader = before

    def print(self, text: str = "") -> None:
        """Write a line."""
        self.write(f"{text}\n")

    def print_json(self, data: Any, *, indent: int | None = None) -> None:
        """Write data as one JSON document."""
        self.print(json.dumps(data, ensure_ascii=False, indent=indent, default=str))

    def write(self, text: str) -> None:
        """Write text as it is, in whatever the stream can show of it."""
        with self._lock:
            if self.is_closed:
                return
            try:
                text.encode(self._encoding)
            except UnicodeEncodeError:
                text = text.translate(_PLAIN).encode(self._encoding, "replace").decode(self._encoding)
            try:
                self.stream.write(text)
                self.stream.flush()
            except BrokenPipeError:
                self.is_closed = True
                # What is still buffered must go somewhere, or Python complains when it ends.
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
                if self._ends_with_reader:
                    raise KeyboardInterrupt from None


def text_width(text: str) -> int:
    """Return how many columns a terminal gives to ``text``, styles not counted."""
    plain = _ESCAPE.sub("", text)
    if plain.isascii():
        return len(plain)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in plain)


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return ``text`` filled up with spaces to ``width`` columns."""
    space = " " * max(0, width - text_width(text))
    return space + text if right else text + space


def cut(text: str, width: int) -> str:
    """Return ``text`` cut to ``width`` columns; what is cut away shows as ``…``. Styles stay whole."""
    if text_width(text) <= width:
        return text
    kept: list[str] = []
    used = 0
    for part in re.split(r"(\x1b\[[0-9;]*m)", text):
        if part.startswith("\x1b"):
            kept.append(part)
            continue
        for character in part:
            step = text_width(character)
            if used + step > width - 1:
                break
            kept.append(character)
            used += step
        else:
            continue
        break
    return "".join(kept) + "…" + ("\x1b[0m" if "\x1b" in text else "")


def cut_middle(text: str, width: int) -> str:
    """Return plain ``text`` cut to ``width`` columns; what is left out of its middle shows as ``…``."""
    if text_width(text) <= width:
        return text
    if width < 3:
        return cut(text, max(1, width))
    end = ""
    for character in reversed(text):
        if text_width(character + end) > (width - 1) // 2:
            break
        end = character + end
    return cut(text, width - text_width(end)) + end


def format_next(console: Console, said: str, commands: Sequence[str], *, word: str = "next") -> list[str]:
    """Return ``said`` and the commands to type next: in one line where a terminal has room, else each in its own."""
    line = f"{said}   {word}: {' · '.join(commands)}".lstrip()
    if not console.is_terminal or text_width(line) < console.width:
        return [line]
    margin = " " * (len(word) + 2)
    return [*([said] if said else []), f"{word}: {commands[0]}", *(f"{margin}{command}" for command in commands[1:])]


def printable(text: str) -> str:
    """Return ``text`` without what would steer the terminal; for data and the output of user code."""
    return _CONTROL.sub("", _ESCAPE.sub("", text.replace("\t", "    ")))


def format_table(console: Console, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Return rows as lines under a head line; numbers stand to the right."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    numeric = [all(isinstance(row.get(c), int | float | None) for row in rows) and bool(rows) for c in columns]
    widths = [max(text_width(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    lines = [list(columns), *cells]
    text = ["  ".join(pad(cell, widths[i], right=numeric[i]) for i, cell in enumerate(line)).rstrip() for line in lines]
    return [console.style(text[0], "dim"), *text[1:]]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return cut(printable(str(value).replace("\n", "⏎")), 60)


def format_bytes(number: int | None) -> str:
    """Return a size as people read it: ``31 KB``; nothing where it is not known."""
    if number is None:
        return ""
    size = float(number)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def format_rows(number: int | None) -> str:
    """Return ``1,234 rows``; nothing where it is not known."""
    return "" if number is None else plural(number, "row")


def format_seconds(seconds: float | None) -> str:
    """Return a duration: ``0.04 s``, ``12.3 s``, ``2 min 05 s``, ``1 h 02 min``; nothing where it is not known."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
