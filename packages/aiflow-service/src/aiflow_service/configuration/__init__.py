"""Connections and variables per team and environment: versioned, with references to secrets and never a secret."""

from aiflow_service.configuration.items import (
    Conflict,
    Kind,
    LiteralSecret,
    change_item,
    find_item,
    list_items,
    list_versions,
)

__all__ = ["Conflict", "Kind", "LiteralSecret", "change_item", "find_item", "list_items", "list_versions"]
