"""Quarantine: events that broke their contract, with the reason, until they are resolved.

Everyone who may query `ops` may read the entries, so they show nothing of masked columns
(`hiding`); the events themselves are in a table that Trino does not have (`raw_events`).

An entry is `open`, and then one of:
- `superseded`: silver has a later event of the same row, so this one has no effect any more;
- `replayed`: silver has it, with other values in the columns that `replayed_values` names;
- `discarded`: a person gave it up. A later event of the row still makes it `superseded`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake import write_deltalake as write_delta
from deltalake.exceptions import TableNotFoundError

from spark_streaming.contract.contract import Contract
from spark_streaming.events.event import Place, RawEvent, Reject
from spark_streaming.quarantine.hiding import Hiding
from spark_streaming.quarantine.quarantine_upgrade import DESCRIPTION, upgrade
from spark_streaming.quarantine.quarantined_rows import QuarantinedRows, place_of
from spark_streaming.quarantine.raw_events import (
    HOOKS,
    PLACE,
    RawEvents,
    conditions,
    place_in,
    with_events,
)
from spark_streaming.storage.lake import QUARANTINE, Lake
from spark_streaming.tables.engine_protocol import TIMESTAMP

OPEN, SUPERSEDED, REPLAYED, DISCARDED = "open", "superseded", "replayed", "discarded"
SCHEMA = pa.schema(
    [
        ("table_name", pa.string()),
        ("key", pa.string()),
        ("reason", pa.string()),
        ("rule", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("event_timestamp", TIMESTAMP),
        ("quarantined_at", TIMESTAMP),
        ("status", pa.string()),
        ("resolved_at", TIMESTAMP),
        # JSON, column -> text or null; the event itself is not changed.
        ("replayed_values", pa.string()),
    ]
)
RESOLVED_KEPT = timedelta(days=30)


@dataclass(frozen=True)
class UnresolvedEntry:
    """One unresolved entry with its event."""

    event: RawEvent
    rule: str
    status: str


class Quarantine:
    """The quarantine table in the lake, and its events; one writer.

    Args:
        hiding: the masks of a silver table.
    """

    path = QUARANTINE

    def __init__(
        self,
        lake: Lake,
        query_id: str,
        properties: dict[str, str | None],
        hiding: Callable[[str], Hiding] = lambda _: Hiding(),
    ) -> None:
        self._lake = lake
        self._app_id = f"headwater:{query_id}:quarantine"
        self._properties = properties
        self._hiding = hiding
        self._names: set[str] | None = None
        self._upgraded = False
        # Batches and maintenance hold it while they write.
        self.lock = threading.Lock()
        self.events = RawEvents(lake, self.path, properties, self.lock)

    def ensure(self) -> DeltaTable:
        """The table; made if there is none, so that SQL finds it before the first bad row."""
        try:
            table = self._lake.table(self.path)
        except TableNotFoundError:
            return DeltaTable.create(
                self._lake.url(self.path),
                schema=SCHEMA,
                mode="ignore",
                description=DESCRIPTION,
                configuration=self._properties,
                storage_options=self._lake.storage_options(),
            )
        if not self._upgraded:
            table = upgrade(self._lake, self.path, table, SCHEMA, self.events, self._hiding)
            self._upgraded = True
        have = {field.name for field in table.schema().fields}
        new = [field for field in SCHEMA if field.name not in have]
        if new:  # made by an earlier release
            table.alter.add_columns(list(Schema.from_arrow(pa.schema(new)).fields))
        return table

    def put(
        self,
        rejects: dict[str, Sequence[Reject]],
        version: int,
        superseded: Collection[Place] = (),
    ) -> None:
        """Write a batch's rejects (by silver table) in one commit.

        If the batch is repeated, only new rejects are written: a table that failed before its
        rejects were known may have some now.

        Args:
            superseded: the rejects that a later event of the same batch supersedes.
        """
        table = self.ensure()
        recorded = table.transaction_version(self._app_id)
        if recorded is not None and recorded >= version:
            for name, some in rejects.items():
                self.put_missing(name, some, superseded)
            return
        if self._names is not None:
            self._names |= rejects.keys()
        now = datetime.now(timezone.utc)
        rows = [
            self._row(name, reject, now, place_of(reject.event) in superseded)
            for name, some in rejects.items()
            for reject in _once(some)
        ]
        named = CommitProperties(app_transactions=[Transaction(self._app_id, version)])
        self._append(table, rows, named)

    def put_missing(
        self, table_name: str, rejects: Sequence[Reject], superseded: Collection[Place] = ()
    ) -> None:
        """Write, in one commit, the rejects of one table that have no entry yet."""
        table = self.ensure()
        if self._names is not None:
            self._names.add(table_name)
        offsets = [reject.event.offset for reject in rejects]
        existing = table.to_pyarrow_dataset().to_table(
            columns=["topic", "partition", "offset"],
            filter=(pc.field("table_name").cast(pa.string()) == table_name)
            & (pc.field("offset") >= min(offsets))
            & (pc.field("offset") <= max(offsets)),
        )
        there = set(zip(*(column.to_pylist() for column in existing.columns), strict=True))
        now = datetime.now(timezone.utc)
        rows = [
            self._row(table_name, reject, now, place_of(reject.event) in superseded)
            for reject in _once(rejects)
            if place_of(reject.event) not in there
        ]
        if rows:
            self._append(table, rows, None)

    def _append(
        self,
        table: DeltaTable,
        rows: list[dict[str, object]],
        properties: CommitProperties | None,
    ) -> None:
        entries = [{name: row.get(name) for name in SCHEMA.names} for row in rows]
        for entry in entries:
            if entry["replayed_values"]:
                given = self._hiding(str(entry["table_name"]))
                entry["replayed_values"] = given.values(str(entry["replayed_values"]))
        with self.lock:
            self.events.append(rows)
            write_delta(
                table,
                pa.Table.from_pylist(entries, schema=SCHEMA),
                mode="append",
                commit_properties=properties,
                post_commithook_properties=HOOKS,
            )

    def _row(
        self, table: str, reject: Reject, now: datetime, superseded: bool
    ) -> dict[str, object]:
        return _row(table, reject, now, superseded, self._hiding(table))

    def close(self, places: Iterable[Place], status: str, *, discarded: bool = False) -> int:
        """Give unresolved entries a status; resolved ones stay. Returns: how many changed.

        Repeating it changes nothing. A discarded entry can become `superseded`, and any other
        status only if `discarded` is True.
        """
        from_states = [OPEN, DISCARDED] if discarded or status == SUPERSEDED else [OPEN]
        states = ", ".join(f"'{state}'" for state in from_states)
        closed = 0
        for condition in conditions(places):
            with self.lock:
                counts = self.ensure().update(
                    predicate=f"coalesce(status, '{OPEN}') IN ({states}) AND ({condition})",
                    new_values={"status": status, "resolved_at": datetime.now(timezone.utc)},
                    post_commithook_properties=HOOKS,
                )
            closed += int(counts["num_updated_rows"])
        return closed

    def note_values(self, table_name: str, place: Place, values: Mapping[str, str | None]) -> None:
        """Note the values with which an entry is replayed instead of those of its event."""
        given = json.dumps(values, ensure_ascii=False)
        text = self._hiding(table_name).values(given).replace("'", "''")
        for condition in conditions([place]):
            with self.lock:
                self.events.note_values(place, given)
                self.ensure().update(
                    predicate=condition,
                    updates={"replayed_values": f"'{text}'"},
                    post_commithook_properties=HOOKS,
                )

    def prune(self) -> None:
        """Remove the entries that were replayed or superseded longer ago than RESOLVED_KEPT.

        Entries replayed with other values stay: they explain why silver differs from the source.
        """
        limit = (datetime.now(timezone.utc) - RESOLVED_KEPT).isoformat()
        self.ensure().delete(
            f"status IN ('{REPLAYED}', '{SUPERSEDED}') AND resolved_at < '{limit}' "
            f"AND NOT (status = '{REPLAYED}' AND replayed_values IS NOT NULL)",
            post_commithook_properties=HOOKS,
        )

    def quarantined(self, table_name: str, contract: Contract) -> QuarantinedRows:
        """A table's rows with unresolved entries; read once for each process and table."""
        quarantined = QuarantinedRows()
        if self._names is None:
            self._names = self.open_tables()
        if table_name in self._names:
            for entry in self.unresolved(table_name):
                quarantined.add([entry.event], contract)
        return quarantined

    def open_tables(self) -> set[str]:
        """The silver tables that have unresolved entries."""
        found = (
            self.ensure()
            .to_pyarrow_dataset()
            .to_table(columns=["table_name"], filter=_is_unresolved())
        )
        return set(pc.unique(found["table_name"]).to_pylist())

    def unresolved(self, table_name: str) -> Iterator[UnresolvedEntry]:
        """A table's entries that no later event has superseded, discarded ones too."""
        self.ensure()
        for rows in unresolved_rows(self._lake, self.path, table_name):
            for row in rows:
                yield UnresolvedEntry(event_of(row), row["rule"], row["status"] or OPEN)

    def places(self, table_name: str) -> dict[Place, str]:
        """All of a table's entries, the resolved ones too, with their statuses."""
        columns = [*PLACE, "status"]
        wanted = pc.field("table_name").cast(pa.string()) == table_name
        found = self.ensure().to_pyarrow_dataset().to_table(columns=columns, filter=wanted)
        return {place_in(row): row["status"] or OPEN for row in found.to_pylist()}

    def withdraw(self, places: Collection[Place]) -> None:
        """Remove entries whose events are about to be judged again."""
        for condition in conditions(places):
            with self.lock:
                self.ensure().delete(condition, post_commithook_properties=HOOKS)
        with self.lock:
            self.events.remove(places)

    def open_again(self, places: Iterable[Place]) -> None:
        """Make resolved entries open."""
        for condition in conditions(places):
            with self.lock:
                self.ensure().update(
                    predicate=condition,
                    updates={"status": f"'{OPEN}'", "resolved_at": "NULL"},
                    post_commithook_properties=HOOKS,
                )

    def copy_from(self, other: Quarantine, table_name: str, places: Collection[Place]) -> None:
        """Append entries of another quarantine unchanged."""
        if self._names is not None:
            self._names.add(table_name)
        other.ensure()
        for some in unresolved_rows(other._lake, other.path, table_name):
            rows = [row for row in some if place_in(row) in places]
            if rows:
                self._append(self.ensure(), rows, None)


