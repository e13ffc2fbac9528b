"""Windows: which partitions of an input a run reads, where the input may be of another grain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeAlias, get_args

from aiflow_sdk.errors import DefinitionError, did_you_mean
from aiflow_sdk.partitions.partition import Grain, Partition, partitions_between

WindowKind: TypeAlias = Literal["same", "covering", "last", "offset", "latest", "all"]
_KINDS: tuple[WindowKind, ...] = get_args(WindowKind)
_COARSENESS: dict[Grain, int] = {"hour": 0, "day": 1, "week": 2, "month": 3}
_LONGEST = 100_000


@dataclass(frozen=True)
class Window:
    """Which partitions of an input one run reads; authors make it with :data:`window`."""

    kind: WindowKind
    n: int | None = None
    """Of ``last`` how many (1 or more), of ``offset`` how far (negative: earlier), else None."""
    grain: Grain | None = None
    """Of the input's partitions, where the name of their column does not tell it."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise _bad_window(f"there is no window {self.kind!r}", did_you_mean(str(self.kind), _KINDS))
        counted = self.kind in ("last", "offset")
        whole = isinstance(self.n, int) and not isinstance(self.n, bool) and abs(self.n) <= _LONGEST
        if counted != whole or (self.n is not None and not counted):
            raise _bad_window(f"window.{self.kind} cannot take {self.n!r}", "write a whole number" if counted else None)
        if self.grain is not None and self.grain not in _COARSENESS:
            raise _bad_window(f"there is no grain {self.grain!r}", f"write one of {', '.join(_COARSENESS)}")
        if self.kind == "last" and self.n is not None and self.n < 1:
            raise _bad_window(f"window.last({self.n}) is empty", "write 1 or more; window.offset(-1) is the one before")

    def to_json(self) -> dict[str, Any]:
        """Return the window as it stands in the IR: ``{"$window": "last", "n": 7}``."""
        stated = {"n": self.n, "grain": self.grain}
        return {"$window": self.kind} | {name: value for name, value in stated.items() if value is not None}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Window:
        """Return the window that :meth:`to_json` wrote. Raises ``DefinitionError`` (``bad-window``)."""
        if "$window" not in data or not data.keys() <= {"$window", "n", "grain"}:
            raise _bad_window(f"{dict(data)!r} is no window", 'its form is {"$window": "last", "n": 7}')
        return Window(data["$window"], data.get("n"), data.get("grain"))

    def partitions(
        self, run: Partition, input_grain: Grain, input_timezone: str | None = None
    ) -> list[Partition] | None:
        """Return the input's partitions that a run for ``run`` reads, in order; None for ``latest`` and ``all``.

        Those two need the data. ``input_timezone`` is the run's where it is not given. Grains (or hours of another
        zone) are matched by the moments that they hold:

        - ``same``: of an equal grain the partition of that name; of a coarser one the partition that the run lies in.
        - ``offset(n)``: the partition that many after ``same``.
        - ``covering``: every partition that shares time with the run: the 23, 24 or 25 hours of a day, a day's month.
        - ``last(n)``: ``n`` partitions, the last of which holds the end of the run's period.

        Raises ``DefinitionError`` (``window-across-grains``) where ``same`` or ``offset`` would name several.
        """
        timezone = input_timezone or run.timezone
        match self.kind:
            case "latest" | "all":
                return None
            case "covering":
                return partitions_between(
                    Partition.containing(run.start, input_grain, timezone), _last_within(run, input_grain, timezone)
                )
            case "last":
                assert self.n is not None
                last = (
                    _counterpart(run, timezone)
                    if run.grain == input_grain
                    else _last_within(run, input_grain, timezone)
                )
                return partitions_between(last.offset(1 - self.n), last)
            case "same" | "offset":
                return [self._single(run, input_grain, timezone).offset(self.n or 0)]

    def _single(self, run: Partition, input_grain: Grain, timezone: str) -> Partition:
        if run.grain == input_grain:
            return _counterpart(run, timezone)
        first, last = Partition.containing(run.start, input_grain, timezone), _last_within(run, input_grain, timezone)
        if first != last or _COARSENESS[input_grain] < _COARSENESS[run.grain]:
            raise DefinitionError(
                "window-across-grains",
                f"window.{self.kind} names one {input_grain}, and the run is for the {run.grain} {run}: which one?",
                hint="write window.covering() for all of them, or window.last(n)",
            )
        return first


class Windows:
    """What an author writes for a partition column of a source: ``partitions={"hour": window.covering()}``."""

    def same(self) -> Window:
        """Return the window of the run's own partition, as ``"{{ ds }}"`` is."""
        return Window("same")

    def covering(self, *, grain: Grain | None = None) -> Window:
        """Return the window of all input partitions that share time with the run: a day's 24 hours, a day's month."""
        return Window("covering", grain=grain)

    def last(self, n: int, *, grain: Grain | None = None) -> Window:
        """Return the window of the ``n`` input partitions (1 or more) that end with the run's period."""
        return Window("last", n, grain)

    def offset(self, n: int, *, grain: Grain | None = None) -> Window:
        """Return the window of the input partition ``n`` periods after the run's, or before where negative."""
        return Window("offset", n, grain) if n != 0 or isinstance(n, bool) else Window("same")

    def latest(self) -> Window:
        """Return the window of the newest partition that the input has."""
        return Window("latest")

    def all(self) -> Window:
        """Return the window of all partitions that the input has."""
        return Window("all")

    def __repr__(self) -> str:
        return "window"


window = Windows()


def is_window(value: object) -> bool:
    """Tell whether ``value`` is a window in its JSON form."""
    return isinstance(value, Mapping) and "$window" in value


def _counterpart(run: Partition, timezone: str) -> Partition:
    """Return the input's partition of the run's grain: a date keeps its name in any zone, an hour its moment."""
    if run.timezone == timezone:
        return run
    if run.grain == "hour":
        return Partition.containing(run.start, "hour", timezone)
    return Partition.parse(run.key, run.grain, timezone)


def _last_within(run: Partition, grain: Grain, timezone: str) -> Partition:
    return Partition.containing(run.end - timedelta(microseconds=1), grain, timezone)


def _bad_window(message: str, hint: str | None = None) -> DefinitionError:
    forms = "write window.same(), .covering(), .last(7), .offset(-1), .latest() or .all()"
    return DefinitionError("bad-window", message, hint=hint or forms)
