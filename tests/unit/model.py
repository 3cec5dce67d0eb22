"""A model of silver, to prove folding and merging by.

`Silver` applies folded batches by the rules that every merge engine has to keep. After the last
batch of a `Source`'s events its rows must be the source's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.types import Column
from spark_streaming.events.envelope import HighWater, RawEvent, decode
from spark_streaming.events.event import Reject
from spark_streaming.fold.keyed import Folded, fold
from tests.unit.source_model import Row, Source

__all__ = [
    "BAG",
    "KEYED",
    "Row",
    "Silver",
    "Source",
    "fold_batches",
    "history",
    "split",
    "split_apart",
]

KEYED = Contract(
    schema="public",
    table="films",
    columns=(
        Column("id", "integer", "int32", nullable=False, base_type="int4"),
        Column("note", "text", "text", base_type="text"),
        Column("big", "text", "text", toastable=True, base_type="text"),
    ),
    key=("id",),
)
BAG = Contract("public", "films", KEYED.columns, key=(), replica_identity="full")


@dataclass
class Silver:
    """What a silver table must hold after each merge."""

    contract: Contract
    rows: list[Row] = field(default_factory=list)

    def merge(self, folded: Folded) -> None:
        """Apply one folded batch as one commit."""
        oldest = max(folded.truncate_lsn or 0, folded.resnapshot_lsn or 0)
        self.rows = [row for row in self.rows if row["_lsn"] >= oldest]
        for change in folded.rows.to_pylist():
            if self.contract.is_keyless:
                self._merge_copy(change)
            else:
                self._merge_row(change)

    def _merge_row(self, change: Row) -> None:
        key = self._key(change)
        row = next((row for row in self.rows if self._key(row) == key), None)
        kept = [column for column in self._columns() if change.get(f"_keep_{column}")]
        if row is None:
            if change["_op"] == "u" and not kept:
                self.rows.append(self._stored(change))
            return
        if change["_guard_lsn"] < row["_lsn"]:
            return
        self.rows.remove(row)
        if change["_op"] == "u":
            self.rows.append({**self._stored(change), **{column: row[column] for column in kept}})

    def _merge_copy(self, change: Row) -> None:
        if change["_op"] == "i":
            self.rows.append(self._stored(change))
            return
        wanted = [change[column] for column in self._columns()]
        for row in self.rows:
            if [row[column] for column in self._columns()] == wanted:
                self.rows.remove(row)
                return

    def moved(self, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], Row]:
        """For `fold`: the rows of these keys that there are now."""
        return {key: row for row in self.rows if (key := self._key(row)) in keys}

    def present(self, keys: Sequence[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        """For `fold`: which keys there are now."""
        return set(keys) & {self._key(row) for row in self.rows}

    def content(self) -> Counter[tuple[Any, ...]]:
        """The rows without metadata, counted."""
        return Counter(tuple(row[column] for column in self._columns()) for row in self.rows)

    def _columns(self) -> list[str]:
        return [column.name for column in self.contract.columns]

    def _key(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.contract.key)

    def _stored(self, change: Row) -> Row:
        return {column: change[column] for column in [*self._columns(), "_lsn", "_committed_at"]}


def fold_batches(
    batches: Iterable[list[RawEvent]], contract: Contract
) -> tuple[Silver, list[Reject]]:
    """Silver after these batches, and what was rejected on the way."""
    silver, high_water, rejects = Silver(contract), HighWater(), []
    for batch in batches:
        decoded = decode(batch, contract, high_water)
        folded = fold(decoded.changes, contract, silver.moved, silver.present)
        rejects += decoded.rejects + folded.rejects
        silver.merge(folded)
        high_water = HighWater.from_json(high_water.merge(decoded.high_water).to_json())
    return silver, rejects


def split(events: Sequence[RawEvent], random: Random) -> list[list[RawEvent]]:
    """The events as one reader after the other gets them: cut anywhere, in their order."""
    cuts = sorted(random.randint(0, len(events)) for _ in range(random.randint(0, 8)))
    borders = [0, *cuts, len(events)]
    return [list(events[start:end]) for start, end in pairwise(borders)]


def split_apart(events: Sequence[RawEvent], random: Random) -> list[list[RawEvent]]:
    """Batches that get on in each partition on its own: one may be far behind another."""
    queues: dict[int, list[RawEvent]] = {}
    for event in events:
        queues.setdefault(event.partition, []).append(event)
    batches = []
    while any(queues.values()):
        batch: list[RawEvent] = []
        for queue in queues.values():
            taken = random.randint(0, len(queue))
            batch += queue[:taken]
            del queue[:taken]
        batches.append(batch)
    return batches


def history(
    random: Random,
    contract: Contract,
    partitions: int,
    steps: tuple[int, int],
    *,
    replays: bool,
    toast: bool = True,
) -> Source:
    """Some steps, the first snapshot among open transactions, more steps."""
    source = Source(random, contract, partitions, toast)
    for _ in range(steps[0]):
        source.step()
    source.snapshot(first=True)
    for _ in range(steps[1]):
        source.step()
        if random.random() < 0.3:
            source.send()
        if replays and random.random() < 0.1:
            source.replay()
    return source
