"""The audit's format: a chain of hashes over its rows, signed checkpoints of it, and the check of both.

The metadata service writes by it (``aiflow_service.audit``); ``aiflow audit verify`` checks by it, on the service or on
a file that was exported. docs/audit.md describes it for other programs.
"""

from aiflow_sdk.audit.chain import (
    CHECKPOINT_SIGNED,
    DATABASE_FILLED,
    GENESIS,
    AuditRow,
    canonical_details,
    chained_hash,
    export_line,
    read_line,
    told_checkpoint,
)
from aiflow_sdk.audit.checkpoints import (
    Checkpoint,
    Checkpoints,
    checkpoint_key,
    key_id,
    newest_checkpoint,
    open_checkpoints,
    public_key_text,
    read_checkpoint,
    signed_bytes,
)
from aiflow_sdk.audit.verification import Finding, Verdict, verify_chain

__all__ = [
    "CHECKPOINT_SIGNED",
    "DATABASE_FILLED",
    "GENESIS",
    "AuditRow",
    "Checkpoint",
    "Checkpoints",
    "Finding",
    "Verdict",
    "canonical_details",
    "chained_hash",
    "checkpoint_key",
    "export_line",
    "key_id",
    "newest_checkpoint",
    "open_checkpoints",
    "public_key_text",
    "read_checkpoint",
    "read_line",
    "signed_bytes",
    "told_checkpoint",
    "verify_chain",
]
