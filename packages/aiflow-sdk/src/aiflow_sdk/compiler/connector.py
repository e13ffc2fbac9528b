"""What the compiler asks connectors before there is a run: names, columns, partitions; by their own methods alone."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from aiflow_sdk.compiler.subject import Subject
from aiflow_sdk.config import Environment
from aiflow_sdk.errors import AiflowError, PluginError, ProblemsError, Where
from aiflow_sdk.ir import DatasetName, NodeIR, thaw
from aiflow_sdk.plugins import DatasetPart, Family, Plugin, Sink, Source


def dataset_of(subject: Subject, node: NodeIR) -> DatasetPart | None:
    """Return how lineage calls a connector's dataset, and which part of it the run's time decides; None where another
    template or a secret decides the name, so that the run tells. Raises ``PluginError`` for a stranger's plugin that
    fails."""
    # Which partitions are read has no part in the name, and follows the run as a rule.
    loaded = _loaded(subject, node, whole=False)
    if loaded is None:
        family: Family[Any] = subject.registry.sources if node.type == "source" else subject.registry.sinks
        plugin: type[Source | Sink] = family.get(node.kind or "", where=subject.where(node))
        with asked(subject, node, plugin, "dated"):
            return plugin.dated(node.options)
    with asked(subject, node, type(loaded), "dataset"):
        return DatasetPart(DatasetName(*loaded.dataset()))


def partition_values(subject: Subject, source: NodeIR) -> Mapping[str, Any]:
    """Return column → raw value of the partitions that a source asks for; empty where it has none."""
    key = (source.id, "partition_values")
    if key not in subject.answers:
        plugin = subject.source_class(source)
        if plugin is None:
            return {}
        with asked(subject, source, plugin, "partition_values"):
            subject.answers[key] = plugin.partition_values(source.options)
    return subject.answers[key]  # type: ignore[no-any-return]  # what the method gave


def partition_columns(subject: Subject, sink: NodeIR) -> tuple[str, ...]:
    """Return the columns that a sink partitions by."""
    return tuple(_ask(subject, sink, "partition_columns", lambda columns: tuple(map(str, columns or ()))))


def stated_time(subject: Subject, sink: NodeIR) -> str | None:
    """Return the partition column that the author says holds the run's partition."""
    column: str | None = _ask(subject, sink, "time_column", lambda column: column)
    return column


def replaces_run(subject: Subject, sink: NodeIR) -> bool:
    """Whether a write replaces what is of the run's partition, and so must know the column that holds it."""
    return bool(_ask(subject, sink, "replaces", lambda replaced: replaced == "run"))


def arrow_schema(subject: Subject, source: NodeIR) -> Any:
    """Return the columns of a source where they are known, else None."""
    loaded = _loaded(subject, source, whole=False)
    if not isinstance(loaded, Source):
        return None
    with asked(subject, source, type(loaded), "arrow_schema"):
        try:
            return loaded.arrow_schema()
        except AiflowError:
            return None  # not there yet: the run will tell


def check_place(subject: Subject, sink: NodeIR) -> None:
    """Raise ``ConfigurationError`` where a sink would write outside the environment, as far as is known yet."""
    loaded = _loaded(subject, sink)
    if isinstance(loaded, Sink):
        with asked(subject, sink, type(loaded), "check_place"):
            loaded.check_place()


def _loaded(subject: Subject, node: NodeIR, *, whole: bool = True) -> Source | Sink | None:
    """Return the node's connector with its raw options, None where only a run can tell them.

    If not ``whole``, without the partitions that it asks for. It is frozen, and asked many things in one compilation,
    so it is made once.
    """
    whole = whole or "partitions" not in node.options
    key = (node.id, whole)
    if key not in subject.loaded:
        family: Family[Any] = subject.registry.sources if node.type == "source" else subject.registry.sinks
        where = subject.where(node)
        options = node.options if whole else node.options.without("partitions")
        subject.loaded[key] = family.get(node.kind or "", where=where).try_load(
            options, subject.environment, where=where
        )
    return subject.loaded[key]


def check_options(subject: Subject, node: NodeIR, plugin: type[Plugin]) -> list[AiflowError]:
    """Return what is wrong with a connector's options; where nothing is, the connector is there to be asked."""
    try:
        with asked(subject, node, plugin, "problems"):
            _loaded(subject, node)
    except ProblemsError as error:
        return list(error.problems)
    except AiflowError as error:
        return [error]
    return []


def _ask(subject: Subject, sink: NodeIR, method: str, read: Callable[[Any], Any]) -> Any:
    """Return what is read in a sink's answer. It is frozen, so it is asked once in a compilation."""
    key = (sink.id, method)
    if key not in subject.answers:
        loaded = _sink(subject, sink)
        with asked(subject, sink, type(loaded), method):
            subject.answers[key] = read(getattr(loaded, method)())
    return subject.answers[key]


def _sink(subject: Subject, node: NodeIR) -> Sink:
    """Return the sink; while templates stand in its options, one that holds them raw, to be asked of columns alone."""
    loaded = _loaded(subject, node)
    if isinstance(loaded, Sink):
        return loaded
    if node.id not in subject.raw:
        plugin: type[Sink] = subject.registry.sinks.get(node.kind or "", where=subject.where(node))
        subject.raw[node.id] = raw_sink(plugin, node.options)
    return subject.raw[node.id]


def sink_to_ask(plugin: type[Sink], options: Mapping[str, Any], environment: Environment) -> Sink:
    """Return the sink of a node; while templates stand in its options, one that holds them raw."""
    return plugin.try_load(options, environment) or raw_sink(plugin, options)


def raw_sink(plugin: type[Sink], options: Mapping[str, Any]) -> Sink:
    """Return a sink that holds its options as they are, to be asked of columns alone."""
    return plugin.model_construct(**thaw(options))


class asked:  # noqa: N801 said like the function that contextmanager would make, at a third of the price
    """Turn whatever a stranger's method raises into a ``PluginError`` with its file and line."""

    __slots__ = ("_method", "_node", "_plugin", "_subject")

    def __init__(self, subject: Subject, node: NodeIR, plugin: type[Plugin], method: str) -> None:
        self._subject = subject
        self._node = node
        self._plugin = plugin
        self._method = method

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # A stranger's code: it may raise anything.
        if isinstance(error, Exception) and not isinstance(error, AiflowError):
            node, plugin, place = self._node, self._plugin, self._subject.where(self._node)
            raise PluginError(
                "broken-plugin",
                f"{self._method}() of the {node.type} '{plugin.kind}' failed: {type(error).__name__}: {error}",
                where=_where_in(self._subject, plugin, error) or place,
                hint="mend it: the compiler asks it before there is a run",
                notes=[f"asked of {place}"],
            ) from error


def _where_in(subject: Subject, plugin: type[Plugin], error: Exception) -> Where | None:
    try:
        files = {inspect.getsourcefile(kind) for kind in plugin.__mro__ if not kind.__module__.startswith("pydantic")}
    except TypeError:
        files = set()
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)][1:]
    if not frames:
        return None
    path, line = next((found for found in reversed(frames) if found[0] in files), frames[-1])
    root = f"{subject.project.root}/"
    return Where(path.removeprefix(root), line)
