"""One captured topic: which table it carries, under which contract, merged how far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.names import silver_table
from spark_streaming.contract.source_catalog import INTERNAL_SCHEMA
from spark_streaming.events.position import HighWater
from spark_streaming.quarantine.quarantined_rows import QuarantinedRows
from spark_streaming.schema.definitions import Pending
from spark_streaming.tables.silver_table import SilverTable


@dataclass
class Topic:
    """One table's topic. `silver` is None where the table is internal or refused.

    Args:
        names: gives a source table's silver name (`silver_names`).
        stamp: of the source's catalog at the last check; None before the first one.
        unchanged_at: a log position at which the contract still held.
        pendings: the next contracts, where the source's table changed, the oldest first.
        gone: whether the source dropped the table, before `gone_lsn`.
        collides: whether its silver name belongs to another source table.
        reached: for a table without events when it was added: the LSN before which it has none.
        retry_pending_at: when the pending change may be tried again, by the monotonic clock.
    """

    name: str
    schema: str
    table: str
    contract: Contract | None = None
    silver: SilverTable | None = None
    refusal: str | None = None
    checked_at: float = 0.0
    differences: frozenset[str] = frozenset()
    high_water: HighWater = field(default_factory=HighWater)
    quarantined: QuarantinedRows | None = None  # None: not read yet
    stamp: str | None = None
    unchanged_at: int = 0
    pendings: list[Pending] = field(default_factory=list)
    gone: bool = False
    gone_lsn: int = 0
    retry_pending_at: float = 0.0
    collides: bool = False
    reached: int | None = None
    names: Callable[[str, str], str] = silver_table

    @property
    def pending(self) -> Pending | None:
        """The change of the source's table that comes next in the stream."""
        return self.pendings[0] if self.pendings else None

    @property
    def reading(self) -> Contract | None:
        """The contract with its pending successors: events may use their names already."""
        later = tuple(pending.contract for pending in self.pendings)
        return (
            replace(self.contract, later_versions=later)
            if self.contract and later
            else self.contract
        )

    @property
    def source(self) -> tuple[str, str]:
        """The table in the source, (schema, name); a topic's name may have characters replaced."""
        if self.contract is None:
            return self.schema, self.table
        return self.contract.schema, self.contract.table

    @property
    def internal(self) -> bool:
        return self.schema == INTERNAL_SCHEMA

    @property
    def silver_name(self) -> str:
        return self.names(self.schema, self.table)

    @property
    def ledger_name(self) -> str:
        """The table's name in the ledger: the silver name, or the source name if another table owns the silver name."""
        return f"{self.schema}.{self.table}" if self.collides else self.silver_name
