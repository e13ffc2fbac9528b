"""How an error looks: its code, its place, the line itself, what to write instead, and where to read more."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiflow_sdk.cli.console import Console, printable, text_width
from aiflow_sdk.errors import plural

_QUOTED = re.compile(r"'([^'\n]+)'")
_SHOWN_ERRORS = 3
_WORD = re.compile(r"[\w.-]+")

USAGE_CODES = frozenset(
    {
        "ambiguous-hour",
        "ambiguous-release",
        "ambiguous-run",
        "bad-date",
        "bad-param",
        "bad-selection",
        "bad-usage",
        "folder-not-empty",
        "half-a-range",
        "never-deployed",
        "no-pipeline-named",
        "no-project",
        "no-ranges",
        "no-such-period",
        "no-time-partition",
        "not-in-airflow",
        "reversed-range",
        "secret-in-param",
        "unknown-environment",
        "unknown-node",
        "unknown-param",
        "unknown-pipeline",
        "unknown-plugin",
        "unknown-release",
        "unknown-run",
        "unknown-task",
    }
)
"""Codes that blame the command line, where no file is named beside them."""


def exit_code(errors: Iterable[Mapping[str, Any]]) -> int:
    """Return 2 where every error blames what was typed, else 1."""
    flat = list(flatten_errors(errors))
    typed = flat and all(e["code"] in USAGE_CODES and not (e.get("where") or {}).get("line") for e in flat)
    return 2 if typed else 1


def flatten_errors(errors: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Yield each error once; one that holds several problems yields those."""
    seen: list[Mapping[str, Any]] = []
    for error in errors:
        for one in flatten_errors(error["problems"]) if error.get("problems") else (error,):
            if one not in seen:
                seen.append(one)
                yield one


def format_error(console: Console, error: Mapping[str, Any], root: Path | None = None) -> list[str]:
    """Return the lines that show one error (as ``AiflowError.to_dict`` gives it). ``root`` is where its path begins."""
    where: Mapping[str, Any] = error.get("where") or {}
    notes: Sequence[str] = [printable(line) for note in error.get("notes") or () for line in note.splitlines()]
    hint = error.get("hint")
    lines: list[str] = []
    if notes and (error.get("type") == "UserCodeError" or notes[0].startswith("Traceback ")):
        # What the user wrote stands first: that is where the fault is.
        lines += [*_format_traceback(console, notes), ""]
        notes = []
    title = console.style(f"error[{error['code']}]", "red", "bold")
    lines.append(title + console.style(f": {printable(error['message'])}", "bold"))
    margin = " " * max(3, len(str(where.get("line") or "")) + 1)
    shown, used_hint = _format_source(console, where, error, root)
    place = where.get("path") or ""
    if place and where.get("line"):
        place += f":{where['line']}"
    if about := where.get("about"):
        place = f"{place}  ({about})" if place else about
    if place:
        lines.append(f"  {console.style('-->', 'blue')} {printable(place)}")
    if shown:
        bar = margin + console.style("|", "blue")
        lines += [bar, *shown, bar]
    equals = margin + console.style("=", "blue")
    lines += [f"{equals} {note}" for note in notes]
    if hint and not used_hint:
        lines.append(f"{equals} {console.style('hint:', 'bold')} {printable(hint)}")
    if page := _errors_page():
        lines.append(f"{equals} docs: {page}#{error['code']}")
    return lines


def print_errors(console: Console, errors: Iterable[Mapping[str, Any]], root: Path | None = None) -> None:
    """Print every error, an empty line between them."""
    for number, error in enumerate(flatten_errors(errors)):
        if number:
            console.print()
        for line in format_error(console, error, root):
            console.print(line)


def print_first_errors(console: Console, errors: Sequence[Mapping[str, Any]], root: Path | None = None) -> None:
    """Print what went wrong in many runs: the first errors to standard error, and how many more there are."""
    console.print()
    print_errors(Console(sys.stderr), errors[:_SHOWN_ERRORS], root)
    if len(errors) > _SHOWN_ERRORS:
        console.print(f"and {plural(len(errors) - _SHOWN_ERRORS, 'more error')}")


def summarise_check(errors: int, wrong: int, checked: int, *, done: str = "nothing was run") -> str:
    """Return ``2 errors in 1 of 14 pipelines; nothing was run``."""
    return f"{plural(errors, 'error')} in {wrong} of {plural(checked, 'pipeline')}; {done}"


def _errors_page() -> str | None:
    """Return where the page of errors lies, seen from here; None where aiflow was not installed from a checkout."""
    page = Path(__file__).parents[5] / "docs" / "errors.md"
    return min(str(page), os.path.relpath(page), key=len) if page.is_file() else None


def _format_source(
    console: Console, where: Mapping[str, Any], error: Mapping[str, Any], root: Path | None
) -> tuple[list[str], bool]:
    """Return the lines that show the place, and whether the hint stands among them."""
    path, number = where.get("path"), where.get("line")
    if not path or not number:
        return [], False
    try:
        text = ((root or Path()) / path).read_text("utf-8-sig", errors="replace").splitlines()[number - 1]
    except (OSError, IndexError):
        return [], False  # the file has gone or changed since: the place alone must do
    text = printable(text)
    bar = console.style("|", "blue")
    width = max(2, len(str(number)))
    shown = [f"{console.style(f'{number:>{width}}', 'blue')} {bar} {text}"]
    column, length = _span(text, where.get("column"), error["message"])
    if column is None:
        return shown, False
    hint = error.get("hint") or ""
    named = _QUOTED.findall(error["message"])
    is_meant = bool(where.get("column")) or not named or text.startswith(named[-1], column - 1)
    beside = hint if hint.startswith("did you mean") and is_meant else ""
    carets = console.style(" ".join(filter(None, ("^" * length, printable(beside)))), "red")
    shown.append(f"{' ' * width} {bar} {' ' * text_width(text[: column - 1])}{carets}")
    return shown, bool(beside)


def _span(text: str, column: int | None, message: str) -> tuple[int | None, int]:
    """Return column (from 1) and length of what is wrong: as it is known, else the name that the message quotes."""
    if column is not None and 0 < column <= len(text):
        word = _WORD.match(text, column - 1)
        return column, len(word.group()) if word else 1
    quoted = [
        name for name in _QUOTED.findall(message) if len(re.findall(rf"(?<!\w){re.escape(name)}(?!\w)", text)) == 1
    ]
    if not quoted:
        return None, 0
    # The last one said is the one that is wrong: source 'a' has no column 'b'.
    return text.index(quoted[-1]) + 1, len(quoted[-1])


def _format_traceback(console: Console, lines: Sequence[str]) -> list[str]:
    *frames, last = lines
    return [
        *(console.style(line, "dim") if line.startswith("    ") else line for line in frames),
        console.style(last, "bold"),
    ]
