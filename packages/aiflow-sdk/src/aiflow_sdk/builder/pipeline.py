"""``p``: the object that a pipeline function declares its nodes with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import Any

from aiflow_sdk.builder.dataset import Dataset
from aiflow_sdk.builder.draft import Draft
from aiflow_sdk.builder.guard import is_airflow, plain_map, refuse_foreign, wrong_value
from aiflow_sdk.builder.query import bind
from aiflow_sdk.builder.transform import OWN_NAMES, node_fields, output_fields
from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.factories import Declaration
from aiflow_sdk.frames.query import names_of
from aiflow_sdk.ir import FrozenMap
from aiflow_sdk.place import caller
from aiflow_sdk.variables import Variable, Variables, canonicalise

_BRANCH = re.compile(r"[A-Za-z0-9_-]{1,60}")


class PipelineBuilder:
    """What a pipeline function gets. Its methods declare nodes; nothing is read, run or written while they are called.

    What is wrong is noted, and everything is told at once when the function has ended.
    """

    def __init__(self, draft: Draft, suffix: str = "", values: Mapping[str, str] | None = None) -> None:
        self._draft = draft
        self._suffix = suffix
        self.values: Mapping[str, str] = values or {}
        """Of a branch: the values that it stands for, by name (``{"region": "us"}``)."""

    @property
    def vars(self) -> Variables:
        """The run variables, ``p.vars["run_date"]``: known only at run time, usable as values in options and params."""
        return self._draft.vars

    def read(self, source: Declaration) -> Dataset:
        """Declare that ``source.KIND(…)`` is read, and return its rows as a dataset."""
        where = source.where if isinstance(source, Declaration) else caller()
        node_id = self._node_id(getattr(source, "id", None))
        with self._draft.noting(where, node_id):
            declaration = _declared(source, "source", "p.read(source.onelake(id=…, table=…))")
            options = dict(declaration.options)
            bounded = options.pop("bounded", True)
            self._draft.add(
                where,
                id=self._checked(declaration.id, declaration),
                type="source",
                params=_with_kind(declaration, options),
                bounded=bounded,
            )
        return Dataset(self, node_id)

    def write(self, dataset: Dataset, sink: Declaration) -> None:
        """Declare that the dataset is written to ``sink.KIND(…)``. One dataset may go to several sinks."""
        where = sink.where if isinstance(sink, Declaration) else caller()
        with self._draft.noting(where, self._node_id(getattr(sink, "id", None))):
            if isinstance(dataset, Declaration) and isinstance(sink, Dataset):
                raise _not_a_dataset(dataset, "write p.write(dataset, sink.…): the dataset comes first")
            declaration = _declared(sink, "sink", "p.write(dataset, sink.onelake(id=…, table=…))")
            self._draft.add(
                where,
                id=self._checked(declaration.id, declaration),
                type="sink",
                params=_with_kind(declaration, declaration.options),
                input_ids=self._inputs((dataset,)),
            )

    def transform(
        self,
        *datasets: Dataset,
        id: str | None = None,
        engine: str | None = None,
        entrypoint: str | Callable[..., Any] | None = None,
        fn: str | Callable[..., Any] | None = None,
        resources: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        retries: int | None = None,
        retry_delay_minutes: float | None = None,
        retry_backoff: float | None = None,
        timeout_minutes: float | None = None,
        fuse: bool | None = None,
        external: bool | None = None,
        output_table: str | Variable | None = None,
        output_path: str | Variable | None = None,
        output_format: str | None = None,
        output_schema: Mapping[str, str] | None = None,
        **more_params: Any,
    ) -> Dataset:
        """Declare that a function makes one dataset of others.

        ``fn`` (or ``entrypoint``, the same) is ``"pkg.mod:function"``, ``"pkg.mod.function"``, ``"pkg.mod"`` (its
        ``main``) or the function itself. ``engine`` is ``python`` unless ``resources`` or ``@transform`` say another.
        Any other keyword is a param of the function; ``params`` takes those whose name is one of the arguments here.
        ``output_table`` or ``output_path`` also write the dataset there. ``external=True``: the function writes itself.
        """
        where = caller()
        own = {
            "engine": engine, "entrypoint": entrypoint, "fn": fn, "resources": resources, "retries": retries,
            "retry_delay_minutes": retry_delay_minutes, "retry_backoff": retry_backoff,
            "timeout_minutes": timeout_minutes, "fuse": fuse, "external": external, "output_schema": output_schema,
        }  # fmt: skip
        outputs = {"output_table": output_table, "output_path": output_path, "output_format": output_format}
        local_id = (
            getattr(fn or entrypoint, "__name__", None) if id is None and not isinstance(fn or entrypoint, str) else id
        )
        node_id = self._node_id(local_id)
        with self._draft.noting(where, node_id):
            checked = self._checked(local_id, ".transform(…)")
            fields, function = node_fields(own, outputs, params, more_params, self._draft.roots)
            self._draft.add(where, id=checked, type="transform", input_ids=self._inputs(datasets), **fields)
            if function is not None:
                self._draft.functions[checked] = function
            implicit = output_fields(outputs, external=fields["external"])
            if implicit:
                output_id = f"{local_id}_output{self._suffix}"
                self._draft.add(where, id=output_id, input_ids=(checked,), **implicit)
        return Dataset(self, node_id)

    def sql(
        self,
        query: str,
        *datasets: Dataset,
        id: str | None = None,
        engine: str | None = None,
        resources: Mapping[str, Any] | None = None,
        retries: int | None = None,
        retry_delay_minutes: float | None = None,
        retry_backoff: float | None = None,
        timeout_minutes: float | None = None,
        fuse: bool | None = None,
        output_schema: Mapping[str, str] | None = None,
        **named: Dataset,
    ) -> Dataset:
        """Declare that a query makes one dataset of others, named in it by braces: ``select … from {orders}``.

        A name is a dataset's id, or the keyword it is given under; without datasets, ids of the pipeline are meant.
        The dialect is the engine's: DuckDB's on ``python``, Spark's on ``spark``.
        """
        where = caller()
        inputs = [dataset.node_id for dataset in (*datasets, *named.values()) if isinstance(dataset, Dataset)]
        local_id = f"{inputs[0].split('.', 1)[0]}_sql" if id is None and inputs else "sql" if id is None else id
        node_id = self._node_id(local_id)
        with self._draft.noting(where, node_id):
            if not isinstance(query, str) or not query.strip():
                raise DefinitionError(
                    "no-query", f"{query!r} is no query", hint='write p.sql("select … from {orders}", orders)'
                )
            if misplaced := sorted(OWN_NAMES & named.keys()):
                raise DefinitionError(
                    "not-for-sql",
                    f"a query takes no '{misplaced[0]}'",
                    hint="write it into the query, or use .transform(fn=…)",
                )
            given = self._inputs(datasets)
            names = {name: self._inputs((dataset,))[0] for name, dataset in named.items()}
            if not given and not names:
                given = self._named_in(query)
            text, input_ids = bind(canonicalise(query), given, names)
            own = {
                "engine": engine, "resources": resources, "retries": retries, "timeout_minutes": timeout_minutes,
                "retry_delay_minutes": retry_delay_minutes, "retry_backoff": retry_backoff, "fuse": fuse,
                "output_schema": output_schema, "sql": text,
            }  # fmt: skip
            fields, _ = node_fields(own, {}, None, {}, self._draft.roots)
            self._draft.add(
                where, id=self._checked(local_id, ".sql(…)"), type="transform", input_ids=input_ids, **fields
            )
        return Dataset(self, node_id)

    def branch(
        self, name: str, value: str | int, *bodies: Callable[[PipelineBuilder], object] | EllipsisType
    ) -> PipelineBuilder:
        """Return a builder whose node ids carry the value: ``enrich.us``. Branches may be nested.

        Functions given after the value are called with it, as the body of the branch.
        """
        where = caller()
        text = str(value)
        with self._draft.noting(where):
            if isinstance(value, bool) or not isinstance(value, str | int) or not _BRANCH.fullmatch(text):
                raise wrong_value(str(name), value, "a short text of letters, digits, '_' and '-'")
        branch = PipelineBuilder(self._draft, f"{self._suffix}.{text}", {**self.values, str(name): text})
        for body in bodies:
            if callable(body):
                body(branch)
            elif body is not ...:
                with self._draft.noting(where):
                    raise wrong_value("the branch's body", body, "a function that takes the branch")
        return branch

    def branch_for_region(
        self, region: str, *bodies: Callable[[PipelineBuilder], object] | EllipsisType
    ) -> PipelineBuilder:
        """Return :meth:`branch` for a region: node ids carry it, as in ``enrich.us``."""
        return self.branch("region", region, *bodies)

    def __repr__(self) -> str:
        branch = f", branch {self._suffix[1:]!r}" if self._suffix else ""
        return f"<builder of pipeline '{self._draft.pipeline_id}'{branch}>"

    def _node_id(self, local_id: object) -> str:
        return f"{local_id if local_id is not None else '?'}{self._suffix}"

    def _checked(self, local_id: object, what: object) -> str:
        if local_id is None:
            raise DefinitionError("missing-id", f"{what} has no id", hint='add id="a_short_name"')
        if not isinstance(local_id, str):
            raise wrong_value("id", local_id, "text")
        if "." in local_id:
            raise DefinitionError(
                "bad-id",
                f"{local_id!r} is not a node id: what follows a dot is the branch",
                hint=f"write {local_id.replace('.', '_')!r}",
            )
        return self._node_id(local_id)

    def _inputs(self, datasets: tuple[Any, ...]) -> tuple[str, ...]:
        for dataset in datasets:
            if not isinstance(dataset, Dataset):
                raise _not_a_dataset(dataset, "give what p.read(…) or .transform(…) returned")
            if dataset.builder._draft is not self._draft:
                raise DefinitionError(
                    "foreign-dataset",
                    f"'{dataset.node_id}' belongs to pipeline '{dataset.builder._draft.pipeline_id}'"
                    + (
                        ", to an earlier building of it"
                        if self._draft.pipeline_id == dataset.builder._draft.pipeline_id
                        else ""
                    ),
                    hint="read what that pipeline writes with p.read(source.…)",
                )
        ids = tuple(dataset.node_id for dataset in datasets)
        if len(set(ids)) < len(ids):
            raise DefinitionError(
                "duplicate-input", f"one dataset is given twice: {', '.join(ids)}", hint="give it once"
            )
        return ids

    def _named_in(self, query: str) -> tuple[str, ...]:
        found = []
        for name in names_of(query):
            inside = self._node_id(name)
            found.append(inside if inside in self._draft.nodes else name)
        return tuple(node_id for node_id in found if node_id in self._draft.nodes)


def _declared(value: object, wanted: str, example: str) -> Declaration:
    if isinstance(value, Declaration) and value.type == wanted:
        return value
    if is_airflow(value):
        refuse_foreign(value, wanted)
    if wanted == "source":
        raise DefinitionError("not-a-source", f"{value!r} is no source", hint=f"write {example}")
    raise DefinitionError("not-a-sink", f"{value!r} is no sink", hint=f"write {example}")


def _not_a_dataset(value: object, hint: str) -> DefinitionError:
    if is_airflow(value):
        refuse_foreign(value, "dataset")
    return DefinitionError("not-a-dataset", f"{value!r} is no dataset", hint=hint)


def _with_kind(declaration: Declaration, options: Mapping[str, Any]) -> FrozenMap:
    if "kind" in options:
        raise DefinitionError(
            "bad-arguments",
            f"'kind' is no option of {declaration.type}s",
            hint=f"write {declaration.type}.{options['kind']}(…)",
        )
    return plain_map(options, kind=declaration.kind)
