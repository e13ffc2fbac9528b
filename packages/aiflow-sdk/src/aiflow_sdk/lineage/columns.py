"""Where each column that a run wrote comes from, from source to sink through all of its tasks.

It is known of a source that is copied and of a query that can be read (:mod:`aiflow_sdk.lineage.query`). What a
function makes is not known: nothing is claimed of it but that something of its inputs may have gone in. Nodes are
followed by what their tasks have told (:class:`~aiflow_sdk.plan.NodeFacts`), so that a frame which is staged between
two tasks is one step of many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiflow_sdk import events
from aiflow_sdk.errors import plural
from aiflow_sdk.lineage.origins import DIRECT, UNKNOWN, How, Origin, after
from aiflow_sdk.lineage.query import read_query
from aiflow_sdk.plan import NodeFacts, Plan, PlanNode

_MOST_DEPENDENCIES = 20_000
"""Of one table; a service takes events of some megabytes."""

Place = tuple[str, str, str]
"""Namespace and name of a dataset, and a column of it."""
Uses = dict[Place, set[How]]
Facets = dict[str, dict[str, Any]]


@dataclass
class _Trace:
    """What is known of the way of one column, or of what decides about rows."""

    known: Uses = field(default_factory=dict)
    guessed: Uses = field(default_factory=dict)
    """What only looks as if it were so: a function got and gave a column of this name and type."""
    through: set[str] = field(default_factory=set)
    """The nodes inside which nobody can follow it."""

    def add(self, other: _Trace, how: How) -> None:
        """Take over what is known of a column that is used here as ``how`` says."""
        for mine, theirs in ((self.known, other.known), (self.guessed, other.guessed)):
            for place, ways in theirs.items():
                mine.setdefault(place, set()).update(after(how, way) for way in ways)
        self.through |= other.through


def column_facets(plan: Plan, facts: Mapping[str, NodeFacts]) -> dict[str, Facets]:
    """Return sink → its facets ``columnLineage`` and ``aiflow_columns``, as far as there is anything to tell.

    ``facts`` are those of all nodes that are known, by id. Nothing is raised.
    """
    sinks = [node for node in plan.node_list if node.type == "sink"]
    try:
        tracer = _Tracer(plan, facts)
        return {node.id: facets for node in sinks if (facets := tracer.facets_of(node))}
    except Exception as error:  # noqa: BLE001 whatever is wrong with this, the run has done its work
        note = f"its columns cannot be followed: {type(error).__name__}: {str(error)[:200]}"
        notes = {"notes": [{"node_id": node.id, "note": note} for node in sinks]}
        return {node.id: {"aiflow_columns": events.own_facet("columns", notes)} for node in sinks}


class _Tracer:
    def __init__(self, plan: Plan, facts: Mapping[str, NodeFacts]) -> None:
        self._plan, self._facts = plan, facts
        self._columns: dict[str, dict[str, _Trace]] = {}
        self._rows: dict[str, _Trace] = {}
        self._notes: dict[str, str] = {}
        # Each node comes after its inputs, so nothing is asked for before it is there.
        for node in plan.node_list:
            if node.type != "sink":
                self._columns[node.id], self._rows[node.id] = self._follow(node)

    def facets_of(self, sink: PlanNode) -> Facets:
        """Return the facets of what a sink wrote."""
        known = self._facts.get(sink.id)
        if known is None or not known.columns:
            return {}
        (input_id,) = sink.input_ids
        made = self._columns[input_id]
        by_lower = {name.lower(): name for name in made}
        fields: dict[str, _Trace] = {}
        for name, _ in known.columns:
            if (trace := made.get(name) or made.get(by_lower.get(name.lower(), ""))) is not None:
                fields[name] = trace
            elif not made:
                fields[name] = _Trace(through={input_id})
            elif name in sink.fill:
                fields[name] = _Trace()
        rows = self._rows[input_id]
        facets: Facets = {}
        count = len(rows.known) + sum(len(trace.known) for trace in fields.values())
        told = {name: list(_dependencies(trace.known)) for name, trace in fields.items() if trace.known}
        notes = [{"node_id": node, "note": note} for node, note in self._notes.items() if node in self._upstream(sink)]
        if count > _MOST_DEPENDENCIES:
            notes.append({"node_id": sink.id, "note": f"{count:,} dependencies are more than an event holds"})
        elif told or rows.known:
            facets["columnLineage"] = events.column_lineage_facet(told, list(_dependencies(rows.known)))
        if ours := self._own(sink, fields, rows, notes):
            facets["aiflow_columns"] = events.own_facet("columns", ours)
        return facets

    def _own(
        self, sink: PlanNode, fields: Mapping[str, _Trace], rows: _Trace, notes: list[dict[str, str]]
    ) -> dict[str, Any]:
        """Return what the specification has no words for: what is not known, what is guessed, what has no origin."""
        unknown = [{"field": name, "through": sorted(trace.through)} for name, trace in fields.items() if trace.through]
        ours: dict[str, Any] = {
            "constant": [name for name, trace in fields.items() if not (trace.known or trace.through)],
            "unknown": unknown,
            "rows_through": sorted(rows.through),
            "guesses": [
                {
                    "field": name,
                    "confidence": "name-and-type",
                    "inputFields": [_place(place) for place in sorted(trace.guessed)],
                }
                for name, trace in fields.items()
                if trace.guessed
            ],
            "notes": notes,
        }
        if unknown:
            upstream = self._upstream(sink)
            datasets = {self._dataset(node) for node in self._plan.node_list if node.id in upstream}
            ours["from"] = [{"namespace": one[0], "name": one[1]} for one in sorted(filter(None, datasets))]
        return {name: value for name, value in ours.items() if value}

    def _follow(self, node: PlanNode) -> tuple[dict[str, _Trace], _Trace]:
        """Return what is known of each column of a node, and of what decides about its rows."""
        columns = (self._facts.get(node.id) or NodeFacts(node_id=node.id)).columns or ()
        rows = _Trace()
        for input_id in node.input_ids:
            rows.add(self._rows[input_id], "IDENTITY")
        if node.type == "source":
            name = self._dataset(node)
            if name is None:
                self._notes[node.id] = "its dataset has no name"
                return {column: _Trace(through={node.id}) for column, _ in columns}, rows
            return {column: _Trace({(*name, column): {"IDENTITY"}}) for column, _ in columns}, rows
        if node.sql is not None and (read := self._read(node, columns)):
            return self._of_query(node, columns, read, rows)
        rows.through.add(node.id)
        return {column: self._made(node, column, kind) for column, kind in columns}, rows

    def _made(self, node: PlanNode, column: str, kind: str) -> _Trace:
        """Return what can be said of a column that a function made."""
        made = _Trace(through={node.id})
        for input_id in node.input_ids:
            if (column, kind) in ((self._facts.get(input_id) or NodeFacts(node_id=input_id)).columns or ()):
                before = self._columns[input_id][column]
                for uses in (before.known, before.guessed):
                    for place, ways in uses.items():
                        made.guessed.setdefault(place, set()).update(ways)
                made.through |= before.through
        return made

    def _read(self, node: PlanNode, columns: tuple[tuple[str, str], ...]) -> tuple[frozenset[Origin], ...] | None:
        """Return the origins of a query's columns, and behind them those of its rows; None and a note of an unknown."""
        facts = self._facts.get(node.id)
        inputs = [(one, self._facts.get(one)) for one in node.input_ids]
        if facts is None or facts.dialect is None or not columns:
            self._notes[node.id] = "what its task did is not known" if facts is None else "its columns are not known"
            return None
        if unknown := [one for one, known in inputs if known is None or not known.columns]:
            self._notes[node.id] = f"the columns of its inputs are not known: {', '.join(unknown)}"
            return None
        named = tuple((one, tuple(name for name, _ in known.columns or ())) for one, known in inputs if known)
        read = read_query(node.sql or "", facts.dialect, named)
        if read.note:
            self._notes[node.id] = read.note
        if len(read.columns) != len(columns):
            if not read.note or read.columns:
                seen = f"read as {plural(len(read.columns), 'column')}, and gave {len(columns)}"
                self._notes[node.id] = f"{read.note}; {seen}" if read.note else f"the query was {seen}"
            return None
        return (*read.columns, read.rows)

    def _of_query(
        self, node: PlanNode, columns: tuple[tuple[str, str], ...], read: tuple[frozenset[Origin], ...], rows: _Trace
    ) -> tuple[dict[str, _Trace], _Trace]:
        *made, deciding = read
        traces = {}
        for (name, _), origins in zip(columns, made, strict=True):
            traces[name] = self._joined(node, origins, _Trace())
        return traces, self._joined(node, deciding, rows)

    def _joined(self, node: PlanNode, origins: Iterable[Origin], trace: _Trace) -> _Trace:
        for input_id, column, how in origins:
            if input_id == UNKNOWN:
                trace.through.add(node.id)
            else:
                trace.add(self._columns[input_id][column], how)
        return trace

    def _dataset(self, node: PlanNode) -> tuple[str, str] | None:
        if node.type != "source":
            return None
        facts = self._facts.get(node.id)
        return (facts.dataset if facts else None) or node.dataset

    def _upstream(self, node: PlanNode) -> set[str]:
        found: set[str] = set()
        waiting = [*node.input_ids]
        while waiting:
            if (one := waiting.pop()) not in found:
                found.add(one)
                waiting.extend(self._plan.nodes[one].input_ids)
        return found


def _dependencies(uses: Uses) -> Iterator[events.Dependency]:
    for place in sorted(uses):
        ways = sorted(("DIRECT" if way in DIRECT else "INDIRECT", way) for way in uses[place])
        yield (*place, ways)


def _place(place: Place) -> dict[str, str]:
    namespace, name, column = place
    return {"namespace": namespace, "name": name, "field": column}
