"""Engines and clusters: what a frame is, and where a process runs. They know nothing of each other."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plan import JobHandle, JobState, PlanTask, Run, Token
from aiflow_sdk.plugins.connector import Pending, Scan, Sink, Source, Write, Written
from aiflow_sdk.plugins.options import Plugin

_UNIT = re.compile(r"[a-z][a-z0-9_]{0,59}")
_MOST_BILLED = 1e15

Frame: TypeAlias = Any
"""Whatever an engine calls a frame."""


@dataclass(frozen=True)
class UserFunction:
    """A user's function and what it may ask for by name, frames excepted."""

    function: Callable[..., Any]
    entrypoint: str
    node_id: str
    params: Mapping[str, Any]
    context: Any
    """The :class:`aiflow_sdk.runtime.Context` of the call."""
    external: bool = False


@dataclass(frozen=True)
class FrameWrite:
    """A frame and the sink that it goes to."""

    frame: Frame
    sink: Sink
    request: Write
    audit: Callable[[Pending], None] | None = None
    """Looks at the write before anybody sees it; raises what is wrong with it, and then nothing is written."""


@dataclass(frozen=True)
class Job:
    """What a cluster is to run: a command, its files and its resources."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None
    """Where it runs; None: wherever the cluster likes."""
    resources: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class BilledUnits:
    """How much of one of its own units a cluster bills for a job."""

    unit: str
    """As prices name it: ``vcpu_hour``, ``memory_gb_hour``, ``dbu``; small letters, digits and underscores."""
    amount: float
    is_estimated: bool = False
    """Whether the cluster has not settled it yet, or does not tell it at all."""

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for what is no unit or no amount."""
        if not _UNIT.fullmatch(self.unit):
            raise ValueError(f"{self.unit!r} is no unit: write it as in vcpu_hour")
        if not 0 <= self.amount < _MOST_BILLED:
            raise ValueError(f"{self.amount!r} {self.unit} is no amount that could be billed")

    def to_dict(self, cluster: str) -> dict[str, Any]:
        """Return it as the facet ``aiflow_usage`` lists it below ``billed``; ``cluster`` is the cluster's kind."""
        told = {"cluster": cluster, "unit": self.unit, "amount": self.amount}
        return {**told, "estimated": True} if self.is_estimated else told


@dataclass(frozen=True)
class ServerProcess:
    """What computes for a session in the place of the process that opened it."""

    pid: int | None
    """Its process, where that is one of this machine."""


class Session(ABC):
    """An engine at work on one task. Sessions of several tasks may be open at once, in several threads."""

    @abstractmethod
    def read(self, source: Source, scan: Scan) -> Frame:
        """Return the source's rows as a frame; nothing need be read yet."""

    @abstractmethod
    def call(self, function: UserFunction, inputs: Mapping[str, Frame]) -> Frame | None:
        """Return what the user's function makes of the inputs (node id → frame). None only from an external one."""

    @abstractmethod
    def sql(self, query: str, inputs: Mapping[str, Frame]) -> Frame:
        """Return the query's result; ``{name}`` in it stands for an input (name → frame)."""

    @abstractmethod
    def write(self, writes: Sequence[FrameWrite]) -> Sequence[Written]:
        """Write all frames, computing what they share once, and return what was written in the same order."""

    def start(self, writes: Sequence[FrameWrite]) -> JobHandle:
        """Start the continuous task that feeds these sinks and return its handle at once."""
        raise NotImplementedError(f"{type(self).__name__} runs no continuous tasks")

    @property
    def server(self) -> ServerProcess | None:
        """The server that computes for the session, where that is not this process."""
        return None

    def rows(self, frame: Frame) -> int | None:
        """Return how many rows the frame has where that costs nothing, else None."""
        return None

    def columns(self, frame: Frame) -> tuple[tuple[str, str], ...] | None:
        """Return name and Arrow type name of each column where that costs nothing, else None."""
        return None


