"""Keeps what the service knows: backups, restoring them, moving to another database; and lets go what is too old."""

from aiflow_service.keeping.retention import FOR_EVER, Retention, RetentionKeeper, let_go
from aiflow_service.keeping.transfer import Transferred, back_up, move, restore

__all__ = [
    "FOR_EVER",
    "Retention",
    "RetentionKeeper",
    "Transferred",
    "back_up",
    "let_go",
    "move",
    "restore",
]
