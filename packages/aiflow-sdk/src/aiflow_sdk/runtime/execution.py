"""What the tasks of one execution share although each runs in a process of its own: generation and pins.

The first task to begin claims them and leaves them beside the execution's staged frames, in
``<staging>/<run>/<execution>/execution.json``; whoever comes later takes what lies there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from aiflow_sdk.config import resolve_secrets
from aiflow_sdk.errors import StoreError
from aiflow_sdk.plan import Plan, Run
from aiflow_sdk.runtime.generation import claim_generation
from aiflow_sdk.runtime.identities import Data
from aiflow_sdk.stores import Store, open_store


class Joined(NamedTuple):
    """An execution as each of its tasks knows it."""

    run: Run
    """With the generation and the pins that all of them share."""
    is_again: bool
    """Whether the pipeline had written what the run is for before the execution began."""


def join_execution(plan: Plan, run: Run, root: Path) -> Joined:
    """Return what all tasks of the run's execution share.

    Idempotent: every task and attempt of one execution gets the same. Raises ``StoreError``.
    """
    data = Data(plan, root)
    environment = data.environment
    store = open_store(environment.staging_root, storage=resolve_secrets(dict(environment.storage), environment))
    key = f"{run.run_id}/{run.execution}/execution.json"
    agreed = _read(store, key)
    if agreed is None:
        known = data.newest_generation(run)
        generation = claim_generation(environment, run, known=known)
        # What the claim is signed with tells a put whose answer was lost from another task's.
        document = {
            "generation": generation,
            "pins": data.pins(run),
            "is_again": known > 0,
            "claim": uuid4().hex,
        }
        store.put_if_absent(key, json.dumps(document).encode())
        agreed = _read(store, key)
    if agreed is None:
        raise StoreError(
            "no-generation",
            f"what execution {run.execution} of run {run.run_id} agreed on is gone from {environment.staging_address}",
            hint="see who removes files from the environment's staging",
            retryable=True,
        )
    shared = {"generation": agreed["generation"], "pins": agreed["pins"]}
    return Joined(Run.model_validate({**dict(run), **shared}), agreed["is_again"])


def _read(store: Store, key: str) -> dict[str, Any] | None:
    text = store.read(key)
    return json.loads(text) if text else None
