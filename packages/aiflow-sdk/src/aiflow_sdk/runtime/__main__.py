"""``python -m aiflow_sdk.runtime``: one attempt of one task, in this process."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Literal

from aiflow_sdk.errors import AiflowError, DocumentError, RunError, Where
from aiflow_sdk.events import Spool
from aiflow_sdk.lineage import Lineage
from aiflow_sdk.plan import Plan, Run, TaskResult, make_run, read_plan, read_run
from aiflow_sdk.redaction import hidden_in_output
from aiflow_sdk.runtime.engine_version import installed_version
from aiflow_sdk.runtime.task import execute_task
from aiflow_sdk.usage import Meter


def main(arguments: list[str] | None = None) -> int:
    """Run the task and return the exit code: 0 done, 1 it failed, 2 used wrongly."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.run is None and given.generation is None:
        parser.error("--generation is required unless --run is given: without it an old run could undo a newer one")
    try:
        plan = read_plan(given.plan.read_bytes())
        plan.task(given.task)
        run = _run(plan, given)
    except (OSError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except AiflowError as error:
        _explain(error)
        return 2
    with hidden_in_output():
        try:
            result = _execute(plan, run, given)
        except AiflowError as error:
            _explain(error)
            return 1
        for facts in result.nodes:
            if facts.superseded:
                print(
                    f"superseded: '{facts.node_id}' changed nothing, because a newer generation than {run.generation} "
                    f"has written {run.partition_text}",
                    file=sys.stderr,
                )
        text = json.dumps(result.to_dict(), ensure_ascii=False)
        if given.result:
            given.result.write_text(text, encoding="utf-8")
        else:
            print(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m aiflow_sdk.runtime", description=__doc__)
    parser.add_argument("--plan", required=True, type=Path, help="the plan, a JSON file")
    parser.add_argument("--task", required=True, help="which of its tasks")
    parser.add_argument("--project", type=Path, default=Path(), help="the folder with the user's code (default: here)")
    parser.add_argument(
        "--run", help="the run's document (JSON): a file, or - for standard input; instead of the flags below"
    )
    parser.add_argument("--date", help="the partition; without it the last complete one")
    parser.add_argument("--last-date", help="of a range: its last partition, included")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--run-id", help="a UUID (default: a new one)")
    parser.add_argument("--execution", type=int, default=1)
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument(
        "--generation",
        type=int,
        help="grows with each execution of the pipeline in its environment: of two that write one partition the "
        "greater stays, whichever comes last. Required unless --run is given: nothing here can know the last one",
    )
    parser.add_argument(
        "--result", type=Path, help="write what was done as JSON to this file instead of standard output"
    )
    parser.add_argument("--spool", type=Path, help="add the task's OpenLineage events to this file, one JSON a line")
    return parser


def _execute(plan: Plan, run: Run, given: argparse.Namespace) -> TaskResult:
    """Do the task; each event lies in the spool before anybody is told."""
    lineage, task = Lineage(plan, run, installed_version), plan.task(given.task)
    spool = Spool(given.spool) if given.spool else None

    def tell(
        kind: Literal["START", "COMPLETE", "FAIL"],
        *,
        result: TaskResult | None = None,
        error: AiflowError | None = None,
    ) -> None:
        if spool:
            described = error.to_dict() if error else None
            usage = meter.stop() if kind != "START" else None
            spool.append(lineage.task_event(kind, task, run.attempt, result=result, error=described, usage=usage))

    meter = Meter(is_whole_process=True).start()
    tell("START")
    try:
        result = execute_task(plan, task.id, run, root=given.project.absolute(), meter=meter)
    except AiflowError as error:
        tell("FAIL", error=error)
        raise
    except BaseException as error:  # the spool hears of whatever ends the task; it goes on up
        tell("FAIL", error=RunError("task-crashed", f"{type(error).__name__}: {error}"))
        raise
    tell("COMPLETE", result=result)
    return result


def _run(plan: Plan, given: argparse.Namespace) -> Run:
    if given.run:
        text = sys.stdin.read() if given.run == "-" else Path(given.run).read_text(encoding="utf-8")
        try:
            run = read_run(text)
        except AiflowError as error:
            raise error.at(Where("standard input" if given.run == "-" else given.run)) from error.__cause__
        if (run.project, run.pipeline_id) != (plan.project, plan.pipeline_id):
            raise DocumentError(
                "bad-document",
                f"the run is of '{run.project}/{run.pipeline_id}', the plan of '{plan.project}/{plan.pipeline_id}'",
                hint="give the two that belong together",
            )
        return run
    return make_run(
        plan,
        partition=given.date,
        last_partition=given.last_date,
        params=dict(item.partition("=")[::2] for item in given.param),
        run_id=given.run_id,
        execution=given.execution,
        attempt=given.attempt,
        generation=given.generation,
    )


def _explain(error: AiflowError) -> None:
    with hidden_in_output():
        for note in error.notes:
            print(note, file=sys.stderr)
        print(f"error[{error.code}]: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
