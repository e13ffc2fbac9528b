"""Generations: whole numbers that grow with each execution of a pipeline in an environment, agreed on by all machines.

They are claimed in the lake itself, by files that exactly one of many can put there:
``_generations/<environment>/<project>/<pipeline>/<generation>``. A claim counts once nothing greater is there, so that
an old one that was swept away meanwhile is never taken a second time.
"""

from __future__ import annotations

from uuid import uuid4

from aiflow_sdk.config import GENERATIONS, Environment, resolve_secrets
from aiflow_sdk.errors import StoreError
from aiflow_sdk.plan import Run
from aiflow_sdk.stores import folder_name, open_store

_KEPT_CLAIMS = 100
_MOST_CLAIMS = 200
_TRIES = 1000


def claim_generation(environment: Environment, run: Run, *, known: int = 0) -> int:
    """Claim the next generation for the pipeline of ``run`` and return it.

    It lies above all that anybody claimed in the environment's lake, and above ``known``: what the tables themselves
    note. Raises ``StoreError`` where none can be claimed.
    """
    storage = resolve_secrets(dict(environment.storage), environment)
    store = open_store(environment.own_root.address, storage=storage)
    folder = "/".join((GENERATIONS, *map(folder_name, (run.environment, run.project, run.pipeline_id))))
    claim = f"{run.run_id} {uuid4().hex}\n".encode()
    for _ in range(_TRIES):
        generation = max(_newest(store.list(folder)), known) + 1
        if not store.put_if_absent(f"{folder}/{generation:020}", claim):
            continue
        claims = store.list(folder)
        if _newest(claims) == generation:
            if len(claims) > _MOST_CLAIMS:
                store.delete(claims[:-_KEPT_CLAIMS])
            return generation
    raise StoreError(
        "no-generation",
        f"no generation can be claimed for '{run.pipeline_id}': others were faster {_TRIES} times",
        hint="run it again, with fewer at once",
        retryable=True,
    )


def _newest(claims: list[str]) -> int:
    return max((int(name) for key in claims if (name := key.rpartition("/")[2]).isdigit()), default=0)
