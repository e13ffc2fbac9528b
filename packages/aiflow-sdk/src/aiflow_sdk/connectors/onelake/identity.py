"""What a write is known by: what a table's log notes of it, and whose each data file is.

The log's application transactions ("Transaction Identifiers" of the Delta protocol) hold, under names of ours, whole
numbers. They survive checkpoints and log cleaning, so they and nothing beside the table say what was written:

- ``aiflow:ENV/PROJECT/PIPELINE/NODE/PARTITION`` the generation of the newest execution that wrote the partition;
- ``aiflow:files/OWNER`` how many files that an owner added the table holds (of added and merged rows);
- ``aiflow:over/OWNER`` how many rows of others the owner's merged rows took the place of;
- ``aiflow:under/OWNER`` whether (1, 0) a row that the owner merged stands beneath one of others;
- ``aiflow:withdrawn`` how often rows in whose place those of others had stood were deleted or made lower,
  ``aiflow:withdrawn/PARTITION`` how often that was when it was last done for the partition, and
  ``aiflow:since/OWNER`` how often that was when the owner merged its rows;
- ``aiflow:by-partition`` whether (1, 0) all rows of the table were merged in the order of their partitions, so that
  none stands beneath one of an earlier partition;
- ``aiflow:made/COLUMN=VALUE`` the generation of whoever made a partition last;
- ``aiflow:begun/COLUMN=VALUE`` how many pipelines make the partition by several sinks of which some have not written
  yet, and ``aiflow:waits/ENV/PROJECT/PIPELINE@COLUMN=VALUE`` whether (1, 0) that pipeline is one of them.

A data file's folder says whose it is: ``w-WRITE/p-PARTITION/gGENERATION-eEXECUTION-aATTEMPT-RANDOM/…``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from aiflow_sdk.connectors.onelake.values import stored_text
from aiflow_sdk.connectors.onelake.writers import Writer
from aiflow_sdk.plan import Run

_OWNED = re.compile(r"w-(?P<write>[0-9a-f]{16})/p-(?P<part>[0-9A-Za-z-]+)/g[0-9]+-")
WHOLE = "all"
"""The part of a run that is for no partition, or for a range of them."""
WITHDRAWN_APP = "aiflow:withdrawn"
"""The name under which the log notes how often rows were deleted or lowered that had replaced those of others."""
BY_PARTITION_APP = "aiflow:by-partition"
"""The name under which the log notes whether of two rows with one key that of the later partition always stood."""


@dataclass(frozen=True, order=True)
class Owner:
    """Whose rows a data file holds: those of one sink of one pipeline, for one partition of its runs."""

    write: str
    """Digest of environment, project, pipeline and node."""
    part: str
    """``2026-11-20-day``: the partition's key and its grain, whatever the time zone; or ``all``."""

    @classmethod
    def of_run(cls, run: Run, node_id: str) -> Owner:
        """Return the owner of what a run writes by a sink."""
        digest = Writer.of_run(run, node_id).digest
        partitions = run.partitions
        if len(partitions) != 1:
            return cls(digest, WHOLE)
        (one,) = partitions
        return cls(digest, f"{one.key.replace(':', '').replace('+', 'p')}-{one.grain}")

    @classmethod
    def of_file(cls, path: str) -> Owner | None:
        """Return whose the file of a table is; None where it is not of ours."""
        found = _OWNED.match(path)
        return cls(found["write"], found["part"]) if found else None

    def under(self, writer: Writer) -> Owner:
        """Return the owner of what another writer has for the same partition."""
        return replace(self, write=writer.digest)

    @property
    def folder(self) -> str:
        """The folder, below the table's, that the owner's files lie in."""
        return f"w-{self.write}/p-{self.part}"

    @property
    def files_app(self) -> str:
        """The name under which the log notes how many files the owner has in the table."""
        return f"aiflow:files/{self.write}/{self.part}"

    @property
    def over_app(self) -> str:
        """The name under which the log notes how many rows of others were replaced by the owner's."""
        return f"aiflow:over/{self.write}/{self.part}"

    @property
    def under_app(self) -> str:
        """The name under which the log notes whether a row that the owner merged stands beneath one of others."""
        return f"aiflow:under/{self.write}/{self.part}"

    @property
    def since_app(self) -> str:
        """The name under which the log notes the number of ``WITHDRAWN_APP`` when the owner merged its rows."""
        return f"aiflow:since/{self.write}/{self.part}"

    @property
    def withdrawn_app(self) -> str:
        """The name under which the log notes the number of ``WITHDRAWN_APP`` when the partition last raised it."""
        return f"{WITHDRAWN_APP}/{self.part}"

    def may_have_written(self, path: str) -> bool:
        """Whether a table's file was written by the owner's sink, for whatever partition: a quick look at its path."""
        return path.startswith(f"w-{self.write}/")

    def outranks(self, other: Owner | None) -> bool:
        """Whether a row of this owner, written now, takes the place of one of the other's: not of a later partition's.

        What has no partition, or is nobody's, has no order but that of the commits.
        """
        return other is None or WHOLE in (self.part, other.part) or _moment(self.part) >= _moment(other.part)

    def may_share_rows(self, other: Owner) -> bool:
        """Whether the other's files may hold rows of what this owner's run is for, were they of one sink."""
        return self.part == other.part or self._grain != other._grain

    def may_hold(self, other: Owner) -> bool:
        """Whether files of this owner may hold rows that a run of ``other`` would write, without it being told: the
        same sink wrote them, by a run for several partitions or for one of another grain."""
        return self.write == other.write and self._grain != other._grain

    @property
    def _grain(self) -> str:
        return self.part.rpartition("-")[2]


