"""Rows that a sink wrote under an earlier name: told apart from those of others who write to the same table.

To the log a renamed sink is another writer, so what it had added for a partition would stand there twice. What the log
and the plan tell together: a sink of this very pipeline that the pipeline does not have any more, and one of this
pipeline in an environment of another name. Who else adds rows may be a pipeline that was renamed, or one that adds to
the same table on purpose, and nothing tells which. See docs/decisions/0036.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiflow_sdk.connectors.onelake.change import Change
from aiflow_sdk.connectors.onelake.identity import Owner
from aiflow_sdk.connectors.onelake.table import TableState
from aiflow_sdk.connectors.onelake.writers import Writer
from aiflow_sdk.errors import ConfigurationError, DataError

_SHOWN = 3


def check_earlier(change: Change) -> None:
    """Raise ``ConfigurationError`` where an earlier name is one that a sink of the pipeline still has."""
    request = change.request
    now = {Writer.of_run(request.run, node_id) for node_id in (request.node_id, *request.sinks)}
    if still := sorted(set(change.earlier) & now):
        name = still[0].seen_from(request.run)
        raise ConfigurationError(
            "bad-option",
            f"renamed_from has '{name}', which is a sink of this pipeline now",
            hint="leave it out: a sink replaces its own rows, and two sinks would replace each other's",
        )


def other_writers(change: Change, state: TableState) -> Sequence[Writer]:
    """Return who else of the project has rows where this sink writes for the first time, as far as the log tells.

    Raises ``DataError`` (``earlier-name``) for such as only an earlier name of the sink, or one that is gone, can be.
    """
    request, run = change.request, change.request.run
    mine = Writer.of_run(run, request.node_id)
    # Once the sink has rows of its own here they are replaced, and whatever stood beside them then stays.
    if not request.sinks or state.generation(mine.app(run.partition_key)) is not None:
        return ()
    known = {mine, *change.earlier, *change.beside, *(Writer.of_run(run, node_id) for node_id in request.sinks)}
    folders = tuple(f"w-{writer.digest}/" for writer in known)
    met = {Owner.of_file(file.path) for file in state.files if not file.path.startswith(folders)}
    digests = {owner.write for owner in met if owner and change.owner.may_share_rows(owner)}
    if not digests:
        return ()
    noted = state.writers()
    found = sorted(writer for writer in noted if writer.digest in digests)
    here = (run.project, run.pipeline_id)
    gone = [
        one for one in found if (one.project, one.pipeline) == here and one.node not in {*request.sinks} - {mine.node}
    ]
    if gone:
        raise _earlier_name(change, gone)
    met_before = noted.get(mine, frozenset())  # then nobody minded
    others = [
        one
        for one in found
        if (one.environment, one.project) == (run.environment, run.project) and not noted[one] & met_before
    ]
    # Of a pipeline that was renamed with several sinks each has one that it may have been.
    alike = [one for one in others if one.node == mine.node]
    return alike or [one for one in others if one.node not in request.sinks]


def told_of(change: Change, others: Sequence[Writer]) -> str:
    """Return what is to be told of rows beside which a sink has put its own for the first time."""
    names = _listed(change, others)
    return (
        f"earlier-name: '{change.name}' has rows of {names} for {change.request.run.partition_text} too, and those of "
        f"'{change.request.node_id}' stand beside them now; if that is an earlier name of this sink they stand there "
        f"twice: write renamed_from={_options(change, others)} and run it again; if both write to the table, all is "
        "well, and this is not said of them again"
    )


def _earlier_name(change: Change, gone: Sequence[Writer]) -> DataError:
    named = _options(change, gone)
    return DataError(
        "earlier-name",
        f"'{change.name}' has rows of {_listed(change, gone)} for {change.request.run.partition_text}, and the "
        f"pipeline '{change.request.run.pipeline_id}' has no such sink in '{change.request.run.environment}': rows of "
        f"'{change.request.node_id}' would stand beside them, and twice if it is the same sink under a new name",
        hint=f"write renamed_from={named} at the sink to replace them, or beside={named} if they are to stay",
    )


def _listed(change: Change, writers: Sequence[Writer]) -> str:
    shown = [f"'{writer.seen_from(change.request.run)}'" for writer in writers[:_SHOWN]]
    more = [f"{len(writers) - _SHOWN} more"] if len(writers) > _SHOWN else []
    return " and ".join([*shown, *more])


def _options(change: Change, writers: Sequence[Writer]) -> str:
    shown = [f'"{writer.seen_from(change.request.run)}"' for writer in writers[:_SHOWN]]
    return f"[{', '.join([*shown, '…'] if len(writers) > _SHOWN else shown)}]"
