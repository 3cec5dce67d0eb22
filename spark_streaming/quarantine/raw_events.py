"""Stores quarantined events as they came from Kafka, in a Delta table that Trino does not have.

`ops/quarantine` lists the quarantined events with their reasons; every user who may query `ops` can read it. The
events themselves, with masked columns, are in `raw/quarantine`, which Trino does not show because
the registrar lists only `silver` and `ops`. An event is written here before its entry and removed
after it, so each entry has its event. An event without an entry, or a second copy, was left by a
crash between the two and has no meaning.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, PostCommitHookProperties
from deltalake import write_deltalake as write_delta
from deltalake.exceptions import TableNotFoundError

from spark_streaming.events.event import Place
from spark_streaming.storage.lake import Lake

SCHEMA = pa.schema(
    [
        ("table_name", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("raw_key", pa.binary()),
        ("raw_value", pa.binary()),
        ("raw_headers", pa.string()),
        # JSON, column -> text or null: the values with which the event was replayed instead of its
        # own.
        ("replayed_values", pa.string()),
    ]
)
COLUMNS = ("raw_key", "raw_value", "raw_headers")
PLACE = ("topic", "partition", "offset")
HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
# The greatest number of events that one statement names.
_PLACES_MAX = 500
_READ_ROWS = 256


def path_of(entries: str) -> str:
    """Where the events of a table of entries are: `ops/quarantine` -> `raw/quarantine`."""
    return f"raw/{entries.rpartition('/')[2]}"


class RawEvents:
    """The table of events; the writer of the entries is its only writer.

    Args:
        entries: the path of the table of entries.
        lock: the lock of the entries; callers that write here hold it.
    """

    def __init__(
        self,
        lake: Lake,
        entries: str,
        properties: dict[str, str | None],
        lock: threading.Lock,
    ) -> None:
        self.path = path_of(entries)
        self.lock = lock
        self._entries = entries
        self._lake = lake
        self._properties = properties

    def ensure(self) -> DeltaTable:
        """The table; made if there is none."""
        try:
            return self._lake.table(self.path)
        except TableNotFoundError:
            return DeltaTable.create(
                self._lake.url(self.path),
                schema=SCHEMA,
                mode="ignore",
                configuration=self._properties,
                storage_options=self._lake.storage_options(),
            )

    def append(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write events, in one commit. Rows may have more columns than the table."""
        kept = [{name: row[name] for name in SCHEMA.names} for row in rows]
        found = pa.Table.from_pylist(kept, schema=SCHEMA)
        write_delta(self.ensure(), found, mode="append", post_commithook_properties=HOOKS)

    def replace(self, rows: pa.RecordBatchReader) -> None:
        """Replace all events by these; repeating it changes nothing."""
        write_delta(self.ensure(), rows, mode="overwrite", post_commithook_properties=HOOKS)

    def note_values(self, place: Place, values: str) -> None:
        """Note the values that an event is replayed with, as JSON."""
        text = values.replace("'", "''")
        for condition in conditions([place]):
            self.ensure().update(
                predicate=condition,
                updates={"replayed_values": f"'{text}'"},
                post_commithook_properties=HOOKS,
            )

    def remove(self, places: Iterable[Place]) -> None:
        """Remove events whose entries were removed."""
        for condition in conditions(places):
            self.ensure().delete(condition, post_commithook_properties=HOOKS)

    def prune(self) -> None:
        """Remove the events that have no entry any more."""
        names = list(PLACE)
        ours = self.ensure().to_pyarrow_dataset().to_table(columns=names)
        theirs = self._lake.table(self._entries).to_pyarrow_dataset().to_table(columns=names)
        plain = pa.schema([SCHEMA.field(name) for name in names])
        lost = ours.cast(plain).join(theirs.cast(plain), keys=names, join_type="left anti")
        self.remove(place_in(row) for row in lost.to_pylist())


def place_in(row: Mapping[str, Any]) -> Place:
    """The coordinates of a row's event."""
    return Place(row["topic"], row["partition"], row["offset"])


def conditions(places: Iterable[Place]) -> Iterator[str]:
    """SQL conditions that together select the rows of these events."""
    offsets: dict[tuple[str, int], list[int]] = {}
    for place in sorted(places):
        offsets.setdefault((place.topic, place.partition), []).append(place.offset)
    for (topic, partition), some in offsets.items():
        name = topic.replace("'", "''")
        for start in range(0, len(some), _PLACES_MAX):
            listed = ", ".join(map(str, some[start : start + _PLACES_MAX]))
            yield f"topic = '{name}' AND partition = {partition} AND \"offset\" IN ({listed})"


def has_events(entries: Any) -> bool:
    """Whether a dataset of entries also holds the events, as those of earlier releases do."""
    return "raw_value" in entries.schema.names


def with_events(
    lake: Lake, path: str, table_name: str, wanted: Any, columns: Collection[str] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """A table's entries with their events, a few rows at a time.

    Args:
        path: the path of the entries.
        wanted: an Arrow filter that selects entries of the table.
        columns: columns of the entries; those that an earlier release's table lacks are left out.
    Raises: TableNotFoundError if there are no entries yet.
    """
    entries = lake.table(path).to_pyarrow_dataset()
    mine = pc.field("table_name").cast(pa.string()) == table_name
    names = [n for n in entries.schema.names if columns is None or n in (*columns, *PLACE)]
    if has_events(entries):
        names += [name for name in COLUMNS if name not in names]
        for batch in entries.to_batches(columns=names, filter=mine & wanted, batch_size=_READ_ROWS):
            yield batch.to_pylist()
        return
    found = entries.to_table(columns=names, filter=mine & wanted).to_pylist()
    by_place = {place_in(row): row for row in found}
    if not by_place:
        return
    events = lake.table(path_of(path)).to_pyarrow_dataset()
    for batch in events.to_batches(columns=[*PLACE, *COLUMNS], filter=mine, batch_size=_READ_ROWS):
        rows = [
            {**entry, **row}
            for row in batch.to_pylist()
            if (entry := by_place.pop(place_in(row), None)) is not None
        ]
        if rows:
            yield rows


def event_at(lake: Lake, path: str, place: Place) -> dict[str, Any] | None:
    """The event of one entry, with the columns of SCHEMA; None if there is none.

    Args:
    path: the path of the entries.
    """
    try:
        events = lake.table(path_of(path)).to_pyarrow_dataset()
    except TableNotFoundError:
        return None
    wanted = (pc.field("partition") == place.partition) & (pc.field("offset") == place.offset)
    rows = events.to_table(filter=wanted).to_pylist()
    return next((row for row in reversed(rows) if row["topic"] == place.topic), None)
