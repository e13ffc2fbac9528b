"""Tells a receiver on this machine of every run of a project's folder, past ones and those under way, as they go on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from aiflow_sdk.lineage import spools_below
from aiflow_sdk.local.ends import tell_ends
from aiflow_sdk.local.store import runs_folder
from aiflow_sdk.plugins import Listener
from aiflow_sdk.runtime.courier import Courier, Outcome

_LOOK_SECONDS = 0.5
_ENDS_SECONDS = 10.0
"""How often it is looked for runs that were killed."""
_LOGGER = logging.getLogger("aiflow.events")


class Follower:
    """Sends the events of a project's runs to one listener until :meth:`stop`, in a thread of its own.

    It begins with the first event of every run, whatever was sent before: the receiver may be new, and counts each
    event once. ``name`` tells its places in the spools from those of others.
    """

    def __init__(self, root: Path, listener: Listener, name: str) -> None:
        self._root = root
        self._folder = runs_folder(root)
        self._courier = Courier(name, listener, "any")
        self._begun: set[Path] = set()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more; what is being sent is waited for."""
        self._is_over.set()
        self._thread.join()
        self._courier.listener.close()

    def _follow(self) -> None:
        looked = float("-inf")
        looked_at: Mapping[str, int] = {}
        while not self._is_over.is_set():
            try:
                if time.monotonic() - looked >= _ENDS_SECONDS:
                    looked = time.monotonic()
                    looked_at = tell_ends(self._root, looked_at)
                pause = self.send() or _LOOK_SECONDS
            except Exception:  # the last guard of the thread: nobody would notice that no run is heard of any more
                _LOGGER.exception("the runs in %s cannot be told of just now", self._folder)
                pause = _ENDS_SECONDS
            self._is_over.wait(pause)

    def send(self) -> float | None:
        """Send what there is now; return how many seconds the receiver asks to be left alone."""
        for spool in spools_below(self._folder):
            if self._is_over.is_set():
                return None
            if spool not in self._begun:
                try:
                    if not self._courier.begin_again(spool):
                        continue  # somebody else follows too, for the same receiver
                except OSError:
                    continue  # the run was removed meanwhile, or its folder may only be read
                self._begun.add(spool)
            if not self._courier.is_behind(spool):
                continue
            sent = self._courier.send(spool)
            if sent.outcome is Outcome.AWAY:
                return sent.pause_seconds
        return None
