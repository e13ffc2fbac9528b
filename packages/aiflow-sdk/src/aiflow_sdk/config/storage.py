"""The options of an object store, as ``[environments.NAME.storage]`` holds them: one set of names for every driver.

Each stands beside its name in object_store, the library below delta-rs, polars and obstore.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiflow_sdk.config.address import StoreKind

S3_OPTIONS: Mapping[str, str] = {
    "region": "aws_region",
    "endpoint": "aws_endpoint_url",
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
    "virtual_hosted": "aws_virtual_hosted_style_request",
}
"""Option of an S3 store → its name in object_store."""

AZURE_OPTIONS: Mapping[str, str] = {
    "account": "azure_storage_account_name",
    "account_key": "azure_storage_account_key",
    "sas_token": "azure_storage_sas_token",
    "tenant_id": "azure_storage_tenant_id",
    "client_id": "azure_storage_client_id",
    "client_secret": "azure_storage_client_secret",
    "authority_host": "azure_storage_authority_host",
    "endpoint": "azure_storage_endpoint",
    "bearer_token": "azure_storage_token",
    "use_fabric_endpoint": "azure_use_fabric_endpoint",
}
"""Option of an Azure store → its name in object_store."""

CLIENT_OPTIONS: Mapping[str, str] = {
    "allow_http": "allow_http",
    "timeout_seconds": "timeout",
    "connect_timeout_seconds": "connect_timeout",
    "retry_seconds": "retry_timeout",
}
"""Options of every object store: plain HTTP for a store on this machine, how long a request may take, and how long one
that failed is tried again."""


def storage_options(kind: StoreKind) -> dict[str, str]:
    """Return option → name in object_store, of all options that a store of this kind has; a folder has none."""
    match kind:
        case "s3":
            return {**S3_OPTIONS, **CLIENT_OPTIONS}
        case "azure":
            return {**AZURE_OPTIONS, **CLIENT_OPTIONS}
        case "folder":
            return {}
