"""Who did what: recorded with the change itself, in a chain that the database protects and checkpoints vouch for.

Low enough that every noun may record: this package knows the database, and nothing of the API or of access.
"""

from aiflow_service.audit.entries import Caller, Entry
from aiflow_service.audit.keeping import AuditKeeper
from aiflow_service.audit.reading import AuditFilter, export_entries, list_entries, verify_entries
from aiflow_service.audit.recording import record
from aiflow_service.audit.signing import CheckpointMemory, CheckpointWriter, read_signing_key
from aiflow_service.audit.taking import TakenEntry, last_taken, take_entries

__all__ = [
    "AuditFilter",
    "AuditKeeper",
    "Caller",
    "CheckpointMemory",
    "CheckpointWriter",
    "Entry",
    "TakenEntry",
    "export_entries",
    "last_taken",
    "list_entries",
    "read_signing_key",
    "record",
    "take_entries",
    "verify_entries",
]
