"""From raw options to those of one run: templates, windows and secret references resolved."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from aiflow_sdk.config import Environment, resolve_secrets
from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.ir import DatasetName, FrozenMap, thaw
from aiflow_sdk.partitions import Partition, Window, is_window
from aiflow_sdk.plan import NodeFacts, PlanNode, Run
from aiflow_sdk.redaction import REDACTOR
from aiflow_sdk.variables import TIME_NAMES, has_template, names_in, render, render_but_time

if TYPE_CHECKING:
    from aiflow_sdk.plugins import Sink, Source


@dataclass(frozen=True)
class WantedPartitions:
    """Which partitions of one column the run asks a source for."""

    column: str
    keys: tuple[str, ...]
    """ISO text, in order."""
    required: int
    """How many of them must be there, unless the source says otherwise."""
    follow_run: bool = True
    """Whether another run asks for others."""


class TouchedDataset(NamedTuple):
    """A dataset that a run touches; where the run's time decides a part of it, which one, and how that is called."""

    name: DatasetName
    partition: str | None = None
    location: str | None = None


def render_options(node: PlanNode, run: Run, environment: Environment) -> tuple[dict[str, Any], list[WantedPartitions]]:
    """Return a connector's options for the run, and what its windows and templates ask for."""
    options = dict(node.options)
    partitions = options.pop("partitions", None)
    # Secrets first: a value that the run brings may not name one.
    rendered: dict[str, Any] = render(resolve_secrets(thaw(FrozenMap(options)), environment), run.facts())
    wanted: list[WantedPartitions] = []
    if isinstance(partitions, Mapping):
        rendered["partitions"] = values = {}
        for column, raw in partitions.items():
            keys, required = partition_keys(raw, run)
            if keys is None:
                value = render(thaw(raw), run.facts())
                if not (isinstance(value, dict) and value.get("$window") == "all"):
                    values[column] = value
                if texts := _literal_keys(value):
                    wanted.append(WantedPartitions(column, texts, 1, follow_run=False))
                continue
            values[column] = list(keys) if len(keys) != 1 else keys[0]
            wanted.append(WantedPartitions(column, keys, required))
    elif partitions is not None:
        rendered["partitions"] = partitions
    return rendered, wanted


def touched_dataset(node: PlanNode, connector: Source | Sink, run: Run) -> TouchedDataset:
    """Return how lineage calls the dataset of a connector with the run's options."""
    if names_in(node.options) & TIME_NAMES:
        facts = run.facts()
        with suppress(DefinitionError):  # a param's value looks like a template: then the run's name is one of its own
            options = node.options if node.dataset else render_but_time(thaw(node.options), facts)
            if found := connector.dated(options):
                return TouchedDataset(found.name, str(render(found.part, facts)), str(render(found.location, facts)))
    return TouchedDataset(connector.dataset())


def partition_keys(raw: Any, run: Run) -> tuple[tuple[str, ...] | None, int]:
    """Return the keys that a partition's raw value asks for in this run, and how many of them must be there by default.

    The keys are None where the value does not follow the run: a literal, ``latest`` and ``all``.
    """
    partitions = run.partitions
    if is_window(raw):
        window = Window.from_json(raw)
        if window.kind in ("latest", "all") or not partitions:
            return None, 0
        found: dict[str, Partition] = {}
        for partition in partitions:
            for one in window.partitions(partition, raw.get("grain") or partition.grain, run.timezone) or ():
                found[one.key] = one
        keys = tuple(one.key for one in sorted(found.values()))
        return keys, 1 if window.kind == "last" else len(keys)
    if isinstance(raw, str) and has_template(raw):
        if raw == ("{{ data_interval_start }}" if run.partition_grain == "hour" else "{{ ds }}"):
            return tuple(partition.key for partition in partitions), len(partitions)
        return (str(render(raw, run.facts())),), 1
    return None, 0


def _literal_keys(value: Any) -> tuple[str, ...]:
    """Return values that the pipeline names itself as text; none where one of them is null, which no key is."""
    values = value if isinstance(value, list) else [value]
    if any(one is None or isinstance(one, dict) for one in values):
        return ()
    return tuple(dict.fromkeys(str(one).lower() if isinstance(one, bool) else str(one) for one in values))


def fill_values(node: PlanNode, run: Run) -> dict[str, str]:
    """Return the one value of each partition column that a sink's frame may lack; nothing for a range of partitions."""
    if len(run.partitions) > 1:
        return {}
    values: dict[str, str] = {}
    for column, raw in node.fill.items():
        keys, _ = partition_keys(raw, run)
        values[column] = keys[0] if keys else str(raw)
    return values


def shown_facts(facts: NodeFacts) -> NodeFacts:
    """Return the facts with the values of secrets hidden, of which a name or an address might hold one."""
    if not REDACTOR:
        return facts
    return NodeFacts.model_validate(
        {
            name: value if name in ("node_id", "identity") else REDACTOR.hide_in(value)
            for name, value in facts.to_dict().items()
        }
    )
