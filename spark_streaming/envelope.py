"""Debezium's events into typed changes of one table."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter

import orjson

from spark_streaming.contract import Contract
from spark_streaming.events import Change, Changes, Decoded, RawEvent, RawKey, Reject
from spark_streaming.images import NEW_KEY_HEADER, Document, Images, Refused
from spark_streaming.position import (
    FIRST_SNAPSHOT,
    START,
    TRUNCATE,
    HighWater,
    Position,
    parse_sequence,
)

__all__ = ["Changes", "Decoded", "HighWater", "Position", "RawEvent", "Reject", "decode"]

LSN_MAX = 2**63 - 1
# Of a table's snapshot rows the first is marked so; of a table with one row, only the last.
_SNAPSHOT_BORDERS = frozenset(
    {"first", "first_in_data_collection", "last", "last_in_data_collection"}
)
_ROW_OPERATIONS = frozenset("cudr")
_NOTHING = HighWater()


def decode(
    events: Iterable[RawEvent],
    contract: Contract,
    high_water: HighWater,
    beside: HighWater = _NOTHING,
) -> Decoded:
    """Decode the events of one table's topic, in any order, into changes that `fold` takes.

    Args:
        events: of one topic; replays of what `high_water` has passed are skipped, tombstones
            and messages ignored.
        contract: the table's.
        high_water: as the last batch left it; other topics' marks are dropped.
        beside: how far the same batch's other events reach, where these are some keys' only.
    An event that breaks the contract is rejected with its reason; none is dropped silently.
    """
    ordered = sorted(events, key=itemgetter(1, 2))  # partition, offset
    topic = ordered[0].topic if ordered else ""
    reader = _Reader(contract, high_water, topic, beside)
    with _no_garbage_collection():
        for event in ordered:
            reader.read(event)
        return reader.finish()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the collector from walking all rows again and again: a third of the time here."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Reader:
    """Reads events in order and gathers what `Decoded` holds."""

    def __init__(
        self, contract: Contract, high_water: HighWater, topic: str, beside: HighWater
    ) -> None:
        self.contract = contract
        self.images = Images(contract)
        self.marks = high_water.marks(topic)  # by partition
        self.topic = topic
        self.beside = beside.marks(topic)
        self.by_place = False
        # Of earlier batches only: `fold` looks after this one's.
        self.truncated = high_water.truncated(topic)
        self.last_ends = frozenset(self._streamed().values())
        self.first_snapshot = self.marks.get(FIRST_SNAPSHOT, START).lsn
        self.tries: set[int] = set()  # LSNs of the first snapshot's tries in this batch
        self.changes: list[Change] = []
        self.rejects: list[Reject] = []
        self.skipped = self.ignored = 0
        self.last_lsn = self.last_committed_us = 0

    def read(self, event: RawEvent) -> None:
        """Take one event in: a change, a reject, a replay, or nothing."""
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
            self.ignored += 1
            return
        source = document["source"]
        if self.images.history.is_of_other_table(document):
            self.skipped += 1
            return
        lsn = source["lsn"]
        if lsn is None and op == "r":
            # An incremental snapshot's rows carry the stream's position, and no LSN of their own.
            lsn = parse_sequence(source["sequence"])[1]
        if type(lsn) is not int or not 0 <= lsn < LSN_MAX:
            raise Refused("not-an-envelope", f"source.lsn is {lsn!r}, not an LSN")
        committed = source.get("ts_us") or (source.get("ts_ms") or 0) * 1000
        if type(committed) is not int:
            raise Refused("not-an-envelope", f"the commit time is {committed!r}, not a number")
        if lsn > self.last_lsn:
            self.last_lsn = lsn
        # An incremental snapshot's rows carry the time they were read, ahead of the stream.
        if op != "r" and committed > self.last_committed_us:
            self.last_committed_us = committed
        if op == "r" and _is_first_snapshot(source) and not self._begin_try(lsn):
            self.skipped += 1
            return
        partition = event.partition
        guard = lsn if op == "r" else self._advance(partition, source, lsn, document)
        order = self.marks.get(partition, START)
        if guard is None or self._is_truncated(op, lsn, order):
            self.skipped += 1
            return
        if op == "t":
            self.by_place = True
            self.marks[TRUNCATE] = max(order, self.marks.get(TRUNCATE, START))
        key, after, before, old_key, old_image = self._rows_of(op, event, document)
        resumes = old_key is not None and _delete_of(order) in self.last_ends
        border = op == "r" and source.get("snapshot") in _SNAPSHOT_BORDERS
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
                resumes,
                border,
                event,
            )
        )

    def _advance(
        self, partition: int, source: Document, lsn: int, document: Document
    ) -> int | None:
        """Pass a streamed event; its guard, or None for a replay.

        An event that is past the mark in commit order is new: it replaces whatever silver holds.
        That matters after a snapshot: a transaction that was under way while it was taken
        streams afterwards, with lower LSNs than the snapshot's rows carry.
        """
        commit, _ = parse_sequence(source["sequence"])
        order = (document.get("transaction") or {}).get("total_order") or 0
        mark = self.marks.get(partition, START)
        if commit is None or not order:
            self.by_place = True
        if commit is None and mark.last_commit_lsn > 0:
            return lsn  # its order is not known: neither skip it nor trust it
        if type(order) is not int:
            raise Refused("not-an-envelope", f"transaction.total_order is {order!r}, not a number")
        position = Position(commit or 0, lsn, order)
        if position > mark:
            self.marks[partition] = position
            return LSN_MAX
        # Rows of one COPY share an LSN: without their order in it, none counts as a replay.
        return lsn if not order and position[:2] == mark[:2] else None

    def _is_truncated(self, op: str, lsn: int, order: Position) -> bool:
        """Whether a TRUNCATE that an earlier batch merged removed what this event made."""
        if lsn >= self.truncated.lsn:
            return False
        if op != "r":
            return True
        if order >= self.truncated:
            return False
        self.by_place = True
        return True

    def _rows_of(
        self, op: str, event: RawEvent, document: Document
    ) -> tuple[RawKey | None, int, int, RawKey | None, int]:
        """Store the event's images: (key, after, before, old key, old key's image)."""
        if op == "t":
            return None, -1, -1, None, -1
        if op not in _ROW_OPERATIONS:
            raise Refused("unknown-operation", f"operation {str(op)[:40]!r} is not known")
        if self.contract.is_bag:
            return None, *self._bag_rows(op, event, document), None, -1
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
            # Debezium splits an update where the primary key changes, and knows no other key.
            old_key, old_image = images.key_row(None, document)
            if old_key == key:
                old_key, old_image = None, -1
        return key, after, -1, old_key, old_image

    def _bag_rows(self, op: str, event: RawEvent, document: Document) -> tuple[int, int]:
        if op == "r" and document["source"].get("snapshot") == "incremental":
            reason = "an incremental snapshot cannot tell the rows of a table without a key"
            raise Refused("snapshot-without-key", reason)
        before = self.images.store(event, document, "before") if op in "ud" else -1
        after = self.images.store(event, document, "after") if op != "d" else -1
        return after, before

    def _streamed(self) -> dict[int, Position]:
        """The marks of Kafka's partitions."""
        return {partition: mark for partition, mark in self.marks.items() if partition >= 0}

    def _begin_try(self, lsn: int) -> bool:
        """Note a try of the first snapshot; whether it is the newest so far."""
        if lsn < self.marks.get(FIRST_SNAPSHOT, START).lsn:
            return self.contract.is_bag  # which looks after itself: see `fold_bag`
        self.marks[FIRST_SNAPSHOT] = Position(0, lsn, 0)
        self.tries.add(lsn)
        return True

    def _drop_earlier_tries(self) -> int | None:
        """Leave out what interrupted tries of the first snapshot read.

        The stream begins where the last try does: it does not tell of rows that went before.
        Returns: the LSN of a new try, below which silver's rows go too. Not once the stream is
            being merged: its changes may carry such LSNs.
        """
        newest = self.marks.get(FIRST_SNAPSHOT, START).lsn
        if len(self.tries) > 1:
            old = self.tries - {newest}
            self.changes = [c for c in self.changes if c.op != "r" or c.lsn not in old]
        return newest if 0 < self.first_snapshot < newest and not self.last_ends else None

    def _defer_deletes(self) -> None:
        """Leave out a delete that ends the events so far and is half of a key change.

        The other half, in the next batch, may need the old row's large values: they are in
        silver only as long as the row is. It removes the row: see `Change.resumes_move`. Not where
        the connector named the row by another definition: the other half's old key is not known.
        """
        # In a partition that is ahead the other half may have come already.
        beside = (mark for partition, mark in self.beside.items() if partition >= 0)
        end = max([*self._streamed().values(), *beside], default=START)
        if any(c.old_key is not None and _delete_of(c.order) == end for c in self.changes):
            return
        self.changes = [
            change
            for change in self.changes
            if not (
                change.op == "d"
                and change.order == end
                and any(name == NEW_KEY_HEADER for name, _ in change.event.headers)
                and self.images.is_named_by_its_own(change.event)
            )
        ]

    def finish(self) -> Decoded:
        """Convert the images; changes whose images break the contract become rejects."""
        if self.images.layout.has_large_values and not self.contract.is_bag:
            self._defer_deletes()
        first_snapshot_lsn = None if self.contract.is_bag else self._drop_earlier_tries()
        images, bad = self.images.convert()
        if bad:
            self._reject_rows(bad)
        return Decoded(
            changes=Changes(self.changes, images, self.images.gaps, first_snapshot_lsn),
            rejects=self.rejects,
            skipped=self.skipped,
            ignored=self.ignored,
            high_water=HighWater({(self.topic, p): mark for p, mark in self.marks.items()}),
            unknown_columns=self.images.unknown_columns,
            stale_columns=self.images.stale_columns,
            last_lsn=self.last_lsn,
            last_committed_us=self.last_committed_us,
            by_place=self.by_place,
            tries=frozenset(self.tries | {self.first_snapshot} if self.tries else ()) - {0},
        )

    def _reject_rows(self, bad: dict[int, tuple[str, str]]) -> None:
        kept = []
        for change in self.changes:
            found = bad.get(change.after) or bad.get(change.before)
            if found is None:
                kept.append(change)
                continue
            self.rejects.append(Reject(change.event, *found))
            if change.old_key is not None:  # the old row goes all the same
                kept.append(
                    change._replace(
                        op="d", key=change.old_key, after=change.old_image, old_key=None
                    )
                )
        self.changes = kept


def _is_first_snapshot(source: Document) -> bool:
    """Whether a snapshot row is of the connector's first one: it has seen no commit yet."""
    return (
        str(source.get("sequence")).startswith("[null") and source.get("snapshot") != "incremental"
    )


def _delete_of(create: Position) -> Position:
    """Where the delete stands that comes with the create of a key change."""
    return create._replace(total_order=max(create.total_order - 1, 0))
