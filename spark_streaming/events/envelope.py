"""Decodes Debezium's events into typed changes of one table."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter

import orjson

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.events.event import Change, Changes, Decoded, RawEvent, RawKey, Reject
from spark_streaming.events.plain_rows import LSN_MAX, SNAPSHOT_BORDERS, taker
from spark_streaming.events.position import (
    FIRST_SNAPSHOT,
    RESYNC_SEEN,
    RESYNCED,
    START,
    TRUNCATE,
    HighWater,
    Position,
    parse_sequence,
)
from spark_streaming.events.resync_events import end_of
from spark_streaming.events.row_images import NEW_KEY_HEADER, Document, Images, Refused

__all__ = ["LSN_MAX", "Changes", "Decoded", "HighWater", "Position", "RawEvent", "Reject", "decode"]

_ROW_OPERATIONS = frozenset("cudr")
_NOTHING = HighWater()


def decode(
    events: Iterable[RawEvent],
    contract: Contract,
    high_water: HighWater,
    other_keys: HighWater = _NOTHING,
) -> Decoded:
    """Decode the events of one table's topic, in any order, into changes that `fold` takes.

    Repetitions of what `high_water` has passed are skipped. Tombstones and messages are ignored,
    except those that end a resync. An event that breaks the contract is rejected with its reason;
    none is dropped silently.

    Args:
        events: events of one topic.
        contract: the table's contract.
        high_water: the mark that the last batch left; other topics' marks are dropped.
        other_keys: how far the batch's events of other keys reach, if these are only some keys'.
    """
    ordered = sorted(events, key=itemgetter(1, 2))  # partition, offset
    topic = ordered[0].topic if ordered else ""
    reader = _Reader(contract, high_water, topic, other_keys)
    with _no_garbage_collection():
        take = taker(contract, reader.images, reader)
        for event in ordered:
            if not take(event):
                reader.read(event)
        return reader.finish()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Switch off the garbage collector, which visits all rows again and again: a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Reader:
    """Reads events in order and collects the fields of `Decoded`."""

    def __init__(
        self, contract: Contract, high_water: HighWater, topic: str, other_keys: HighWater
    ) -> None:
        self.contract = contract
        self.images = Images(contract)
        self.marks = high_water.marks(topic)  # by partition
        self.topic = topic
        self.other_keys = other_keys.marks(topic)
        self.depends_on_other_keys = False
        # Of previous batches only: `fold` applies a TRUNCATE of this batch.
        self.truncated = high_water.truncated(topic)
        self.last_ends = frozenset(self._streamed().values())
        self.first_snapshot = self.marks.get(FIRST_SNAPSHOT, START).lsn
        self.snapshot_attempts: set[int] = set()  # their LSNs, in this batch
        self.resync_lsn: Lsn | None = None  # of a resync that ended in this batch
        self.changes: list[Change] = []
        self.rejects: list[Reject] = []
        self.skipped = self.ignored = 0
        self.last_lsn = LOG_START
        self.last_committed_us = 0

    def read(self, event: RawEvent) -> None:
        """Read one event; it becomes a change or a reject, or is skipped or ignored."""
        if event.value is None:
            self.ignored += 1
            return
        try:
            self._read(event, orjson.loads(event.value))
        except orjson.JSONDecodeError as error:
            self.rejects.append(Reject(event, "not-json", f"the event is not JSON: {error}"))
        except Refused as refused:
            self.rejects.append(Reject(event, *refused.args))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"not a change event: {type(error).__name__} {error}"
            self.rejects.append(Reject(event, "not-an-envelope", reason))

    def _read(self, event: RawEvent, document: Document) -> None:
        op = document["op"]
        if op == "m":
            self._end_resync(event.partition, document)
            self.ignored += 1
            return
        source = document["source"]
        if self.images.history.is_of_other_table(document):
            self.skipped += 1
            return
        lsn = source["lsn"]
        if lsn is None and op == "r":
            # An incremental snapshot's rows have no LSN of their own, but the stream's position.
            lsn = parse_sequence(source["sequence"])[1]
        if type(lsn) is not int or not 0 <= lsn < LSN_MAX:
            raise Refused("not-an-envelope", f"source.lsn is {lsn!r}, not an LSN")
        lsn = Lsn(lsn)
        committed = source.get("ts_us") or (source.get("ts_ms") or 0) * 1000
        if type(committed) is not int:
            raise Refused("not-an-envelope", f"the commit time is {committed!r}, not a number")
        if lsn > self.last_lsn:
            self.last_lsn = lsn
        # A snapshot's row carries the time when it was read, which is later than the stream's.
        if op != "r" and committed > self.last_committed_us:
            self.last_committed_us = committed
        if op == "r" and _is_first_snapshot(source) and not self._begin_attempt(lsn):
            self.skipped += 1
            return
        partition = event.partition
        guard = lsn if op == "r" else self._advance(partition, source, lsn, document)
        order = self.marks.get(partition, START)
        if guard is None or self._is_truncated(op, lsn, order):
            self.skipped += 1
            return
        if op == "t":
            self.depends_on_other_keys = True
            self.marks[TRUNCATE] = max(order, self.marks.get(TRUNCATE, START))
        key, after, before, old_key, old_image = self._rows_of(op, event, document)
        resumes_key_change = old_key is not None and _delete_of(order) in self.last_ends
        starts_snapshot = op == "r" and source.get("snapshot") in SNAPSHOT_BORDERS
        self.changes.append(
            Change(
                op,
                lsn,
                guard,
                committed,
                key,
                after,
                before,
                order,
                old_key,
                old_image,
                resumes_key_change,
                starts_snapshot,
                event,
            )
        )

    def _advance(
        self, partition: int, source: Document, lsn: Lsn, document: Document
    ) -> Lsn | None:
        """Move the high-water mark to a streamed event; return its guard, or None for a repetition.

        An event behind the mark in commit order is new: it replaces whatever silver holds. That
        matters after a snapshot: a transaction that was open while the snapshot was taken streams
        afterwards, with lower LSNs than the snapshot's rows.
        """
        commit, _ = parse_sequence(source["sequence"])
        order = (document.get("transaction") or {}).get("total_order") or 0
        mark = self.marks.get(partition, START)
        if commit is None or not order:
            self.depends_on_other_keys = True
        if commit is None and mark.last_commit_lsn > 0:
            return lsn  # its order is unknown: do not skip it, and do not let it replace newer rows
        if type(order) is not int:
            raise Refused("not-an-envelope", f"transaction.total_order is {order!r}, not a number")
        position = Position(commit or LOG_START, lsn, order)
        if position > mark:
            self.marks[partition] = position
            return LSN_MAX
        # Rows of one COPY share an LSN: without their number in it, none counts as a repetition.
        return lsn if not order and position[:2] == mark[:2] else None

    def _is_truncated(self, op: str, lsn: Lsn, order: Position) -> bool:
        """Whether a TRUNCATE of a previous batch removed the row of this event."""
        if lsn >= self.truncated.lsn:
            return False
        if op != "r":
            return True
        if order >= self.truncated:
            return False
        self.depends_on_other_keys = True
        return True

    def _rows_of(
        self, op: str, event: RawEvent, document: Document
    ) -> tuple[RawKey | None, int, int, RawKey | None, int]:
        """Store the event's images; return (key, after, before, old key, image of the old key)."""
        if op == "t":
            return None, -1, -1, None, -1
        if op not in _ROW_OPERATIONS:
            raise Refused("unknown-operation", f"operation {str(op)[:40]!r} is not known")
        if self.contract.is_keyless:
            return None, *self._keyless_rows(op, event, document), None, -1
        images = self.images
        if op == "d":
            key, after = images.key_row(event.key, document)
            return key, after, -1, None, -1
        after = images.store(event, document, "after")
        key = images.key_of(after)
        old_key, old_image = None, -1
        if op == "c" and event.headers:
            old_key, old_image = images.old_key(event, document)
        elif op == "u" and self.contract.replica_identity == "index" and document.get("before"):
            # Debezium splits an update that changes the primary key, but not one of another index.
            old_key, old_image = images.key_row(None, document)
            if old_key == key:
                old_key, old_image = None, -1
        return key, after, -1, old_key, old_image

    def _keyless_rows(self, op: str, event: RawEvent, document: Document) -> tuple[int, int]:
        if op == "r" and document["source"].get("snapshot") == "incremental":
            reason = "an incremental snapshot cannot distinguish the rows of a table without a key"
            raise Refused("snapshot-without-key", reason)
        before = self.images.store(event, document, "before") if op in "ud" else -1
        after = self.images.store(event, document, "after") if op != "d" else -1
        return after, before

    def _streamed(self) -> dict[int, Position]:
        """Return the marks of Kafka's partitions."""
        return {partition: mark for partition, mark in self.marks.items() if partition >= 0}

    def _begin_attempt(self, lsn: Lsn) -> bool:
        """Record an attempt of the first snapshot; return whether its rows count."""
        if lsn < self.marks.get(FIRST_SNAPSHOT, START).lsn:
            return self.contract.is_keyless  # `fold_keyless` drops a previous attempt's rows itself
        self.marks[FIRST_SNAPSHOT] = Position(LOG_START, lsn, 0)
        self.snapshot_attempts.add(lsn)
        return True

    def _end_resync(self, partition: int, document: Document) -> None:
        """Record the end of a resync; it takes effect once all partitions have reached it.

        Until then a row that the resync read may still come from another partition.
        """
        end = end_of(document)
        if end is None:
            return
        self.depends_on_other_keys = True
        lsn = end.below_lsn
        seen = self.marks.get(RESYNC_SEEN - partition, START)
        self.marks[RESYNC_SEEN - partition] = max(seen, Position(LOG_START, lsn, 0))
        places = (RESYNC_SEEN - number for number in range(end.partitions))
        is_whole = all(self.marks.get(place, START).lsn >= lsn for place in places)
        if is_whole and lsn > self.marks.get(RESYNCED, START).lsn:
            self.marks[RESYNCED] = Position(LOG_START, lsn, 0)
            self.resync_lsn = lsn

    def _drop_interrupted_attempts(self) -> Lsn | None:
        """Drop the rows that interrupted attempts of the first snapshot read.

        The stream begins where the last attempt does: it has no deletes from before.
        Returns: the LSN of a new attempt, below which silver's rows go, too. None once the stream is
            being merged: its changes may carry such LSNs.
        """
        newest = self.marks.get(FIRST_SNAPSHOT, START).lsn
        if len(self.snapshot_attempts) > 1:
            old = self.snapshot_attempts - {newest}
            self.changes = [c for c in self.changes if c.op != "r" or c.lsn not in old]
        return newest if 0 < self.first_snapshot < newest and not self.last_ends else None

    def _defer_deletes(self) -> None:
        """Drop a delete that is the last event and the first half of a key change.

        The second half, in the next batch, may need the old row's large values, which silver has
        only as long as it has the row. It will remove the row: see `Change.resumes_key_change`.
        The delete stays if the connector named its columns by another definition: then the second
        half's old key is unknown.
        """
        # Another partition may have been read further: it may have the second half already.
        other_ends = (mark for partition, mark in self.other_keys.items() if partition >= 0)
        end = max([*self._streamed().values(), *other_ends], default=START)
        if any(c.old_key is not None and _delete_of(c.order) == end for c in self.changes):
            return
        self.changes = [
            change
            for change in self.changes
            if not (
                change.op == "d"
                and change.order == end
                and any(name == NEW_KEY_HEADER for name, _ in change.event.headers)
                and self.images.has_own_names(change.event)
            )
        ]

    def finish(self) -> Decoded:
        """Convert the images; changes whose images break the contract become rejects."""
        if self.images.layout.has_large_values and not self.contract.is_keyless:
            self._defer_deletes()
        first_snapshot_lsn = None if self.contract.is_keyless else self._drop_interrupted_attempts()
        images, bad = self.images.convert()
        if bad:
            self._reject_rows(bad)
        return Decoded(
            changes=Changes(
                self.changes, images, self.images.gaps, first_snapshot_lsn, self.resync_lsn
            ),
            rejects=self.rejects,
            skipped=self.skipped,
            ignored=self.ignored,
            high_water=HighWater({(self.topic, p): mark for p, mark in self.marks.items()}),
            unknown_columns=self.images.unknown_columns,
            stale_columns=self.images.stale_columns,
            last_lsn=self.last_lsn,
            last_committed_us=self.last_committed_us,
            depends_on_other_keys=self.depends_on_other_keys,
            snapshot_attempts=frozenset(
                self.snapshot_attempts | {self.first_snapshot} if self.snapshot_attempts else ()
            )
            - {0},
        )

    def _reject_rows(self, bad: dict[int, tuple[str, str]]) -> None:
        kept = []
        for change in self.changes:
            problem = bad.get(change.after) or bad.get(change.before)
            if problem is None:
                kept.append(change)
                continue
            self.rejects.append(Reject(change.event, *problem))
            if change.old_key is not None:  # the row under its old key is deleted nevertheless
                kept.append(
                    change._replace(
                        op="d", key=change.old_key, after=change.old_image, old_key=None
                    )
                )
        self.changes = kept


def _is_first_snapshot(source: Document) -> bool:
    """Whether a row is of the connector's first snapshot: it has seen no commit before."""
    return (
        str(source.get("sequence")).startswith("[null") and source.get("snapshot") != "incremental"
    )


def _delete_of(create: Position) -> Position:
    """Return the position of the delete that precedes the create of a key change."""
    return create._replace(total_order=max(create.total_order - 1, 0))
