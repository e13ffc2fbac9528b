"""What templates become where a run's task runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from aiflow_sdk.config import SCHEME, Secret
from aiflow_sdk.errors import DefinitionError, unknown_name
from aiflow_sdk.partitions import Partition
from aiflow_sdk.variables.template import TIME_NAMES, Reference, references, replace_templates
from aiflow_sdk.variables.value import has_secret, map_texts, texts_in


def run_facts(
    partition: Partition | None,
    run_id: str,
    pipeline_id: str,
    params: Mapping[str, Any] | None = None,
    *,
    last_partition: Partition | None = None,
) -> dict[str, Any]:
    """Return what templates may name, and what a user's ``context`` shows.

    Always ``run_id``, ``pipeline_id``, ``params`` and ``partition``. Of a run for a partition also ``ds`` and
    ``run_date`` (the local date at which it begins, as text), ``ds_nodash``, ``data_interval_start`` and
    ``logical_date`` (the moment at which it begins, with its offset), ``data_interval_end`` (the first moment after it)
    and ``ts`` (the start as ISO text). They follow from the partition alone, however the run was started. Of a range
    ``partition`` is the first and ``last_partition`` the last; ``data_interval_end`` is the last's, all else the
    first's.
    """
    facts: dict[str, Any] = {
        "run_id": run_id,
        "pipeline_id": pipeline_id,
        "params": params or {},
        "partition": partition,
        "last_partition": last_partition or partition,
    }
    if partition is not None:
        ds = partition.date.isoformat()
        facts |= {
            "ds": ds,
            "run_date": ds,
            "ds_nodash": ds.replace("-", ""),
            "ts": partition.start.isoformat(),
            "logical_date": partition.start,
            "data_interval_start": partition.start,
            "data_interval_end": (last_partition or partition).end,
        }
    return facts


def render(value: Any, facts: Mapping[str, Any]) -> Any:
    """Return ``value`` with every template in it replaced, as :func:`run_facts` has the values.

    A text that is nothing but one param becomes the param's value, of whatever type. Within other text dates are
    written as ``2026-11-20``, moments in ISO 8601, params as they are where they are text, else as JSON. Each text is
    gone through once: braces in a param's value stay. Raises ``DefinitionError`` (``no-time-partition``) for a
    time in a run without partition or a param that refers to a secret (``secret-in-param``), ``UnknownNameError``
    (``unknown-param``), and whatever :func:`canonicalise` raises. The value of a secret stays as it is, braces and all:
    look secrets up first, so that no value of a run can name one.
    """
    return map_texts(value, lambda text: text if isinstance(text, Secret) else _rendered(text, facts))


def render_but_time(value: Any, facts: Mapping[str, Any]) -> Any:
    """Return ``value`` as :func:`render` would, but with the templates of the run's time as they stand.

    Raises ``DefinitionError`` (``bad-template``) where a param's value has braces of its own, which nothing would tell
    from a template afterwards.
    """
    return map_texts(value, lambda text: text if has_secret(text) else _rendered_but_time(text, facts))


def _rendered_but_time(text: str, facts: Mapping[str, Any]) -> str:
    def written(reference: Reference) -> str:
        if reference.name in TIME_NAMES:
            return str(reference)
        value = _written(reference, facts)
        if "{{" in value or "}}" in value:
            raise DefinitionError("bad-template", f"the value of {reference} holds braces")
        return value

    return replace_templates(text, written)


def _rendered(text: str, facts: Mapping[str, Any]) -> Any:
    if text.startswith("{{") and text.endswith("}}") and text.count("{{") == 1:
        (reference,) = references(text)
        if reference.name.startswith("params."):
            return _looked_up(reference, facts)
    return replace_templates(text, lambda reference: _written(reference, facts))


def _written(reference: Reference, facts: Mapping[str, Any]) -> str:
    if reference.name in TIME_NAMES:
        return _written_time(reference, facts)
    value = _looked_up(reference, facts)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_plain)


def _looked_up(reference: Reference, facts: Mapping[str, Any]) -> Any:
    value: Any = facts
    for part in reference.name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            known = value if isinstance(value, Mapping) else ()
            raise unknown_name("unknown-param", "param" if value is not facts else "fact of the run", part, known)
        value = value[part]
    refuse_secrets(reference.name, value)
    return value


def refuse_secrets(name: str, value: Any) -> None:
    """Raise ``DefinitionError`` (``secret-in-param``) where a param's value refers to a secret: none may choose one."""
    if any(text.strip().startswith(SCHEME) for text in texts_in(value)):
        raise DefinitionError(
            "secret-in-param",
            f"the value of '{name}' refers to a secret, and whoever starts a run may not choose one",
            hint='write "secret://name" in the pipeline, as the whole value of the option that needs it',
        )


def _written_time(reference: Reference, facts: Mapping[str, Any]) -> str:
    plain = facts.get(reference.name)
    if plain is not None and reference == (reference.name, 0, None):
        return str(_plain(plain))
    partition = facts.get("last_partition" if reference.name == "data_interval_end" else "partition")
    if partition is None:
        raise DefinitionError(
            "no-time-partition",
            f"{reference} is a time, and this run is for no partition",
            hint='give the pipeline partition="day" (or a schedule that says so), and the run a date',
        )
    assert isinstance(partition, Partition)
    if reference.offset:
        partition = partition.offset(reference.offset)
    pattern = reference.pattern
    times: dict[str, date] = {
        "ds": partition.date,
        "data_interval_start": partition.start,
        "data_interval_end": partition.end,
    }
    time = times[reference.name]
    return time.strftime(pattern) if pattern else time.isoformat()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return value.isoformat() if isinstance(value, date) else str(value)
