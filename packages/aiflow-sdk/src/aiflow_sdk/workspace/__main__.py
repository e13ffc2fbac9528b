"""Compiles pipelines with a project's own plugins: ``python -m aiflow_sdk.workspace``, started by :mod:`.child`.

Its arguments are two file descriptors. Orders come pickled from the parent; answers are JSON, because the parent is not
to import what user code may put into an object.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

# Were the parent killed, nobody would end a child that hangs.
_GRACE_SECONDS = 10


def main() -> None:
    """Answer one order after the other until the parent closes."""
    orders, answers = (int(text) for text in sys.argv[1:3])
    for descriptor in (orders, answers):
        os.set_inheritable(descriptor, False)
    incoming, outgoing = Connection(orders, writable=False), Connection(answers, readable=False)
    sys.argv[:] = [""]
    with suppress(EOFError, OSError):
        _serve(incoming, outgoing)
    # What user code left running (threads that are no daemons, exit handlers) is not waited for.
    os._exit(0)


def _serve(incoming: Connection, outgoing: Connection) -> None:
    path, pythonpath = pickle.loads(incoming.recv_bytes())
    if path is not None:
        sys.path[:] = path
    os.environ.pop("PYTHONPATH", None)
    if pythonpath is not None:
        os.environ["PYTHONPATH"] = pythonpath

    from aiflow_sdk.ir import read_pipeline
    from aiflow_sdk.workspace import Workspace

    project, marked = pickle.loads(incoming.recv_bytes())
    workspace = Workspace(project, marked=marked, is_child=True)
    outgoing.send_bytes(b"{}")
    while True:
        text, environment, locations, modules, seconds = pickle.loads(incoming.recv_bytes())
        signal.alarm(int(2 * seconds) + _GRACE_SECONDS)
        try:
            plan = workspace.compile(read_pipeline(text), environment, locations=locations)
            answer: dict[str, Any] = {"plan": plan.to_json()}
        except BaseException as error:  # noqa: BLE001 a stranger's class may raise anything, SystemExit included
            answer = {"error": _described(error, modules)}
        signal.alarm(0)
        outgoing.send_bytes(json.dumps(answer).encode())


def _described(error: BaseException, modules: list[str]) -> dict[str, Any]:
    from aiflow_sdk.errors import AiflowError, PluginError, Where

    if isinstance(error, AiflowError):
        return error.to_dict()
    return PluginError(
        "broken-plugin",
        f"compiling with the project's own plugins failed: {type(error).__name__}: {error}",
        where=Where(f"{modules[0].replace('.', '/')}.py"),
        hint="mend the plugin; if its lines are not among those above, please report it",
        notes="".join(traceback.format_exception(error)).rstrip().splitlines(),
    ).to_dict()


if __name__ == "__main__":
    main()
