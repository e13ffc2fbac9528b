"""The options of an object store, one set of names for every driver.

Delta (delta-rs), polars and obstore stand on one library (object_store), whose names :func:`driver_options` gives; the
embedded Spark takes the same as environment variables (:func:`server_variables`). What is not said here the drivers
look for where the cloud's own tools do: environment variables, an instance's role, a workload identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiflow_sdk.config import Address, storage_options
from aiflow_sdk.errors import ConfigurationError, did_you_mean

_DEFAULTS = {"timeout": "60s", "retry_timeout": "20s"}
"""Without these delta-rs tries for three minutes, and polars waits for ever on a store that says nothing."""


def driver_options(address: Address, storage: Mapping[str, Any]) -> dict[str, str]:
    """Return the options as object_store, and with it delta-rs and polars, calls them; of a folder none.

    Raises ``ConfigurationError`` (``bad-storage``) for one that the store does not have.
    """
    if address.is_folder:
        return {}
    known = storage_options(address.kind)
    for name in storage:
        if name not in known:
            raise ConfigurationError(
                "bad-storage",
                f"a store at {address.uri} has no option '{name}'",
                hint=did_you_mean(name, known) or f"options: {', '.join(sorted(known))}",
            )
    options = {**_DEFAULTS, **{known[name]: _text(name, value) for name, value in storage.items()}}
    if address.kind == "azure":
        account = address.host.partition("/")[0]
        options.setdefault("azure_storage_account_name", account)
        if not options["azure_storage_account_name"]:
            raise ConfigurationError(
                "bad-storage",
                f"the address {address.uri} names no account",
                hint='add account = "…" to [environments.NAME.storage], or write abfss://container@account.…',
            )
    return options


def server_variables(address: Address, storage: Mapping[str, Any]) -> dict[str, str]:
    """Return the options as environment variables, as the embedded Spark and the clouds' own tools know them."""
    renamed = {"AZURE_STORAGE_ENDPOINT": "AZURE_ENDPOINT"}
    options = {name.upper(): value for name, value in driver_options(address, storage).items()}
    if options.pop("ALLOW_HTTP", "false") == "true":
        options["AWS_ALLOW_HTTP" if address.kind == "s3" else "AZURE_ALLOW_HTTP"] = "true"
    for name in ("TIMEOUT", "CONNECT_TIMEOUT", "RETRY_TIMEOUT"):
        options.pop(name, None)
    return {**options, **{new: options[old] for old, new in renamed.items() if old in options}}


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if name.endswith("_seconds"):
        return f"{value}s"
    return value if isinstance(value, str) else str(value)  # a Secret stays one, which no repr shows