def _moment(part: str) -> tuple[str, int]:
    """Return what parts sort by: the local time; of an hour that the clocks show twice the first comes first."""
    key = part.rpartition("-")[0]
    local, sign, offset = key[:13], key[13:14], key[14:]
    return local, (-1 if sign == "p" else 1) * int(offset) if offset.isdigit() else 0


def new_folder(run: Run, node_id: str) -> str:
    """Return the folder, below the table's, of one attempt's files. It holds nothing yet.

    It does not begin with ``_``: Delta's vacuum passes such folders by.
    """
    own = f"g{run.generation}-e{run.execution}-a{run.attempt}-{uuid4().hex[:16]}"
    return f"{Owner.of_run(run, node_id).folder}/{own}"


def rewritten_folder(owner: Owner | None, generation: int) -> str:
    """Return a folder for what is left of an owner's files after some rows of them went."""
    own = f"g{generation}-rewritten-{uuid4().hex[:16]}"
    return f"{owner.folder}/{own}" if owner else own


def partition_app(run: Run, key: str | None, node_id: str) -> str:
    """Return the name of the write for one partition of the run, or for none: the whole table."""
    return Writer.of_run(run, node_id).app(key)


def written_app(run: Run, node_id: str, values: dict[str, Any]) -> str:
    """Return the name of the write for one of the table's partitions, whatever the run is for."""
    return f"{partition_app(run, None, node_id)}@{_named(values)}"


def made_app(values: dict[str, Any]) -> str:
    """Return the name under which the log notes that a partition (column → typed value; none: the table) was made."""
    return f"aiflow:made/{_named(values)}"


def begun_app(values: dict[str, Any]) -> str:
    """Return the name under which the log notes how many pipelines have made a part of a partition and not all."""
    return f"aiflow:begun/{_named(values)}"


def waiting_app(run: Run, values: dict[str, Any]) -> str:
    """Return the name under which the log notes whether the run's pipeline is one of those."""
    return f"aiflow:waits/{run.environment}/{run.project}/{run.pipeline_id}@{_named(values)}"


def _named(values: dict[str, Any]) -> str:
    return "/".join(f"{quote(column)}={quote(stored_text(value) or '', safe='')}" for column, value in values.items())
