"""What a pipeline is called in Airflow, and in which part of its project's documents it stands."""

from __future__ import annotations

import hashlib
import re

SHARDS = 32
"""For ever: readers look for a DAG where it was published, and Airflow's files are named by it.

More would make a change visible sooner, since the DAGs of a file are read again together; fewer come up sooner from
nothing, since each file is a process and a transaction of the DAG processor's.
"""

_LONGEST = 250
_ESCAPE = "-0x"
"""``é`` is ``-0xe9-``; the sign itself, which nobody writes, is ``-0x2d-0x``."""
_ESCAPED = re.compile(r"-(?=0x)|[^A-Za-z0-9_.-]")
_CUT = f"{_ESCAPE}h"
"""Marks a shortened id; no escape has an ``h``, so that a short id never looks like one."""
_DEFAULT_PROJECT = "default"


def dag_id_of(project: str, pipeline_id: str) -> str:
    """Return the DAG's id: the pipeline's in the project ``default``, else ``project.id``.

    Airflow takes 250 characters of ``A-Za-z0-9_.-``: others are escaped, a longer id is cut and carries a hash of the
    whole. Different texts give different ids; but ``a.b`` of ``default`` and ``b`` of ``a`` are one text, which is
    refused when they are published.
    """
    text = pipeline_id if project == _DEFAULT_PROJECT else f"{project}.{pipeline_id}"
    escaped = _ESCAPED.sub(lambda found: f"{_ESCAPE}{ord(found[0]):x}-", text)
    if len(escaped) <= _LONGEST:
        return escaped
    tail = f"{_CUT}{hashlib.sha256(escaped.encode()).hexdigest()[:24]}"
    return escaped[: _LONGEST - len(tail)] + tail


def shard_of(dag_id: str) -> str:
    """Return the shard of a DAG as two hexadecimal digits, ``00`` to ``1f``."""
    return f"{hashlib.sha256(dag_id.encode()).digest()[0] % SHARDS:02x}"
