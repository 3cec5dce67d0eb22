"""One captured topic: the table it carries, its contract, and how far it is merged.

Only the methods of `Topic` change its state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.contract.names import INTERNAL_SCHEMA, silver_table
from spark_streaming.events.position import HighWater
from spark_streaming.quarantine.quarantined_rows import QuarantinedRows
from spark_streaming.schema.definitions import Pending
from spark_streaming.tables.silver_table import SilverTable


@dataclass(frozen=True)
class InCatalog:
    """A table's entry in the source's catalog, as the last check saw it.

    Args:
        stamp: a digest of the entry; None before the first check and if the table is gone.
        unchanged_at: a log position at which the contract still held.
        gone_by: the log position before which the source dropped the table; None if it exists.
    """

    stamp: str | None = None
    unchanged_at: Lsn = LOG_START
    gone_by: int | None = None


@dataclass
class Topic:
    """One table's topic. `silver` is None if the table is internal or refused.

    Args:
        names: gives a source table's silver name (`silver_names`).
        pendings: the next contracts after changes of the source's table, the oldest first.
        collides: whether its silver name belongs to another source table.
        reached: for a table that had no events when it was added: the LSN before which it has none.
    """

    name: str
    schema: str
    table: str
    contract: Contract | None = None
    silver: SilverTable | None = None
    refusal: str | None = None
    high_water: HighWater = field(default_factory=HighWater)
    quarantined: QuarantinedRows | None = None  # None until it is read
    catalog: InCatalog = InCatalog()
    pendings: list[Pending] = field(default_factory=list)
    collides: bool = False
    reached: int | None = None
    names: Callable[[str, str], str] = silver_table

    # -- how it changes

    def named_by(self, contract: Contract) -> None:
        """Take the table's name from its contract: the topic's name may have lost characters."""
        self.schema, self.table = contract.schema, contract.table

    def refuse(self, reason: str | None, *, collides: bool | None = None) -> None:
        """Refuse the table, or admit it if `reason` is None. `collides`: None keeps its value."""
        self.refusal = reason
        self.collides = self.collides if collides is None else collides

    def adopt(self, contract: Contract, silver: SilverTable | None = None) -> None:
        """Follow a contract; `silver`, which holds its rows, follows it already."""
        self.contract, self.silver = contract, silver or self.silver
        self.quarantined = None  # it is keyed by the contract's key, so it must be read again

    def expect(self, pendings: Iterable[Pending]) -> None:
        """Replace the changes that silver has not followed yet."""
        self.pendings = list(pendings)

    def seen(self, stamp: str | None, at: Lsn) -> None:
        """Note that the catalog has this entry of the table at a log position."""
        self.catalog = InCatalog(stamp, at)

    def dropped(self, by: int) -> None:
        """Note that the catalog no longer has the table at a log position."""
        first = by if self.catalog.gone_by is None else self.catalog.gone_by
        self.catalog = replace(self.catalog, stamp=None, gone_by=first)

    def merged(self, high_water: HighWater) -> None:
        """Note that its events up to a mark are merged."""
        self.high_water = high_water

    def read_quarantine(self, rows: QuarantinedRows | None) -> None:
        """Note which of its rows are in quarantine; None: they must be read again."""
        self.quarantined = rows

    # -- derived facts

    @property
    def gone(self) -> bool:
        """Whether the source dropped the table."""
        return self.catalog.gone_by is not None

    @property
    def pending(self) -> Pending | None:
        """The change of the source's table that comes next in the stream."""
        return self.pendings[0] if self.pendings else None

    @property
    def reading(self) -> Contract | None:
        """The contract with the columns of pending ones: events may use their names already."""
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
        """The table's name in the ledger: the silver name, or the source name if `collides`."""
        return f"{self.schema}.{self.table}" if self.collides else self.silver_name
