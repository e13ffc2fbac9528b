"""Takes what lies in a machine's spools to the listeners: ``python -m aiflow_sdk.runtime.forward``.

Standard input is the order, as JSON: ``events`` (the folder of the spools), ``plan`` (a file, whose environment names
the listeners), ``project`` (the folder with the user's code), ``secrets`` (name → value). Before that, attempts whose
process is gone are said to have failed. However many are started at once, one forwards and one waits for its turn: what
the others have spooled is found by that one.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aiflow_sdk.errors import AiflowError
from aiflow_sdk.redaction import hidden_in_output

FORWARD_SECONDS = 30.0
"""How long listeners have; what they have not heard then is sent the next time."""
HUNG_SECONDS = 90.0
"""How long one turn may take, the making of the listeners included: while it lasts nobody else forwards."""


def main() -> None:
    """Forward what there is and exit; the code is 0, or 1 where something is left."""
    order = json.loads(sys.stdin.buffer.readline())
    code = 1
    with suppress(OSError), hidden_in_output():  # the task that started this may listen no more
        code = _forward_in_turn(order)
    os._exit(code)  # a listener that hangs is not waited for


def _forward_in_turn(order: Mapping[str, Any]) -> int:
    try:
        with _turn(Path(order["events"])) as is_ours:
            if not is_ours:
                return 0
            with _ended_when_it_hangs():
                return forward(order)
    except (AiflowError, OSError) as error:
        _say(f"events are kept and sent later: {error}")
    except Exception:  # noqa: BLE001 a stranger's code; Python itself would print it where no secret is hidden any more
        _say(f"events are kept and sent later: {traceback.format_exc()}")
    return 1


def forward(order: Mapping[str, Any]) -> int:
    """Send what lies below the order's folder; return 0, or 1 where a listener has not heard all. Raises what is wrong
    with a listener (``AiflowError``)."""
    from aiflow_sdk.code import enter_project
    from aiflow_sdk.config import resolve_secrets
    from aiflow_sdk.config.secret import HANDED
    from aiflow_sdk.ir import thaw
    from aiflow_sdk.lineage import position_of, settle, spools_below
    from aiflow_sdk.plan import read_plan
    from aiflow_sdk.plugins import Listener, load_plugin
    from aiflow_sdk.runtime.delivery import Delivery, close_all
    from aiflow_sdk.runtime.task import bound_environment

    deadline = time.monotonic() + FORWARD_SECONDS
    HANDED.update(order.get("secrets") or {})
    folder, root = Path(order["events"]), Path(order["project"])
    plan = read_plan(Path(order["plan"]).read_bytes())
    enter_project(root)
    environment = bound_environment(plan, root)
    settle(folder)
    spools = spools_below(folder)
    deliveries = []
    for stated in plan.environment.listeners:
        plugin = load_plugin(stated.plugin, Listener, kind=stated.kind)
        listener = plugin.load(resolve_secrets(thaw(stated.options), environment), environment)
        deliveries.append(Delivery(stated.name, listener, environment.name, _say))
    for delivery in deliveries:
        for spool in spools:
            if position_of(spool, environment.name, delivery.name).exists():
                delivery.notice(spool)
    close_all(deliveries, deadline - time.monotonic())
    return int(any(delivery.is_behind(spool) for delivery in deliveries for spool in spools))


@contextmanager
def _ended_when_it_hangs() -> Iterator[None]:
    # Nothing is said: whoever hangs may hold the lock of the output, and the task listens no more.
    watchdog = threading.Timer(HUNG_SECONDS, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


@contextmanager
def _turn(folder: Path) -> Iterator[bool]:
    """Wait until nobody else forwards; False where somebody waits already, who will find what we would."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    waiting, forwarding = (os.open(folder / name, flags, 0o644) for name in ("waiting.lock", "forwarding.lock"))
    try:
        try:
            fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        fcntl.flock(forwarding, fcntl.LOCK_EX)
        fcntl.flock(waiting, fcntl.LOCK_UN)
        yield True
    finally:
        os.close(waiting)
        os.close(forwarding)


def _say(message: str) -> None:
    with suppress(OSError):  # the task that started this does not listen any more
        print(message, flush=True)


if __name__ == "__main__":
    main()
