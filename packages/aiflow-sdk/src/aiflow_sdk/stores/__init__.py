"""Storage that says "not there yet" in one atomic step: what locks, claims and single publications stand on."""

from aiflow_sdk.stores.files import (
    folder_name,
    has_link,
    make_folder,
    replace_file,
    replace_private_file,
    try_lock,
    writing,
)
from aiflow_sdk.stores.folder import FolderStore
from aiflow_sdk.stores.objects import ObjectStore, store_error, store_failures
from aiflow_sdk.stores.storage import driver_options, server_variables
from aiflow_sdk.stores.store import Store, discard_folder, open_folder, open_store
from aiflow_sdk.stores.usage import Usage

__all__ = [
    "FolderStore",
    "ObjectStore",
    "Store",
    "Usage",
    "discard_folder",
    "driver_options",
    "folder_name",
    "has_link",
    "make_folder",
    "open_folder",
    "open_store",
    "replace_file",
    "replace_private_file",
    "server_variables",
    "store_error",
    "store_failures",
    "try_lock",
    "writing",
]
