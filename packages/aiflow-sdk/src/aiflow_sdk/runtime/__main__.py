"""``python -m aiflow_sdk.runtime``: one attempt of one task, in this process."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.plan import Plan, Run, make_run, read_plan
from aiflow_sdk.runtime.task import execute_task


def main(arguments: list[str] | None = None) -> int:
    """Run the task and return the exit code: 0 done, 1 it failed, 2 used wrongly."""
    parser = argparse.ArgumentParser(prog="python -m aiflow_sdk.runtime", description=__doc__)
    parser.add_argument("--plan", required=True, type=Path, help="the plan, a JSON file")
    parser.add_argument("--task", required=True, help="which of its tasks")
    parser.add_argument("--project", type=Path, default=Path(), help="the folder with the user's code (default: here)")
    parser.add_argument("--run", help="the run as JSON: a file, or - for standard input; instead of the flags below")
    parser.add_argument("--date", help="the partition; without it the last complete one")
    parser.add_argument("--last-date", help="of a range: its last partition, included")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--run-id")
    parser.add_argument("--execution", type=int, default=1)
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument("--generation", type=int, default=1)
    parser.add_argument(
        "--result", type=Path, help="write what was done as JSON to this file instead of standard output"
    )
    given = parser.parse_args(arguments)
    try:
        plan = read_plan(given.plan.read_bytes())
        run = _run(plan, given)
        plan.task(given.task)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except AiflowError as error:
        _explain(error)
        return 2
    try:
        result = execute_task(plan, given.task, run, root=given.project.absolute())
    except AiflowError as error:
        _explain(error)
        return 1
    text = json.dumps(result.to_dict(), ensure_ascii=False)
    if given.result:
        given.result.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


def _run(plan: Plan, given: argparse.Namespace) -> Run:
    if given.run:
        text = sys.stdin.read() if given.run == "-" else Path(given.run).read_text(encoding="utf-8")
        return Run.make(**json.loads(text))
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
    for note in error.notes:
        print(note, file=sys.stderr)
    print(f"error[{error.code}]: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
