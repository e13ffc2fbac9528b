"""Keeps what the service knows: backups, restoring them, moving to another database."""

from aiflow_service.keeping.transfer import Transferred, back_up, move, restore

__all__ = ["Transferred", "back_up", "move", "restore"]