def unresolved_rows(
    lake: Lake, path: str, table_name: str, *, edited: bool = False
) -> Iterator[list[dict[str, Any]]]:
    """A table's entries that are open or discarded, with their events, a few at a time.

    Args:
        path: the path of the table of entries.
        edited: also those that were replayed with other values than their event's.
    Raises: TableNotFoundError if there is no such table yet.
    """
    wanted = _is_unresolved()
    names = lake.table(path).to_pyarrow_dataset().schema.names
    if edited and "replayed_values" in names:
        replayed = pc.field("status").cast(pa.string()) == REPLAYED
        wanted = wanted | (replayed & pc.field("replayed_values").is_valid())
    yield from with_events(lake, path, table_name, wanted)


def event_of(row: dict[str, Any]) -> RawEvent:
    """The event of a quarantine row, as it was read from Kafka."""
    headers = [(name, value.encode()) for name, value in json.loads(row["raw_headers"] or "[]")]
    timestamp = row["event_timestamp"]
    return RawEvent(
        row["topic"],
        row["partition"],
        row["offset"],
        int(timestamp.timestamp() * 1000) if timestamp is not None else 0,
        row["raw_key"],
        row["raw_value"],
        headers,
    )


def _is_unresolved() -> Any:
    status = pc.field("status").cast(pa.string())
    return status.is_null() | status.isin(pa.array([OPEN, DISCARDED]))


def _once(rejects: Sequence[Reject]) -> list[Reject]:
    """Keep one reject for each event: an event may be part of several rejected rows."""
    return list({place_of(reject.event): reject for reject in reversed(rejects)}.values())[::-1]


def _row(
    table: str, reject: Reject, now: datetime, superseded: bool, hiding: Hiding
) -> dict[str, object]:
    """An entry together with its event."""
    event = reject.event
    headers = [[name, value.decode("utf-8", "replace")] for name, value in event.headers]
    return {
        "table_name": table,
        "key": hiding.key(reject.key),
        "reason": hiding.reason(reject.reason),
        "rule": reject.rule,
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "event_timestamp": datetime.fromtimestamp(event.timestamp_ms / 1000, timezone.utc),
        "raw_key": event.key,
        "raw_value": event.value,
        "raw_headers": json.dumps(headers),
        "quarantined_at": now,
        "status": SUPERSEDED if superseded else OPEN,
        "resolved_at": now if superseded else None,
        "replayed_values": None,
    }
