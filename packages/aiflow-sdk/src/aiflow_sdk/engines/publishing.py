"""Several writes become visible: all are handed over and audited before the first is published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from aiflow_sdk.engines.usercode import plugin_code
from aiflow_sdk.errors import AiflowError, ConfigurationError, Where
from aiflow_sdk.place import placed
from aiflow_sdk.plugins import Destination, FrameWrite, Pending, Written
from aiflow_sdk.stores import discard_folder


def publish_all(writes: Sequence[FrameWrite], hand_over: Sequence[Callable[[], Pending]]) -> list[Written]:
    """Publish the writes in their order, after the audit of each; if one is refused, all are withdrawn.

    ``hand_over`` gives the pending write of each. What was published before another failed to be stays: a task's writes
    are repeated together.
    """
    pending: list[Pending] = []
    published = 0
    try:
        for write, one in zip(writes, hand_over, strict=True):
            with placed(write.request.where):
                pending.append(one())
        for write, one_pending in zip(writes, pending, strict=True):
            with placed(write.request.where):
                _audit(write, one_pending)
        written: list[Written] = []
        for write, one_pending in zip(writes, pending, strict=True):
            published += 1
            with placed(write.request.where), plugin_code(write.sink):
                written.append(one_pending.publish())
        return written
    except BaseException:  # Ctrl-C too leaves nothing behind; it goes on up
        for one_pending in pending[published:]:
            with suppress(OSError, AiflowError):  # what failed first is told
                one_pending.withdraw()
        raise


def discard(destination: Destination) -> None:
    """Remove what was written for a sink that has not heard of it; what is left a vacuum will find."""
    with suppress(OSError, AiflowError):  # what failed first is told
        discard_folder(destination.folder.rstrip("/"), destination.storage_options, destination.root)


def _audit(write: FrameWrite, pending: Pending) -> None:
    if write.audit is None:
        return
    if pending.source is None:
        raise ConfigurationError(
            "no-audit",
            f"the sink '{write.sink.kind}' shows nothing of a write before it is published",
            where=Where(about=f"sink '{write.request.node_id}'"),
            hint="audit what is written to a table, or check the frame in a transform",
        )
    write.audit(pending)
