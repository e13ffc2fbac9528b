"""SQL nodes: which inputs a query names, and the query with the inputs' ids in place of the author's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiflow_sdk.errors import DefinitionError, unknown_name
from aiflow_sdk.frames.query import input_names, names_of, replace_names


def bind(query: str, inputs: Sequence[str], names: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the query with node ids as placeholders, and the ids that it reads, in the order of ``inputs``.

    A placeholder is one of ``names`` (name → node id), an id of ``inputs``, or an id without its branch where only one
    has it. A query over a single input may call it as it likes.
    """
    known = {**input_names(inputs), **names}
    every = tuple(dict.fromkeys((*inputs, *names.values())))
    used = names_of(query)
    if not used:
        example = every[0] if every else "orders"
        raise DefinitionError(
            "no-inputs-in-sql", "the query names no input", hint=f"write {{{example}}} where its table stands"
        )
    if len(every) == 1 and len(used) == 1 and used[0] not in known:
        known[used[0]] = every[0]
    for name in used:
        if name not in known:
            raise unknown_name("unknown-input", "input", name, known)
    read = {known[name] for name in used}
    unused = [node_id for node_id in every if node_id not in read]
    if unused:
        raise DefinitionError(
            "unused-input",
            f"the query does not name its input '{unused[0]}'",
            hint=f"write {{{unused[0]}}} in it, or leave it away",
        )
    return replace_names(query, lambda name: f"{{{known[name]}}}"), every
