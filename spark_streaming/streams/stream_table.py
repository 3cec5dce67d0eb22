"""A stream's silver table: append-only, partitioned by day, each idempotency key once.

The table is its own offset store: the commit that holds the rows also records how far each Kafka
partition is merged (as Delta's transaction ids). Rows and offsets can therefore never disagree, and
a second writer that began from the same place gets a conflict instead of writing copies.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
    Transaction,
    write_deltalake,
)
from deltalake.exceptions import TableNotFoundError

from spark_streaming.contract.names import STREAM, is_stream, stream_mark
from spark_streaming.fold.row_lookup import one_of
from spark_streaming.storage.change_feed import feed_properties, set_feed
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.log_checkpoint import write_checkpoint
from spark_streaming.streams.idempotency_keys import KeyIndex, neighbours
from spark_streaming.streams.stream_contract import Stream
from spark_streaming.streams.stream_event import Event
from spark_streaming.tables.announced_columns import announce
from spark_streaming.tables.meaning import ColumnMeaning, TableMeaning, write_meaning

log = logging.getLogger(__name__)
_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_KEY_ROWS = 65_536
# Small files of a day are joined to the first size, later to the second: each byte is rewritten
# twice.
JOIN_BYTES = (2 << 20, 64 << 20)
JOIN_FILES_MIN = 12


_OWN_COLUMNS = {
    "day": ColumnMeaning("Day of `event_time`, in UTC; the table's partition."),
    "event_key": ColumnMeaning("The event's idempotency key."),
    "event_time": ColumnMeaning("When it happened, by the sender's clock."),
    "_received_at": ColumnMeaning("When the broker received it."),
    "_partition": ColumnMeaning("Its partition of the stream's topic."),
    "_offset": ColumnMeaning("Its offset in the partition."),
    "_merged_at": ColumnMeaning("When it was written to silver."),
}


class StreamError(Exception):
    """A stream cannot continue; the text says why and what to do."""


@dataclass(frozen=True)
class Appended:
    """Counts of an append: rows written, repeated events left out."""

    rows: int = 0
    duplicates: int = 0
    expired: int = 0


class StreamTable:
    """One stream's table and the state of its only writer; not safe for several threads."""

    def __init__(
        self, lake: Lake, stream: Stream, retention_minutes: int, *, feed: bool = False
    ) -> None:
        self._lake = lake
        self.stream = stream
        self._path = stream.path
        self._retention_minutes = retention_minutes
        self._feed = feed
        self._handle: DeltaTable | None = None
        self._keys = KeyIndex(self._keys_of)

    def ensure(self) -> DeltaTable:
        """The open table; made if there is none, and widened if the contract has more columns.

        Raises: StreamError if a captured table has the name, or a column's type changed.
        """
        if self._handle is None:
            try:
                table = self._lake.table(self._path)
            except TableNotFoundError:
                table = self._create()
            self._handle = self._adopted(table)
        return self._handle

    def follow(self, stream: Stream) -> None:
        """Use a changed contract; the table adopts it at its next use."""
        self.stream = stream
        self._handle = None

    def positions(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """The next offset of each partition that has merged events."""
        table = self.ensure()
        found = {p: table.transaction_version(_app_id(topic, p)) for p in partitions}
        return {p: int(offset) for p, offset in found.items() if offset is not None}

    def append(
        self, events: Sequence[Event], topic: str, reached: Mapping[int, int], now: dt.datetime
    ) -> Appended:
        """Append the events whose keys the table does not have yet, and the offsets, in one commit.

        Args:
            events: in the order of their offsets.
            reached: partition → the next offset, after these events.
            now: the time from which the retention counts; older events are left out.
        """
        oldest = self._oldest(now)
        live = [event for event in events if event.day >= oldest]
        fresh = self._unseen(live)
        transactions = [Transaction(_app_id(topic, p), offset) for p, offset in reached.items()]
        try:
            if fresh or transactions:
                write_deltalake(
                    self.ensure(),
                    self._rows(fresh, now),
                    mode="append",
                    commit_properties=CommitProperties(app_transactions=transactions),
                    post_commithook_properties=_HOOKS,
                )
        except Exception:
            self.forget()
            raise
        for day, some in _by_day(fresh).items():
            self._keys.add(day, [event.key for event in some])
        return Appended(len(fresh), len(live) - len(fresh), len(events) - len(live))

    def forget(self) -> None:
        """Drop the handle after a failed write: only the object store shows whether it succeeded."""
        self._handle = None
        self._keys.forget()

    def expire(self, now: dt.datetime) -> list[dt.date]:
        """Delete the days before the retention, and the oldest beyond `max_mb`; returns them."""
        sizes = self._sizes()
        gone = [day for day in sizes if day < self._oldest(now)]
        total = sum(sum(some) for day, some in sizes.items() if day not in gone)
        for day in sorted(sizes):
            if total <= self.stream.contract.max_mb << 20 or day >= now.date():
                break
            if day not in gone:
                gone.append(day)
                total -= sum(sizes[day])
        if gone:
            days = ", ".join(f"'{day.isoformat()}'" for day in gone)
            # `day` is the partition column: the delete removes whole files and rewrites none.
            self.ensure().delete(f"day IN ({days})", post_commithook_properties=_HOOKS)
            self._keys.forget()
        return sorted(gone)

    def join_small_files(self) -> int:
        """Join the files of days that have many. Returns: how many were joined."""
        joined = 0
        for target in JOIN_BYTES:
            for day, sizes in self._sizes().items():
                if sum(1 for size in sizes if size < target // 2) >= JOIN_FILES_MIN:
                    done = self.ensure().optimize.compact(
                        partition_filters=[("day", "=", day.isoformat())],
                        target_size=target,
                        max_concurrent_tasks=1,
                        post_commithook_properties=_HOOKS,
                    )
                    joined += int(done["numFilesRemoved"])
        return joined

    def checkpoint(self) -> None:
        """Write the log's state, so that readers need not read every commit."""
        write_checkpoint(self._lake, self._path)

    def drop_old_files(self) -> None:
        """Delete files and log entries that no version within the retention needs."""
        table = self.ensure()
        table.vacuum(dry_run=False, enforce_retention_duration=False, full=True)
        table.create_checkpoint()
        table.cleanup_metadata()

    # -- inside

    def _create(self) -> DeltaTable:
        keep = f"interval {self._retention_minutes} minutes"
        return DeltaTable.create(
            self._lake.url(self._path),
            schema=self.stream.schema(),
            mode="ignore",
            name=self.stream.name,
            description=stream_mark(self.stream.name),
            partition_by=["day"],
            configuration={
                "delta.appendOnly": "false",  # whole days are deleted
                "delta.logRetentionDuration": keep,
                "delta.deletedFileRetentionDuration": keep,
                **feed_properties(self._feed),
                STREAM: self.stream.name,
            },
            raise_if_key_not_exists=False,
            storage_options=self._lake.storage_options(),
        )

    def _adopted(self, table: DeltaTable) -> DeltaTable:
        name = self.stream.name
        found = table.metadata()
        if not is_stream(name, found.description, found.configuration):
            raise StreamError(
                f"silver's table `{name}` does not belong to a stream\n"
                f"  hint: give the stream another name: rename its file {name}.toml"
            )
        have = pa.schema(table.schema().to_arrow())
        new = [field for field in self.stream.schema() if field.name not in have.names]
        for field in self.stream.schema():
            if field.name in have.names and have.field(field.name).type != field.type:
                raise StreamError(
                    f"stream `{name}`: column `{field.name}` is {have.field(field.name).type} in "
                    f"silver, but {field.type} in its contract\n"
                    "  hint: a new type needs a new column, or a new stream"
                )
        if new:
            announce(name, [field.name for field in new])
            table.alter.add_columns(list(Schema.from_arrow(pa.schema(new)).fields))
            log.info("stream %s: added column(s) %s", name, ", ".join(f.name for f in new))
        set_feed(table, name, self._feed)
        if STREAM not in found.configuration:  # an earlier release made it
            table.alter.set_table_properties({STREAM: name}, raise_if_not_exists=False)
        write_meaning(table, stream_meaning(self.stream))
        return table

    def _oldest(self, now: dt.datetime) -> dt.date:
        return now.date() - dt.timedelta(days=self.stream.contract.retention_days)

    def _sizes(self) -> dict[dt.date, list[int]]:
        """Day → the size of each of its files in bytes."""
        actions = pa.table(self.ensure().get_add_actions(flatten=True))
        found: dict[dt.date, list[int]] = {}
        if len(actions):
            days, sizes = actions["partition.day"], actions["size_bytes"]
            for day, size in zip(days.to_pylist(), sizes.to_pylist(), strict=True):
                found.setdefault(day, []).append(size)
        return dict(sorted(found.items()))

    def _unseen(self, events: Sequence[Event]) -> list[Event]:
        """The events whose keys are new to the table and to the events before them."""
        perhaps: set[str] = set()
        for day, some in _by_day(events).items():
            keys = [event.key for event in some]
            found = self._keys.perhaps(day, keys)
            perhaps.update(key for key, hit in zip(keys, found, strict=True) if hit)
        there = self._days_of(perhaps, {event.day for event in events}) if perhaps else {}
        fresh = []
        for event in events:
            days = there.setdefault(event.key, set())
            if days.isdisjoint(neighbours(event.day)):
                fresh.append(event)
                days.add(event.day)
        return fresh

    def _days_of(self, keys: set[str], days: set[dt.date]) -> dict[str, set[dt.date]]:
        """Key → the days around `days` in which the table has it."""
        near = sorted({other for day in days for other in neighbours(day)})
        rows = self._dataset().to_table(
            columns=["day", "event_key"],
            filter=pc.field("day").isin(pa.array(near, pa.date32()))
            & one_of("event_key", pa.array(sorted(keys), pa.string())),
        )
        found: dict[str, set[dt.date]] = {}
        for row in rows.to_pylist():
            found.setdefault(row["event_key"], set()).add(row["day"])
        return found

    def _keys_of(self, day: dt.date) -> Iterator[Sequence[str]]:
        wanted = pc.field("day") == pa.scalar(day, pa.date32())
        for batch in self._dataset().to_batches(
            columns=["event_key"], filter=wanted, batch_size=_KEY_ROWS
        ):
            yield batch.column(0).to_pylist()

    def _dataset(self) -> Any:
        return self.ensure().to_pyarrow_dataset()

    def _rows(self, events: Sequence[Event], now: dt.datetime) -> pa.Table:
        schema = pa.schema(self.ensure().schema().to_arrow())
        columns: list[pa.Array] = []
        fixed: dict[str, Any] = {
            "day": lambda event: event.day,
            "event_key": lambda event: event.key,
            "event_time": lambda event: event.time,
            "_received_at": lambda event: _received(event),
            "_partition": lambda event: event.source.partition if event.source else None,
            "_offset": lambda event: event.source.offset if event.source else None,
            "_merged_at": lambda _: now,
        }
        for field in schema:
            if field.name in fixed:
                values = [fixed[field.name](event) for event in events]
            else:  # a column that the contract no longer has stays, and is NULL
                values = [event.values.get(field.name) for event in events]
            columns.append(pa.array(values, field.type))
        return pa.Table.from_arrays(columns, schema=schema)


def stream_meaning(stream: Stream) -> TableMeaning:
    """The meaning of a stream's table and its columns, from its file."""
    contract = stream.contract
    declared = {
        name: ColumnMeaning(column.description, column.classification or "")
        for name, column in contract.columns.items()
    }
    return TableMeaning(
        contract.description or stream_mark(stream.name),
        owner=contract.owner,
        domain=contract.domain,
        tags=tuple(contract.tags),
        key=("event_key",),
        columns={**declared, **_OWN_COLUMNS},
    )


def _app_id(topic: str, partition: int) -> str:
    return f"headwater:{topic}:{partition}"


def _by_day(events: Sequence[Event]) -> dict[dt.date, list[Event]]:
    found: dict[dt.date, list[Event]] = {}
    for event in events:
        found.setdefault(event.day, []).append(event)
    return found


def _received(event: Event) -> dt.datetime | None:
    if event.source is None:
        return None
    return dt.datetime.fromtimestamp(event.source.timestamp_ms / 1000, dt.timezone.utc)
