"""Predicts the rows that silver must hold at an instant: its pinned rows with later events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from app.compare.digest import Row
from app.compare.ranges import KeyOrder, KeyRange
from app.compare.silver_rows import SilverRows
from spark_streaming.contract.canonical import canonical_row
from spark_streaming.contract.contract import Contract
from spark_streaming.events.envelope import HighWater, RawEvent, decode
from spark_streaming.events.event import Changes
from spark_streaming.fold.keyed import Folded, fold
from spark_streaming.fold.row_lookup import hashable


class Prediction:
    """Silver's rows at one instant, read again by every `rows()`.

    Args:
        contract: the table's contract.
        silver: the pinned version.
        events: the events after the pinned offsets that the instant sees.
        high_water: the positions merged into the pinned version; repetitions are skipped.
        treatment: applies the contract file's masks to decoded changes.

    `rejected` counts the events that cannot be decoded. Silver will not have them either, so their
    rows appear as differences.
    """

    def __init__(
        self,
        contract: Contract,
        silver: SilverRows,
        events: list[RawEvent],
        high_water: HighWater,
        treatment: Callable[[Changes], Changes] = lambda changes: changes,
    ) -> None:
        self._contract = contract
        self._treatment = treatment
        self._silver = silver
        self._columns = [column.name for column in contract.columns]
        self._key = [self._columns.index(name) for name in contract.key]
        folded = self._fold(events, high_water)
        bounds = (folded.truncate_lsn, folded.resnapshot_lsn)
        self._oldest = max((lsn for lsn in bounds if lsn is not None), default=None)
        self._changes = [
            (change, canonical_row(contract, [change[name] for name in self._columns]))
            for change in folded.rows.to_pylist()
        ]

    def rows(
        self, order: KeyOrder | None = None, ranges: Sequence[KeyRange] = (KeyRange(),)
    ) -> Iterator[Row]:
        """Yield each row that silver must hold in `ranges`, as canonical texts in column order."""
        condition = order.silver_filter(ranges) if order is not None else None
        kept = self._silver.texts(condition, self._oldest)
        if not self._contract.key:
            return self._keyless(kept)
        changes = self._changes
        if order is not None:
            first = self._key[0]
            changes = [c for c in changes if order.holds(ranges, c[1][first] or "")]
        return self._keyed(kept, changes) if changes else kept

    def _fold(self, events: list[RawEvent], high_water: HighWater) -> Folded:
        decoded = decode(events, self._contract, high_water)
        self.rejected = len(decoded.rejects)
        return fold(self._treatment(decoded.changes), self._contract, self._old_rows)

    def _old_rows(self, keys: list[tuple[Any, ...]]) -> dict[tuple[Any, ...], dict[str, Any]]:
        wanted, names = set(keys), self._contract.key
        return {
            key: row
            for row in self._silver.values()
            if (key := tuple(hashable(row[name]) for name in names)) in wanted
        }

    def _keyed(
        self, kept: Iterator[Row], changes: list[tuple[dict[str, Any], Row]]
    ) -> Iterator[Row]:
        def key_of(row: Row) -> Row:
            return tuple(row[i] for i in self._key)

        waiting = {key_of(texts): (change, texts) for change, texts in changes}
        for row in kept:
            pending = waiting.pop(key_of(row), None)
            if pending is None:
                yield row
                continue
            change, texts = pending
            if change["_op"] == "u":
                yield tuple(
                    old if change.get(f"_keep_{name}") else new
                    for name, old, new in zip(self._columns, row, texts, strict=True)
                )
        yield from (texts for change, texts in waiting.values() if change["_op"] == "u")

    def _keyless(self, kept: Iterator[Row]) -> Iterator[Row]:
        removed: Counter[Row] = Counter()
        for change, texts in self._changes:
            if change["_op"] == "d":
                removed[texts] += 1
            else:
                yield texts
        for row in kept:
            if removed and removed[row] > 0:
                removed[row] -= 1
            else:
                yield row
