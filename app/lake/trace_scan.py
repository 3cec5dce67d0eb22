"""One key's events in a topic's bronze, from the newest backwards, within a limit and a time.

There is no index. What bounds the search: a key's partition; the number of events wanted; the
newest version in silver, behind which merged objects need not be looked at (`Skip`); and a time,
after which the search says how far it came, so that another one goes on from there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import orjson

from app.lake.trace_event import is_truncate, lsn_of
from app.lake.trace_key import RowKey
from spark_streaming.bronze import BLOCK_OFFSETS, Bronze, block_number, event_of, first_offset
from spark_streaming.events import RawEvent

# Unpacking releases the interpreter's lock; the store answers while another object is unpacked.
THREADS = 3
# Objects in memory at once, of 8 MiB each as a rule.
AHEAD = 5
# A TRUNCATE has no key. In a column's value the quotes would be escaped once more.
_TRUNCATE = b'\\"op\\":\\"t\\"'
# Below so many blocks a look for the one to begin with costs more than it saves.
SKIP_BLOCKS_MIN = 6
# How far the clocks of the producer and of the job that merges may be apart.
CLOCKS_APART_MS = 600_000


class Found(NamedTuple):
    """An event and where bronze has it: object and line, from 1; "" and 0 where it has not yet."""

    event: RawEvent
    path: str = ""
    line: int = 0


class Skip(NamedTuple):
    """What need not be looked at: the row that silver has says when it was merged, and every
    event that is newer than its own is one that silver has not merged, or in quarantine.

    Args:
        merged_ms: when the row was merged (ms since 1970); its event came before.
        merged_to: partition -> the next offset that silver has not merged.
        held: partition -> offsets of the key's events in quarantine.
    """

    merged_ms: int
    merged_to: dict[int, int]
    held: dict[int, list[int]]


@dataclass
class Scan:
    """What a search of one partition found, newest first.

    Args:
        end: the offset behind the last record in bronze; 0 without one.
        reached: the offset down to which all was searched; None: to the beginning.
    """

    found: list[Found] = field(default_factory=list)
    end: int = 0
    reached: int | None = None


class _Searched(NamedTuple):
    first: int
    last: int
    newest_ms: int  # Kafka's time of its last record
    found: list[Found]  # newest first


def scan(
    bronze: Bronze,
    topic: str,
    partition: int,
    key: RowKey,
    *,
    limit: int,
    deadline: float,
    before: int | None = None,
    since_ms: int | None = None,
    skip: Skip | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Scan:
    """Search a partition from its end, or from below offset `before`, backwards.

    Args:
        limit: ends when so many of the key's events are found; TRUNCATEs do not count.
        deadline: of `clock`; ends after it. One object is looked at in any case.
        since_ms: ends at an object that is older than this (Kafka's time).
    Raises: UnreadableObjectError; OSError where the store does not answer.
    """
    result = Scan()
    needles = [*key.needles(), _TRUNCATE]
    paths = _wanted(bronze, topic, partition, before, skip)
    number = 0
    with ThreadPoolExecutor(THREADS, thread_name_prefix="trace") as pool:
        under_way: deque[Future[_Searched]] = deque()

        def more() -> None:
            for path in islice(paths, AHEAD - len(under_way)):
                under_way.append(pool.submit(_search, bronze, path, needles, key, before))

        more()
        while under_way:
            searched = under_way.popleft().result()
            result.end = max(result.end, searched.last + 1)
            result.found += searched.found
            number += sum(1 for one in searched.found if not is_truncate(one.event))
            result.reached = searched.first
            is_old = since_ms is not None and searched.newest_ms < since_ms - CLOCKS_APART_MS
            if number >= limit or is_old or clock() > deadline:
                for future in under_way:
                    future.cancel()
                return result
            more()
    result.reached = None
    return result


def _wanted(
    bronze: Bronze, topic: str, partition: int, before: int | None, skip: Skip | None
) -> Iterator[str]:
    """The objects to look at, newest first; the first one always, for it tells the end."""
    keep_below = _first_needless(bronze, topic, partition, skip) if skip else None
    newer: int | None = None
    for path in bronze.objects_newest_first(topic, partition, before):
        first = first_offset(path)
        if (
            skip is None
            or keep_below is None
            or newer is None
            or first < keep_below
            or newer > skip.merged_to.get(partition, 0)
            or any(first <= offset < newer for offset in skip.held.get(partition, ()))
        ):
            yield path
        newer = first


def _first_needless(bronze: Bronze, topic: str, partition: int, skip: Skip) -> int | None:
    """The first offset of the blocks that began after the row was merged; None: not worth it."""
    blocks = bronze.blocks(topic, partition)
    if len(blocks) < SKIP_BLOCKS_MIN:
        return None
    low, high = 0, len(blocks)  # blocks[low:high] may be the first that began too late
    while low < high:
        middle = (low + high) // 2
        began = bronze.first_timestamp(blocks[middle])
        if began is not None and began > skip.merged_ms + CLOCKS_APART_MS:
            high = middle
        else:
            low = middle + 1
    return block_number(blocks[low]) * BLOCK_OFFSETS if low < len(blocks) else None


def _search(
    bronze: Bronze, path: str, needles: Sequence[bytes], key: RowKey, before: int | None
) -> _Searched:
    """One object's events of the key, and its TRUNCATEs."""
    body = bronze.content(path)
    newest = orjson.loads(body[body.rfind(b"\n", 0, -1) + 1 :])
    found = []
    for begin in sorted(set(_lines(body, needles)), reverse=True):
        document = orjson.loads(body[begin : body.find(b"\n", begin)])
        event = event_of(document)
        if event.value is None or (before is not None and event.offset >= before):
            continue  # a tombstone says nothing that the delete before it does not
        if key.owns(event.key, event.value) or is_truncate(event):
            found.append(Found(event, path, body.count(b"\n", 0, begin) + 1))
    return _Searched(
        first_offset(path), int(newest["offset"]), int(newest.get("timestamp") or 0), found
    )


def _lines(body: bytes, needles: Sequence[bytes]) -> Iterator[int]:
    """Where the lines begin that hold one of the needles."""
    for needle in needles:
        at = body.find(needle)
        while at >= 0:
            begin = body.rfind(b"\n", 0, at) + 1
            yield begin
            # One hit a line is enough.
            end = body.find(b"\n", at)
            at = body.find(needle, end) if end >= 0 else -1


def in_order(found: Sequence[Found]) -> list[Found]:
    """Events of several partitions, each once, as the source committed them.

    A partition's are in the order of its offsets whatever their LSNs say (an incremental
    snapshot's rows have the stream's); partitions are put together by LSN.
    """
    placed: dict[int, dict[int, Found]] = {}
    for one in found:
        placed.setdefault(one.event.partition, {})[one.event.offset] = one
    ranked = []
    for partition, events in placed.items():
        lsn = 0
        for offset in sorted(events):
            lsn = max(lsn, lsn_of(events[offset].event) or 0)
            ranked.append(((lsn, partition, offset), events[offset]))
    return [one for _, one in sorted(ranked, key=lambda pair: pair[0])]
