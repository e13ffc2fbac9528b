"""Who may see and do what: the one value that every query goes through, and how it comes about."""

from aiflow_service.access.callers import Callers, Credential, Unknown
from aiflow_service.access.changes import Change, audited, entry_of, record
from aiflow_service.access.roles import Role, role_named
from aiflow_service.access.scope import EVERYTHING, Caller, Denied, Scope, Unseen

__all__ = [
    "EVERYTHING",
    "Caller",
    "Callers",
    "Change",
    "Credential",
    "Denied",
    "Role",
    "Scope",
    "Unknown",
    "Unseen",
    "audited",
    "entry_of",
    "record",
    "role_named",
]
