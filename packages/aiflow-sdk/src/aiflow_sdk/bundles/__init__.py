"""The store of what is deployed: immutable objects known by their content, and a numbered release that points at them.

``<address>/<environment>/objects/<aa>/<sha256>`` holds plans, definitions, the user's code as a wheel, requirements and
the documents of :mod:`aiflow_sdk.bundles.model`; ``<address>/<environment>/releases/<20 digits>`` says which bundle is
current. From a release to a plan::

    store = BundleStore.open(address, "prod")
    bundle = store.bundle(store.newest().version)
    document = store.project(bundle.projects["shop"])
    entry = store.shard(document.shards[shard_of(dag_id)])[dag_id]
    plan = read_plan(store.read(entry.plan))
"""

from aiflow_sdk.bundles.identity import SHARDS, dag_id_of, shard_of
from aiflow_sdk.bundles.model import BundleDocument, Entry, Note, ProjectDocument, Release, StoredFile, digest
from aiflow_sdk.bundles.publication import Change, Content, Publication
from aiflow_sdk.bundles.reader import ObjectReader
from aiflow_sdk.bundles.store import BundleStore, Collected

__all__ = [
    "SHARDS",
    "BundleDocument",
    "BundleStore",
    "Change",
    "Collected",
    "Content",
    "Entry",
    "Note",
    "ObjectReader",
    "ProjectDocument",
    "Publication",
    "Release",
    "StoredFile",
    "dag_id_of",
    "digest",
    "shard_of",
]
