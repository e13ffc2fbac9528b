"""Checks a chain of rows against itself and against checkpoints, as they stream by.

Each row holds the hash of the row before it, so that a row which was changed is told by itself, a row that is gone by
its number, and rows that were rewritten, hashes and all, by the row behind them or by the next checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiflow_sdk.audit.chain import (
    CHECKPOINT_SIGNED,
    DATABASE_FILLED,
    GENESIS,
    AuditRow,
    chained_hash,
    told_checkpoint,
)
from aiflow_sdk.audit.checkpoints import Checkpoint, Checkpoints

_MOST_FINDINGS = 1_000


class Finding(NamedTuple):
    """Something that is wrong, and with which rows.

    Kinds: ``altered`` (a row was changed), ``missing`` (rows are gone), ``repeated`` (rows are not in their order),
    ``rewritten`` (rows were changed with their hashes), ``checkpoint-missing``, ``checkpoint-forged``,
    ``checkpoint-unknown-key`` (these without rows).
    """

    kind: str
    first: int | None
    last: int | None
    says: str


@dataclass
class Verdict:
    """What a check has found."""

    rows: int = 0
    first_seq: int | None = None
    last_seq: int | None = None
    last_hash: str | None = None
    checkpoints: int = 0
    """How many agreed."""
    signed_seq: int = 0
    """The last row that a checkpoint vouches for; who can write to the database may have changed later ones unseen."""
    told_number: int = 0
    """The greatest number of a checkpoint that the rows themselves tell of."""
    findings: list[Finding] = field(default_factory=list)
    is_cut: bool = False
    """Whether there were more findings than are listed."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "is_sound": self.is_sound,
            "rows": self.rows,
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "last_hash": self.last_hash,
            "checkpoints": self.checkpoints,
            "signed_seq": self.signed_seq,
            "findings": [one._asdict() for one in self.findings],
            "is_cut": self.is_cut,
        }

    def compare(self, read: Checkpoints) -> None:
        """Add what is wrong with the checkpoints of a place, and that one is not there which the rows tell of."""
        for kind, says in read.problems:
            self.add(kind, None, None, says)
        if self.told_number > read.newest:
            says = f"the rows tell of checkpoint {self.told_number}, and "
            says += f"the last one at {read.address} is {read.newest}" if read.newest else f"none is at {read.address}"
            self.add("checkpoint-missing", None, None, says)

    def add(self, kind: str, first: int | None, last: int | None, says: str) -> None:
        """Note a finding; one that continues the one before becomes a part of it."""
        before = self.findings[-1] if self.findings else None
        if before and before.kind == kind and first is not None and before.last == first - 1:
            self.findings[-1] = before._replace(last=last)
        elif len(self.findings) < _MOST_FINDINGS:
            self.findings.append(Finding(kind, first, last, says))
        else:
            self.is_cut = True


def verify_chain(
    rows: Iterable[AuditRow],
    checkpoints: Iterable[Checkpoint] = (),
    *,
    begins_at: int = 1,
    ends_at: int = 0,
    is_partial: bool = False,
) -> Verdict:
    """Check rows that come in the order of their numbers.

    ``begins_at``: the number of the first; what stands before it is then not looked at. ``ends_at``: how many were
    numbered, as far as that is known. ``is_partial``: rows were left out on purpose, so gaps say nothing.
    """
    verdict = Verdict()
    signed = {one.seq: one for one in checkpoints}
    last_seq, last_hash, is_last_sound, is_linked = begins_at - 1, GENESIS, True, begins_at == 1
    for row in rows:
        seq = row.seq
        computed = chained_hash(row)
        if seq < begins_at:
            verdict.add("altered", seq, seq, f"row {seq} was never recorded: their numbers begin at {begins_at}")
            continue
        if seq <= last_seq:
            verdict.add("repeated", seq, seq, f"row {seq} comes after row {last_seq}")
            continue
        if seq != last_seq + 1:
            if not is_partial:
                verdict.add("missing", last_seq + 1, seq - 1, _gone(last_seq + 1, seq - 1))
            is_linked = False
        is_sound = computed == row.hash != b""
        if not is_sound:
            verdict.add("altered", seq, seq, f"row {seq} is not what was recorded")
        elif is_linked and is_last_sound and row.previous != last_hash:
            says = f"row {last_seq} was rewritten, hash and all, or was put in another's place"
            if last_seq > verdict.signed_seq + 1:
                says += f"; whether rows from {verdict.signed_seq + 1} on were too cannot be told"
            if last_seq:
                verdict.add("rewritten", last_seq, last_seq, says)
            else:
                verdict.add("missing", None, None, "what stood before row 1 is gone")
        if (checkpoint := signed.get(seq)) is not None:
            if checkpoint.hash in (row.hash.hex(), computed.hex()):
                verdict.checkpoints += 1
                verdict.signed_seq = seq
            else:
                says = f"the rows up to {seq} are not those that checkpoint {checkpoint.number} signed"
                first = verdict.signed_seq + 1
                before = verdict.findings[-1] if verdict.findings else None
                if before and before.kind == "rewritten" and before.first == first:
                    verdict.findings[-1] = before._replace(last=seq)
                else:
                    verdict.add("rewritten", first, seq, says)
        if row.action in (CHECKPOINT_SIGNED, DATABASE_FILLED) and (told := told_checkpoint(row)) is not None:
            verdict.told_number = max(verdict.told_number, told) if told else 0
        verdict.rows += 1
        if verdict.first_seq is None:
            verdict.first_seq = seq
        last_seq, last_hash, is_last_sound, is_linked = seq, row.hash, is_sound, True
    if verdict.rows:
        verdict.last_seq, verdict.last_hash = last_seq, last_hash.hex()
    end = max([ends_at, *signed])
    if end > last_seq and not is_partial:
        how = "a checkpoint" if end in signed else "the counter"
        verdict.add("missing", last_seq + 1, end, f"{_gone(last_seq + 1, end)}: {how} knows of row {end}")
    return verdict


def _gone(first: int, last: int) -> str:
    return f"row {first} is gone" if first == last else f"rows {first} to {last} are gone"
