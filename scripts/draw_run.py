"""Draws docs/pictures: what a terminal shows of the flights demo, from real runs of it.

    make demo && .venv/bin/python scripts/draw_run.py

The commands run on a pseudo-terminal; what they write is kept as the screen shows it in the end, colours included.
The folder in which the example lies is shown as ``~/flights``.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "examples" / "flights"
FOLDER = ROOT / "docs" / "pictures"
PICTURES = {
    "run": (
        "run flights_daily --date 2013-01-15",
        "backfill flights_daily --from 2013-01-12 --to 2013-01-18",
    ),
    "show": ("show flights_daily --rows 5",),
}
COLUMNS, ROWS = 112, 60

_PIECE = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|(\r\n|\n|\r)|([^\x1b\r\n]+)")
_COLOURS = {"31": "#ff7b72", "32": "#56d364", "33": "#e3b341", "34": "#79c0ff", "36": "#56d4dd", "2": "#8b949e"}
_PLAIN, _PAPER, _FRAME = "#e6edf3", "#0d1117", "#30363d"
_CELL, _LINE, _SIZE, _MARGIN = 7.83, 19, 13, 18

Run = tuple[str, str]
"""A stretch of text and its SGR codes (``1;31``)."""


def record(arguments: str) -> list[list[Run]]:
    """Run ``aiflow`` on a pseudo-terminal and return the lines that stand on it in the end."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(PROJECT)
        os.environ.pop("NO_COLOR", None)
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-m", "aiflow_sdk.cli", *arguments.split()])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not chunk:
            break
        written += chunk
    if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
        sys.exit(written.decode(errors="replace"))
    return read_screen(written.decode().replace(str(PROJECT), "~/flights"))


def read_screen(text: str) -> list[list[Run]]:
    """Return the lines that a terminal would show: colours kept, the cursor's ways back followed."""
    lines: list[list[Run]] = [[]]
    row, style = 0, ""
    for code, letter, turn, plain in _PIECE.findall(text):
        if plain:
            lines[row].append((plain, style))
        elif "\n" in turn:
            row += 1
            if row == len(lines):
                lines.append([])
        elif letter == "m":
            style = "" if code in ("", "0") else code
        elif letter == "F":
            row = max(0, row - int(code or 1))
        elif letter == "J":
            lines[row:] = [[]]
    while lines and not lines[-1]:
        lines.pop()
    return [part for line in lines for part in wrap(line)]


def wrap(line: list[Run]) -> Iterator[list[Run]]:
    """Yield the line cut at the last column, as a terminal does."""
    part: list[Run] = []
    room = COLUMNS
    for text, style in line:
        while len(text) > room:
            yield [*part, (text[:room], style)]
            part, text, room = [], text[room:], COLUMNS
        part.append((text, style))
        room -= len(text)
    yield part


def draw(lines: list[list[Run]]) -> str:
    """Return the lines as an SVG picture of a terminal."""
    width = _MARGIN * 2 + COLUMNS * _CELL
    height = _MARGIN * 2 + len(lines) * _LINE
    size = f'viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}"'
    label = "What a terminal shows of the flights example"
    fonts = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
    frame = f'rx="8" fill="{_PAPER}" stroke="{_FRAME}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">',
        f'<rect x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1}" {frame}/>',
        f'<g font-family="{fonts}" font-size="{_SIZE}" xml:space="preserve">',
    ]
    for number, line in enumerate(lines):
        column = 0
        for text, style in line:
            codes = style.split(";")
            colour = next((_COLOURS[code] for code in codes if code in _COLOURS), _PLAIN)
            weight = ' font-weight="600"' if "1" in codes else ""
            # Word by word, each at its column: no font of a reader's machine can shift what stands below each other.
            for word in re.finditer(r"\S+(?: \S+)*", text):
                x = _MARGIN + (column + word.start()) * _CELL
                y = _MARGIN + number * _LINE + _SIZE
                place = f'x="{x:.1f}" y="{y}" textLength="{len(word[0]) * _CELL:.1f}"'
                parts.append(f'<text {place} fill="{colour}"{weight}>{escape(word[0])}</text>')
            column += len(text)
    return "\n".join([*parts, "</g>", "</svg>", ""])


def main() -> None:
    """Run the commands and write the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, commands in PICTURES.items():
        lines: list[list[Run]] = []
        for command in commands:
            lines += [[("$ ", "32"), (f"aiflow {command}", "1")], *record(command), []]
        (FOLDER / f"{name}.svg").write_text(draw(lines[:-1]), "utf-8")


if __name__ == "__main__":
    main()
