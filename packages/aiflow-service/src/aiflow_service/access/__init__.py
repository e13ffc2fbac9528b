"""Who may see what: the one value that every query goes through."""

from aiflow_service.access.scope import EVERYTHING, Scope

__all__ = ["EVERYTHING", "Scope"]
