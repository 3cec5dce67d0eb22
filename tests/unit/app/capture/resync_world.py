"""What the model of a resync is about: a source's log, Debezium's window, two partitions, silver."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.envelope import HighWater, decode
from spark_streaming.events.event import RawEvent
from spark_streaming.events.resync_events import ResyncEnd, resync_end
from spark_streaming.fold.keyed import fold
from tests.unit.debezium_events import event, raw
from tests.unit.model import KEYED, Silver

PARTITIONS = 2
SIGNAL, LOW, HIGH = "signal", "low", "high"  # rows of the signal table, in the log
Rows = tuple[tuple[int, str], ...]  # key, value


class Event(NamedTuple):
    """An event of the table's topic: c, u, r, t or end (of a resync, with its L0 in `lsn`)."""

    op: str
    key: int
    value: str
    lsn: int
    commit: int = 0  # the last commit before it

    @property
    def partition(self) -> int:
        return self.key % PARTITIONS


class Source(NamedTuple):
    """The source: committed rows, where its log ends, and what Debezium has still to stream.

    `log`: (LSN of the commit, an event or a row of the signal table).
    """

    rows: Rows
    lsn: int
    log: tuple[tuple[int, Event | str], ...] = ()
    writer: int = 0  # LSN of the open transaction's write; -1: it has committed
    other_is_done: bool = False  # the TRUNCATE
    shape: int = 0  # the table's file

    def row(self, key: int, value: str) -> Source:
        rows = {**dict(self.rows), key: value}
        return self._replace(rows=tuple(sorted(rows.items())))

    def wrote(self, *entries: Event | str) -> Source:
        """The source after one more commit with these entries."""
        end = self.lsn + 10
        return self._replace(lsn=end, log=(*self.log, *((end, entry) for entry in entries)))


class Connector(NamedTuple):
    """Debezium: the last commit that it streamed, and its window: asked, opened, read, closing."""

    commit: int
    window: str = ""
    chunk: Rows = ()
    scans: int = 0  # snapshots that it told the end of


class Kept(NamedTuple):
    """Silver: its rows with their `_lsn`, its marks, and the next offset of each partition."""

    rows: tuple[tuple[int, str, int], ...]
    mark: str = "{}"
    offsets: tuple[int, ...] = (0,) * PARTITIONS

    @property
    def values(self) -> Rows:
        return tuple(sorted((key, value) for key, value, _ in self.rows))


def written(topic: tuple[tuple[Event, ...], ...], one: Event) -> tuple[tuple[Event, ...], ...]:
    """The topic with one more event."""
    found = list(topic)
    found[one.partition] = (*found[one.partition], one)
    return tuple(found)


@lru_cache(None)
def _raw(one: Event, partition: int, offset: int, partitions: int) -> RawEvent:
    if one.op == "end":
        end = ResyncEnd(Lsn(one.lsn), partitions)
        value = resync_end("public", "films", end, resync="1", at_ms=0, prefix="hw")
        return raw(value, offset=offset, partition=partition)
    row = {"id": one.key, "note": one.value, "big": None}
    return event(
        one.op,
        lsn=one.lsn,
        key=None if one.op == "t" else {"id": one.key},
        after=None if one.op == "t" else row,
        commit=one.commit,
        order=None if one.op == "r" else 1,
        offset=offset,
        partition=partition,
        snapshot="incremental" if one.op == "r" else "false",
    )


@lru_cache(None)
def _merged(
    rows: tuple[tuple[int, str, int], ...],
    mark: str,
    batch: tuple[tuple[Event, int, int], ...],
    partitions: int,
) -> tuple[tuple[tuple[int, str, int], ...], str]:
    silver = Silver(
        KEYED,
        [
            {"id": key, "note": value, "big": None, "_lsn": lsn, "_committed_at": None}
            for key, value, lsn in rows
        ],
    )
    high_water = HighWater.from_json(mark)
    decoded = decode([_raw(*one, partitions) for one in batch], KEYED, high_water)
    assert not decoded.rejects
    silver.merge(fold(decoded.changes, KEYED, silver.moved, silver.present))
    found = tuple(sorted((row["id"], row["note"], row["_lsn"]) for row in silver.rows))
    return found, high_water.merge(decoded.high_water).to_json()


def after_batch(
    kept: Kept, topic: tuple[tuple[Event, ...], ...], ends: tuple[int, ...], partitions: int
) -> Kept:
    """Silver after a batch up to `ends`: the job's own decoding and folding, one commit.

    Args:
        partitions: how many partitions the end of a resync names.
    """
    batch = tuple(
        (topic[number][offset], number, offset)
        for number in range(PARTITIONS)
        for offset in range(kept.offsets[number], ends[number])
    )
    rows, mark = _merged(kept.rows, kept.mark, batch, partitions)
    return Kept(rows, mark, ends)
