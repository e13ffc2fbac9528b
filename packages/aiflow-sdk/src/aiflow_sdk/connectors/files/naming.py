"""How lineage calls files whose path follows the run's time: the files of all days are one dataset.

What the time decides at the end of the path has no part in the name: ``data/orders/dt={{ ds }}`` is ``data/orders``, as
OpenLineage's clients call it (their dataset name trimmers take dates and ``key=value`` from the end of a path).
Elsewhere the template stands in the name.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from aiflow_sdk.variables import TIME_NAMES, Reference, has_secret, has_template, references, replace_templates

_AROUND_DATE = re.compile(r"[TZ\s:.\d-]*")
"""What may stand in a folder beside a date, which then is all that it says: OpenLineage's ``DateTrimmer``."""
_OF_DAY_TIME = re.compile(r"%[HMSz]")


class DatedPath(NamedTuple):
    """A path as all runs share it, and what each adds to it."""

    name: str
    part: str
    """What a run's time decides, with its templates: ``dt={{ ds }}``."""


def dated_path(path: Any) -> DatedPath | None:
    """Return the name of a raw path that follows the run's time, None where nothing or something else decides it."""
    if not isinstance(path, str) or not has_template(path) or has_secret(path):
        return None
    if not all(reference.name in TIME_NAMES for reference in references(path)):
        return None
    segments = replace_templates(path, _without_slashes).rstrip("/").split("/")
    end = len(segments)
    # One part stays, as with OpenLineage: else nothing would be left to name it by.
    while any(segments[: end - 1]) and _is_partition(segments[end - 1]):
        end -= 1
    kept, taken = segments[:end], segments[end:]
    name = "/".join(replace_templates(one, lambda reference: str(_of_any_run(reference))) for one in kept)
    inside = [part for one in kept if has_template(one) for part in ([one] if _is_partition(one) else _templates(one))]
    return DatedPath(name, "/".join((*inside, *taken)))


def _without_slashes(reference: Reference) -> str:
    """Return the template, as one for each folder where its format has several: ``%Y/%m/%d``."""
    if reference.pattern is None or "/" not in reference.pattern:
        return str(reference)
    bare = reference._replace(pattern=None)
    return "/".join(str(bare.formatted(one)) if "%" in one else one for one in reference.pattern.split("/"))


def _is_partition(segment: str) -> bool:
    """Whether a folder is ``column=value`` with the time in its value, or says nothing but the time."""
    column, equals, value = segment.partition("=")
    if equals and column and not has_template(column):
        return has_template(value) and "=" not in replace_templates(value, lambda _: "")
    outside = replace_templates(segment, lambda _: "")
    return outside != segment and _AROUND_DATE.fullmatch(outside) is not None


def _templates(segment: str) -> list[str]:
    return [str(reference) for reference in references(segment)]


def _of_any_run(reference: Reference) -> Reference:
    """Return how all runs share a template: yesterday's file is of the same dataset as today's, however it is said."""
    pattern = reference.pattern
    is_day = reference.name == "ds" if pattern is None else _OF_DAY_TIME.search(pattern) is None
    bare = Reference("ds" if is_day else "data_interval_start")
    return bare if pattern is None else bare.formatted(pattern)
