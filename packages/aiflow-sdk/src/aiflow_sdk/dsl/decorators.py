"""``@pipeline(…)`` and ``@transform(…)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from aiflow_sdk.dsl.definition import PipelineDefinition
from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.factories import FROM_SCHEDULE, TRANSFORM_MARK
from aiflow_sdk.place import caller

if TYPE_CHECKING:
    from datetime import date

    from aiflow_sdk.builder import PipelineBuilder, Schedule

F = TypeVar("F", bound=Callable[..., Any])


def pipeline(
    id: str | None = None,
    schedule: Schedule = None,
    owner: str = "",
    sla_minutes: float | None = 60,
    tags: Sequence[str] | None = None,
    *,
    description: str = "",
    start_date: str | date | None = None,
    timezone: str = "UTC",
    catchup: bool = False,
    retries: int = 0,
    retry_delay_minutes: float = 5,
    retry_backoff: float = 1,
    timeout_minutes: float | None = None,
    max_active_runs: int = 16,
    concurrency: int | None = None,
    notify: Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
    partition: str | None = FROM_SCHEDULE,
    ranges: bool = False,
    **extra: Any,
) -> Callable[[Callable[[PipelineBuilder], Any]], PipelineDefinition]:
    """Make a pipeline of a function that declares its nodes on the builder that it gets.

    ``id`` is the function's name where it is not given. ``schedule``: cron text, ``"@daily"``, a ``timedelta``,
    datasets (``dataset("a.b") & dataset("c.d")``) or None: by hand. ``partition``: what one run is for (``hour``,
    ``day``, ``week``, ``month``, None), as the schedule says where that is plain. ``extra`` are labels: ``team``,
    ``project``, ``env``, ``cost_center`` and others. Whatever is wrong is told when the pipeline is built, all at once.
    """
    settings = {
        "schedule": schedule,
        "owner": owner,
        "sla_minutes": sla_minutes,
        "tags": tags,
        "description": description,
        "start_date": start_date,
        "timezone": timezone,
        "catchup": catchup,
        "retries": retries,
        "retry_delay_minutes": retry_delay_minutes,
        "retry_backoff": retry_backoff,
        "timeout_minutes": timeout_minutes,
        "max_active_runs": max_active_runs,
        "concurrency": concurrency,
        "notify": notify,
        "params": params,
        "ranges": ranges,
        "partition": partition,
    }
    if callable(id):
        raise DefinitionError(
            "bad-pipeline-function",
            "@pipeline is written without its arguments",
            where=caller(),
            hint='write @pipeline(id="…")',
        )

    def decorate(function: Callable[[PipelineBuilder], Any]) -> PipelineDefinition:
        if not callable(function) or isinstance(function, PipelineDefinition):
            raise DefinitionError(
                "bad-pipeline-function",
                f"@pipeline cannot decorate {function!r}",
                where=caller(),
                hint="decorate a function",
            )
        name = getattr(function, "__name__", None) if id is None else id
        return PipelineDefinition(function, {"id": name, **settings}, extra)

    return decorate


@overload
def transform(function: F, /) -> F: ...
@overload
def transform(
    *,
    engine: str | None = None,
    resources: Mapping[str, Any] | None = None,
    retries: int | None = None,
    retry_delay_minutes: float | None = None,
    retry_backoff: float | None = None,
    timeout_minutes: float | None = None,
    fuse: bool | None = None,
    external: bool | None = None,
    output_schema: Mapping[str, str] | None = None,
) -> Callable[[F], F]: ...
def transform(function: Any = None, /, **defaults: Any) -> Any:
    """Give a function the defaults that a transform takes, named by text or given itself.

    ``@transform(engine="spark", resources=resources.spark(…))``; the function stays what it is. A function that is
    named by text is not imported while the pipeline is built: its defaults are read, and must be literals.
    """
    known = (
        "engine",
        "resources",
        "retries",
        "retry_delay_minutes",
        "retry_backoff",
        "timeout_minutes",
        "fuse",
        "external",
        "output_schema",
    )
    unknown = sorted(defaults.keys() - set(known))
    if unknown or (function is not None and not callable(function)):
        what = f"'{unknown[0]}' is none of its defaults" if unknown else f"{function!r} is no function"
        raise DefinitionError(
            "bad-transform-decorator",
            f"@transform: {what}",
            where=caller(),
            hint=f"it takes {', '.join(known)}; a pipeline's transforms are declared with dataset.transform(…)",
        )

    def mark(marked: F) -> F:
        setattr(marked, TRANSFORM_MARK, {name: value for name, value in defaults.items() if value is not None})
        return marked

    return mark if function is None else mark(function)
