"""Lines that move on a terminal while work goes on, and plain lines, each once, elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiflow_sdk.cli.console import Console, cut, format_seconds, printable
from aiflow_sdk.cli.progress import RunProgress

_REDRAW_SECONDS = 0.1
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class LiveBlock:
    """The last lines of a terminal, drawn again and again; text above them scrolls as ever.

    Without a terminal nothing moves: only what is printed above appears.
    """

    def __init__(self, console: Console, draw: Callable[[], list[str]]) -> None:
        self.console = console
        self.lock = threading.RLock()
        self._draw = draw
        self._drawn = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="redraw", daemon=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.console.write("\x1b[?25l")
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._stop.set()
            self._thread.join()
            with self.lock:
                self.console.write(self._erased() + "\x1b[?25h")

    def print(self, *lines: str) -> None:
        """Write lines above the block."""
        if not self.console.is_terminal:
            for line in lines:
                self.console.print(line)
            return
        with self.lock:
            self.console.write(self._erased() + "".join(f"{line}\n" for line in lines))
            self._redraw()

    def _tick(self) -> None:
        while not self._stop.wait(_REDRAW_SECONDS):
            with self.lock:
                self._redraw()

    def _redraw(self) -> None:
        lines = self._draw()
        room = max(1, self.console.height - 1)
        if len(lines) > room:
            # The newest matter most, and a block higher than the screen could not be drawn over.
            lines = lines[-room:]
        width = self.console.width
        text = self._erased() + "".join(f"{cut(line, width - 1)}\n" for line in lines)
        self._drawn = len(lines)
        self.console.write(text)

    def _erased(self) -> str:
        """Return what takes the cursor to the block's first line and clears all below."""
        drawn, self._drawn = self._drawn, 0
        return f"\x1b[{drawn}F\x1b[J" if drawn else ""


class RunScreen:
    """The view of one run: a line a node, and above them what user code prints."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = RunProgress()
        self.log_lines = 0
        self._block = LiveBlock(console, self._draw)
        self._shown: set[str] = set()

    def __enter__(self) -> Self:
        self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block.__exit__(kind, error, trace)
        if self.console.is_terminal and self.progress.nodes:
            for line in self._lines():
                self.console.print(cut(line, max(self.console.width, 40)))

    def take(self, record: Mapping[str, Any]) -> None:
        """Show one record of the run."""
        with self._block.lock:
            if record["record"] == "log":
                self._log(record)
                return
            self.progress.take(record)
        if not self.console.is_terminal:
            self._print_plain(record)

    def _log(self, record: Mapping[str, Any]) -> None:
        if record["stream"] == "stderr" and record["level"] == "error":
            return  # the error itself, which is shown whole at the end
        self.log_lines += 1
        colour = {"warning": ("yellow",), "error": ("red",), "critical": ("red",)}.get(record["level"], ())
        source = record.get("node_id") or record.get("task_id") or record.get("pipeline_id") or "-"
        message = self.console.style(printable(record["message"]), *colour)
        self._block.print(f"  {self.console.style(f'{source} │', 'dim')} {message}")

    def _print_plain(self, record: Mapping[str, Any]) -> None:
        match record["record"]:
            case "run-started":
                self.console.print(self.progress.header(self.console))
            case "task-finished" | "task-failed":
                self._print_nodes(self.progress.tasks[record["task_id"]]["node_ids"])
            case "task-retried":
                error = record["error"]
                again = f"attempt {record['attempt'] + 1} in {format_seconds(record['delay_seconds'])}"
                self.console.print(f"  task '{record['task_id']}' failed: {printable(error['message'])}; {again}")
            case "task-repeated":
                self.console.print(f"  task '{record['task_id']}' starts again: {record['reason']}")
            case "run-finished":
                self._print_nodes(self.progress.nodes)

    def _print_nodes(self, node_ids: Any) -> None:
        for node_id in node_ids:
            if node_id not in self._shown:
                self._shown.add(node_id)
                for line in self.progress.lines(self.console, node_id, time.time()):
                    self.console.print(line)

    def _lines(self) -> list[str]:
        now = time.time()
        nodes = [self.progress.lines(self.console, node_id, now) for node_id in self.progress.nodes]
        return [self.progress.header(self.console), *(line for lines in nodes for line in lines)]

    def _draw(self) -> list[str]:
        if not self.progress.nodes:
            return [spinner(self.console, "looking at the project")]
        began = self.progress.started["time"]
        return [*self._lines(), spinner(self.console, format_seconds(max(0.0, time.time() - began)))]


def spinner(console: Console, text: str) -> str:
    """Return a line that shows that something goes on."""
    return console.style(f"{_SPINNER[int(time.time() * 10) % len(_SPINNER)]} {text}", "dim")
