"""The child: imports the modules that it is asked for and answers on a file descriptor of its own.

``python -m aiflow_sdk.discovery ANSWER_FD TRACE_FD``, the request on standard input. What user code prints goes to
the child's standard output, which is a file of the parent's. A line of JSON comes before and after each module, so
that the parent knows which one hangs or has ended the process.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

# Were the parent killed, nobody would end a child that hangs.
_GRACE_SECONDS = 10

_ALLOCATIONS = 100_000
_NICE = 3
"""Half the weight of others: where processors are few the parent gets one to itself."""


def main() -> None:
    """Serve one request and end."""
    _let_parent_go_first()
    answer_fd, trace_fd = map(int, sys.argv[1:3])
    # From here on the descriptors are not passed on to processes that user code starts.
    for descriptor in (answer_fd, trace_fd):
        os.set_inheritable(descriptor, False)
    request = json.load(sys.stdin.buffer)
    answer = open(answer_fd, "w", encoding="utf-8", errors="surrogatepass")  # noqa: SIM115 until the process ends
    if request["path"] is not None:
        sys.path[:] = request["path"]
    os.environ.pop("PYTHONPATH", None)
    if request["pythonpath"] is not None:
        os.environ["PYTHONPATH"] = request["pythonpath"]
    sys.argv[:] = [""]

    from aiflow_sdk.discovery.finding import Module
    from aiflow_sdk.discovery.importing import Importer

    faulthandler.enable(file=trace_fd, all_threads=False)
    faulthandler.register(signal.SIGUSR1, file=trace_fd, all_threads=False)

    def say(message: dict[str, Any]) -> None:
        answer.write(json.dumps(message, ensure_ascii=False) + "\n")
        answer.flush()

    # As in the command that waits for it: nearly all that is made is kept, so hardly any rubbish would be found.
    gc.set_threshold(_ALLOCATIONS)
    importer = Importer(
        Path(request["root"]),
        clock=request["clock"],
        on_ending=lambda path, line: say({"ending": [path, line]}),
    )
    printed = 0
    for number, (name, path, only_plugins) in enumerate(request["modules"]):
        signal.alarm(int(2 * request["timeout_seconds"]) + _GRACE_SECONDS)
        say({"begin": number})
        imported = importer.load(Module(name, path, only_plugins))
        printed, text = _printed_since(printed)
        say({"done": number, "printed": text, **imported.to_dict()})
    say({"end": True})
    # What user code left running (threads that are no daemons, exit handlers) is not waited for.
    os._exit(0)


def _let_parent_go_first() -> None:
    """Take what processor time the parent leaves: it compiles what comes from here, alone once the children end."""
    with suppress(OSError, AttributeError):
        os.nice(_NICE)
    # Linux weighs sessions first, each by a nice of its own (sched(7), "The autogroup feature"), and this is one.
    with suppress(OSError), open("/proc/self/autogroup", "w") as weight:
        weight.write(str(_NICE))


def _printed_since(offset: int) -> tuple[int, str]:
    """Return how much lies in the standard output's file, and what was added since ``offset``."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # user code closed or replaced it
    try:
        size = os.fstat(1).st_size
        return size, os.pread(1, min(size - offset, 4000), offset).decode("utf-8", "replace") if size > offset else ""
    except OSError:
        return offset, ""


if __name__ == "__main__":
    main()
