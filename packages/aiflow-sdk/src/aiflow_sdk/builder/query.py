"""SQL nodes: which inputs a query names, and the query with the inputs' ids in place of the author's names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from aiflow_sdk.errors import DefinitionError, unknown_name

_PLACEHOLDER = re.compile(r"(?<!\{)\{\s*([A-Za-z_][A-Za-z0-9_.-]*)\s*\}(?!\})")


def placeholders(query: str) -> list[str]:
    """Return the names in braces, ``{orders}``, in order, each once; ``{{ ds }}`` is none."""
    return list(dict.fromkeys(_PLACEHOLDER.findall(query)))


def bind(query: str, inputs: Sequence[str], names: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the query with node ids as placeholders, and the ids that it reads, in the order of ``inputs``.

    A placeholder is one of ``names`` (name → node id), an id of ``inputs``, or an id without its branch where only one
    has it. A query over a single input may call it as it likes.
    """
    known = {**_ids(inputs), **names}
    every = tuple(dict.fromkeys((*inputs, *names.values())))
    used = placeholders(query)
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
    return _PLACEHOLDER.sub(lambda match: f"{{{known[match[1]]}}}", query), every


def _ids(inputs: Sequence[str]) -> dict[str, str]:
    local = [node_id.split(".", 1)[0] for node_id in inputs]
    plain = {name: node_id for name, node_id in zip(local, inputs, strict=True) if local.count(name) == 1}
    return plain | {node_id: node_id for node_id in inputs}
