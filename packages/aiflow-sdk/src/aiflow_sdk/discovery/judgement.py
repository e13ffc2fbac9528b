"""What to make of the answers: which pipelines come through, and what is wrong with the others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiflow_sdk.code import CodeIndex
from aiflow_sdk.discovery.finding import Module
from aiflow_sdk.discovery.guard import Finding
from aiflow_sdk.discovery.importing import Imported
from aiflow_sdk.discovery.record import ModuleRecord, PipelineRecord
from aiflow_sdk.errors import AiflowError, DefinitionError, Where

_MISSING = object()
_PRINTED_CHARACTERS = 200


@dataclass
class Judgement:
    """What one round of imports came to."""

    records: dict[str, ModuleRecord] = field(default_factory=dict)
    """By module name what comes through."""
    problems: dict[str, list[AiflowError]] = field(default_factory=dict)
    """By module name; a module that is not named here may be remembered."""


def judge(
    modules: Iterable[Module], answers: Sequence[Mapping[str, Imported]], printed: Mapping[str, str], index: CodeIndex
) -> Judgement:
    """Return what the modules gave, in one build or in two that must agree."""
    judgement = Judgement()
    refused: dict[str, list[Finding]] = {}
    told: set[tuple[Any, ...]] = set()
    modules = list(modules)
    for module in modules:
        builds = [answer[module.name] for answer in answers]
        findings = [finding for build in builds for finding in build.findings]
        record = ModuleRecord(
            module.name, module.path, notes=_note(module, printed.get(module.name)), only_plugins=module.only_plugins
        )
        problems = [problem for build in builds if build.problems for problem in build.problems]
        if len(builds) > 1 and builds[0].problems:
            problems = builds[0].problems
        for finding in findings:
            if finding.during == "import":
                refused.setdefault(finding.path, []).append(finding)
        withheld = {finding.during for finding in findings}
        first, last = builds[0].pipelines, builds[-1].pipelines
        stable, differing = _compare(first, last, quiet=withheld, is_whole=not problems)
        record.pipelines = [pipeline for pipeline in stable if pipeline["id"] not in withheld]
        judgement.records[module.name] = record
        for problem in [*(finding.to_error() for finding in findings), *problems, *differing]:
            place = problem.where or Where()
            key = (problem.code, place.path, place.line, place.column, place.about if not findings else None)
            if not findings or key not in told:
                told.add(key)
                judgement.problems.setdefault(module.name, []).append(problem)
    for module in modules if refused else ():
        if refused.keys() & set(index.closure(module.path)):
            judgement.records[module.name].pipelines = []
            judgement.problems.setdefault(module.name, [])
    return judgement


def find_duplicates(
    records: Iterable[ModuleRecord], default_project: str, index: CodeIndex
) -> Iterator[tuple[ModuleRecord, PipelineRecord, AiflowError | None]]:
    """Yield each pipeline once, with its module, and each further one of the same id with its problem.

    A pipeline that one module imports from another is one pipeline.
    """
    taken: dict[tuple[str, str], tuple[ModuleRecord, PipelineRecord]] = {}
    for record in records:
        for pipeline in record.pipelines:
            key = (pipeline["project"] or default_project, pipeline["id"])
            if key not in taken:
                taken[key] = (record, pipeline)
                yield record, pipeline, None
                continue
            other_record, other = taken[key]
            if not _is_alias(record, pipeline, other_record, other, index):
                yield (
                    record,
                    pipeline,
                    DefinitionError(
                        "duplicate-pipeline",
                        f"two pipelines are called '{pipeline['id']}'",
                        where=Where(pipeline["path"], pipeline["line"], about=f"pipeline '{pipeline['id']}'"),
                        hint=f"rename one; the other is at {other['path']}:{other['line']}",
                    ),
                )


def _is_alias(
    record: ModuleRecord,
    pipeline: PipelineRecord,
    other_record: ModuleRecord,
    other: PipelineRecord,
    index: CodeIndex,
) -> bool:
    same = ("home", "path", "line", "fingerprint")
    if any(pipeline[name] != other[name] for name in same[1:]):
        return False
    if pipeline["home"] == other["home"]:
        return record is not other_record
    # A factory's pipelines have one place; that the one module imports the other tells that it is the same object.
    return other_record.path in index.closure(record.path) or record.path in index.closure(other_record.path)


def _compare(
    first: list[dict[str, Any]], last: list[dict[str, Any]], *, quiet: set[str], is_whole: bool
) -> tuple[list[dict[str, Any]], list[AiflowError]]:
    """Return the pipelines that both builds gave alike, and the problems of the others."""
    if first is last:
        return first, []
    stable, problems = [], []
    others = {pipeline["id"]: pipeline for pipeline in last}
    for pipeline in first:
        other = others.pop(pipeline["id"], None)
        if other is not None and other["ir"] == pipeline["ir"]:
            stable.append(pipeline)
        elif quiet.isdisjoint(("import", pipeline["id"])) and (other is not None or is_whole):
            problems.append(_unstable(pipeline, other))
    if is_whole and not quiet:
        problems.extend(_unstable(pipeline, None) for pipeline in others.values())
    return stable, problems


def _unstable(pipeline: Mapping[str, Any], other: Mapping[str, Any] | None) -> AiflowError:
    where = Where(pipeline["path"], pipeline["line"], about=f"pipeline '{pipeline['id']}'")
    said = "is defined in one build and not in the other"
    if other:
        path, one, two = next(differences(json.loads(pipeline["ir"]), json.loads(other["ir"])))
        said = f"differs from build to build: {'.'.join(path)} is {_shown(one)} in one and {_shown(two)} in the other"
        places = json.loads(pipeline["locations"])
        if len(path) > 1 and path[0] == "nodes" and path[1] in places:
            where = Where(places[path[1]][0], places[path[1]][1], about=f"{where.about}, node '{path[1]}'")
    return DefinitionError(
        "unstable-pipeline",
        f"pipeline '{pipeline['id']}' {said}",
        where=where,
        hint="leave out what differs from process to process: sets (sort them), random, uuid, the clock, the time zone",
    )


def differences(one: Any, two: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield (path, value, other value) of everything in which two JSON values differ; nodes are named by id."""
    if one is _MISSING or two is _MISSING or type(one) is not type(two):
        yield path, one, two
    elif isinstance(one, dict):
        for key in sorted(one.keys() | two.keys()):
            yield from differences(one.get(key, _MISSING), two.get(key, _MISSING), (*path, key))
    elif isinstance(one, list):
        items, others = _named(one), _named(two)
        for key in list(dict.fromkeys([*items, *others])):
            yield from differences(items.get(key, _MISSING), others.get(key, _MISSING), (*path, key))
    elif one != two:
        yield path, one, two


def _named(items: list[Any]) -> dict[str, Any]:
    return {
        str(item["id"]) if isinstance(item, dict) and "id" in item else str(n): item for n, item in enumerate(items)
    }


def _shown(value: Any) -> str:
    text = "absent" if value is _MISSING else json.dumps(value, ensure_ascii=False)
    return text if len(text) < 80 else f"{text[:77]}…"


def _note(module: Module, printed: str | None) -> str:
    text = (printed or "").strip()
    if not text:
        return ""
    shown = text if len(text) <= _PRINTED_CHARACTERS else f"{text[:_PRINTED_CHARACTERS]}…"
    return f"{module.path} printed while it was imported: {shown!r}"