class Engine(Plugin, ABC):
    """What a frame is, and how it is read, handed to user code and written. Its options come from ``resources``."""

    sql_dialect: ClassVar[str | None] = None
    """The dialect's name in sqlglot; None: no SQL nodes."""
    continuous: ClassVar[bool] = False
    """Whether its sessions ``start`` tasks that do not end. Of others the compiler refuses unbounded sources."""
    extras: ClassVar[tuple[str, ...]] = ()
    """What functions may ask for by name, beside ``inputs``, ``params`` and ``context``: ``spark``."""
    package: ClassVar[str | None] = None
    """The installed package whose version events name as the engine's."""

    @abstractmethod
    def open(self, task: PlanTask, run: Run) -> AbstractContextManager[Session]:
        """Return a session for one attempt of a task; leaving it frees what it holds."""


class Cluster(Plugin, ABC):
    """Where a process runs: how it is started, watched, cancelled and found again."""

    @abstractmethod
    def submit(self, job: Job, token: Token) -> JobHandle:
        """Start the job and return its handle. The same token never starts a second one: the handle comes again."""

    @abstractmethod
    def find(self, token: Token) -> JobHandle | None:
        """Return the job that was submitted under the token, or None."""

    @abstractmethod
    def poll(self, handles: Sequence[JobHandle]) -> Mapping[JobHandle, JobState]:
        """Return the state of each job, in one call where the cluster allows it."""

    @abstractmethod
    def cancel(self, handle: JobHandle) -> None:
        """Stop the job; of one that has ended nothing happens."""

    @abstractmethod
    def logs(self, handle: JobHandle, offset: int = 0) -> Iterator[bytes]:
        """Yield what the job printed from byte ``offset`` on, up to now."""

    def billed(self, handle: JobHandle) -> Sequence[BilledUnits]:
        """Return what the cluster bills for a job that has ended, by unit; nothing where it bills nothing for jobs.

        What is asked too early is told as an estimate. May be asked again: the answer stands for the whole job.
        """
        return ()


@dataclass(frozen=True)
class Heard:
    """What a listener has made of several events."""

    taken: int
    """How many of them, from the first one on, need not be told again."""
    refused: Mapping[int, str] = field(default_factory=dict)
    """Index of each one among those that the listener will never have → why."""
    why: AiflowError | None = None
    """Why the rest was not taken."""
    is_reachable: bool = True
    """Whether events of other runs may be told meanwhile; False: it takes none at all just now."""
    pause_seconds: float | None = None
    """How long it asks to be left alone."""


@dataclass(frozen=True)
class Receiver:
    """Who hears what a listener is told, where that can be told: it may be another one the next time."""

    id: str
    """Without spaces, at most 64 characters."""
    events: int
    """How many it has been told by all; one that knows fewer than before has lost some."""


class Listener(Plugin, ABC):
    """Hears of every event after it lies in the spool."""

    batch_size: ClassVar[int] = 1
    """How many events ``on_events`` takes at once at most."""

    @abstractmethod
    def on_event(self, event: Mapping[str, Any]) -> None:
        """Take one OpenLineage event. What is raised is told and stops no run; the spool keeps the event.

        After an ``AiflowError`` that is ``retryable``, and after an ``OSError`` (but ``urllib``'s ``HTTPError`` below
        500), the event is told again later and none before it; after anything else it is passed over, and kept beside
        the spool.
        """

    def on_events(self, events: Sequence[Mapping[str, Any]]) -> Heard:
        """Take several events of one run, in their order, for who can do that at once. Raises like ``on_event``."""
        for event in events:
            self.on_event(event)
        return Heard(len(events))

    def receiver(self) -> Receiver | None:
        """Say who hears; None where nobody can say. Raises like ``on_event``.

        What another one has taken is told again from the first event on, so that only who counts each once may say.
        """
        return None

    def close(self) -> None:
        """Send what is still held back. Called once, when the run has ended."""
