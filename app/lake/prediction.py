"""What silver must hold at an instant: its pinned rows with the later events folded in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from app.errors import HeadwaterError
from spark_streaming.contract import Contract
from spark_streaming.envelope import HighWater, RawEvent, decode
from spark_streaming.fold import Folded, fold

Scan = Callable[[list[str]], Iterator[dict[str, Any]]]


class Prediction:
    """Silver's rows at one instant, computed again at every `rows()`.

    Args:
        contract: the table's contract.
        scan: gives the pinned version's rows with the columns asked for, as mappings.
        events: the events after the pinned offsets that the instant sees.
        high_water: the positions merged into the pinned version, so that a replay is skipped.
    """

    def __init__(
        self, contract: Contract, scan: Scan, events: list[RawEvent], high_water: HighWater
    ) -> None:
        self._contract = contract
        self._scan = scan
        self._columns = [column.name for column in contract.columns]
        self._folded = self._fold(events, high_water)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row that silver must hold: the contract's columns, typed as in silver."""
        return self._keyed() if self._contract.key else self._bag()

    def _fold(self, events: list[RawEvent], high_water: HighWater) -> Folded:
        decoded = decode(events, self._contract, high_water)
        if decoded.rejects:
            first = decoded.rejects[0]
            raise HeadwaterError(
                f"{len(decoded.rejects)} events of {self._contract.table} cannot be decoded",
                detail=first.reason,
            )
        return fold(decoded.changes, self._contract, self._old_rows)

    def _old_rows(self, keys: list[tuple[Any, ...]]) -> dict[tuple[Any, ...], dict[str, Any]]:
        wanted = set(keys)
        return {key: row for row in self._scan(self._columns) if (key := self._key(row)) in wanted}

    def _key(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in self._contract.key)

    def _kept(self) -> Iterator[dict[str, Any]]:
        bounds = (self._folded.truncate_lsn, self._folded.resnapshot_lsn)
        oldest = max((lsn for lsn in bounds if lsn is not None), default=0)
        for row in self._scan([*self._columns, "_lsn"]):
            if row["_lsn"] >= oldest:
                yield row

    def _keyed(self) -> Iterator[dict[str, Any]]:
        changed = {self._key(row): row for row in self._folded.rows.to_pylist()}
        for row in self._kept():
            change = changed.pop(self._key(row), None)
            if change is None:
                yield row
            elif change["_op"] == "u":
                yield {
                    c: row.get(c) if change.get(f"_keep_{c}") else change[c] for c in self._columns
                }
        yield from (change for change in changed.values() if change["_op"] == "u")

    def _bag(self) -> Iterator[dict[str, Any]]:
        removed: Counter[str] = Counter()
        for change in self._folded.rows.to_pylist():
            if change["_op"] == "d":
                removed[self._identity(change)] += 1
            else:
                yield change
        for row in self._kept():
            if removed[self._identity(row)] > 0:
                removed[self._identity(row)] -= 1
            else:
                yield row

    def _identity(self, row: dict[str, Any]) -> str:
        return repr([row.get(column) for column in self._columns])
