"""The Delta tables that may hold an erased row, and how it is found in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import TableNotFoundError

from app.erase.old_files import OldFile, Rows, old_files_with
from app.trace.trace_key import RowKey
from app.trace.trace_silver import condition_of
from spark_streaming.contract.masks import hashed
from spark_streaming.events.event import Place
from spark_streaming.ops.erase_requests import ErasedKey
from spark_streaming.quarantine.raw_events import COLUMNS, PLACE, path_of, place_in
from spark_streaming.rules.rules import TableRules
from spark_streaming.storage.lake import QUARANTINE, Lake

Spans = Sequence[tuple[RowKey, ErasedKey]]


def as_stored(key: RowKey, rules: TableRules, secret: bytes) -> RowKey:
    """Return a key with the values that silver and the history have: those of a masked column are hashed."""
    masked = [rules.masks.get(column.name) for column in key.columns]
    pairs = zip(key.values, masked, strict=True)
    values = (hashed(secret)(value) if mask else value for value, mask in pairs)
    return replace(key, values=tuple(values))


class RowStores:
    """The tables of one lake that may hold the rows of some keys.

    Args:
        table: silver's name.
        spans: each key as the tables store it, with the span of positions that is erased.
        places: the erased events.
    """

    def __init__(self, lake: Lake, table: str, spans: Spans, places: Sequence[Place]) -> None:
        self._lake = lake
        self.table = table
        self._spans = spans
        self._places = places
        self.silver = lake.silver_path(table)
        self.history = lake.history_path(table)

    @property
    def whole(self) -> Rows:
        """The rows with the key that was asked for."""
        return self._of([key for key, span in self._spans if span.lsns is None])

    @property
    def any_key(self) -> Rows:
        """The rows with any of the keys."""
        return self._of([key for key, _ in self._spans])

    @property
    def erased_versions(self) -> Rows:
        """The versions that go from the history."""
        return Rows((*self._of([]).columns, "_lsn"), self._versions)

    @property
    def events(self) -> Rows:
        """Quarantine's rows about the erased events."""
        return Rows(PLACE, self._at_places)

    def _of(self, keys: Sequence[RowKey]) -> Rows:
        columns = tuple(column.name for column in self._spans[0][0].columns)
        return Rows(columns, lambda schema: _any(condition_of(schema, key) for key in keys))

    def _versions(self, schema: pa.Schema) -> pc.Expression:
        lsn = pc.field("_lsn")
        return _any(
            condition_of(schema, key)
            if span.lsns is None
            else condition_of(schema, key) & (lsn >= span.lsns[0]) & (lsn <= span.lsns[1])
            for key, span in self._spans
        )

    def _at_places(self, _: pa.Schema) -> pc.Expression:
        offsets: dict[tuple[str, int], list[int]] = {}
        for place in self._places:
            offsets.setdefault((place.topic, place.partition), []).append(place.offset)
        return _any(
            (pc.field("topic").cast(pa.string()) == topic)
            & (pc.field("partition") == partition)
            & pc.field("offset").isin(pa.array(some))
            for (topic, partition), some in offsets.items()
        )

    def count(self, path: str, rows: Rows) -> int:
        """Count the rows of a table's newest version; 0 if there is no table."""
        try:
            dataset = self._lake.table(path).to_pyarrow_dataset()
        except TableNotFoundError:
            return 0
        if not rows.fit(dataset.schema):
            return 0
        return int(dataset.count_rows(filter=rows.filter_of(dataset.schema)))

    def old_files(self) -> dict[str, list[OldFile]]:
        """Return, for each store, the files of old versions only that hold one of the rows."""
        parts: dict[str, list[tuple[str, Rows]]] = {
            "silver": [(self.silver, self.any_key)],
            "history": [(self.history, self.any_key)],
            "quarantine": [(QUARANTINE, self.events), (path_of(QUARANTINE), self.events)],
        }
        return {
            store: [file for path, rows in some for file in old_files_with(self._lake, path, rows)]
            for store, some in parts.items()
        }


def quarantined_places(lake: Lake, table: str, key: RowKey) -> Iterator[Place]:
    """Yield the events of a key that quarantine holds, whatever their entries' status."""
    try:
        dataset = lake.table(path_of(QUARANTINE)).to_pyarrow_dataset()
    except TableNotFoundError:
        return
    mine = pc.field("table_name").cast(pa.string()) == table
    for batch in dataset.to_batches(columns=[*PLACE, *COLUMNS], filter=mine, batch_size=256):
        for row in batch.to_pylist():
            if key.owns(row["raw_key"], row["raw_value"]):
                yield place_in(row)


def _any(conditions: Iterable[pc.Expression]) -> pc.Expression:
    return reduce(or_, conditions, pc.scalar(False))
