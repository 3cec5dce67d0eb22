"""Searches a topic's bronze for one key's events, from the newest backwards.

There is no index. Four things limit the search: the key's partition; the number of events wanted;
the newest version in silver, which makes newer merged objects irrelevant (`Skip`); and a time
limit, after which the search reports how far it came, so that another search can continue from
there.
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

from app.trace.trace_event import is_of_all_rows, lsn_of, op_of
from app.trace.trace_key import RowKey
from spark_streaming.events.event import RawEvent
from spark_streaming.events.resync_events import IN_BRONZE, is_resync_end
from spark_streaming.reading.bronze import Bronze, event_of, section_offset
from spark_streaming.reading.bronze_names import first_offset

# Unpacking releases the interpreter's lock, so threads fetch objects while others are unpacked.
THREADS = 3
# Objects in memory at once, of 8 MiB each as a rule.
AHEAD = 5
# A TRUNCATE has no key. Within a column's value the quotes would be escaped twice.
_TRUNCATE = b'\\"op\\":\\"t\\"'
# If there are fewer sections of bronze, a search for the first irrelevant one costs more than it saves.
SKIP_SECTIONS_MIN = 6
# How far the clocks of the producer and of the job that merges may be apart.
CLOCKS_APART_MS = 600_000


class Found(NamedTuple):
    """An event and its place in bronze: object, and line from 1; "" and 0 if it does not exist yet."""

    event: RawEvent
    path: str = ""
    line: int = 0


class Skip(NamedTuple):
    """Says which objects cannot hold an event of the key.

    The row in silver says when it was merged. Events of the key that are newer than the row's last
    merged event are either not merged yet or in quarantine.

    Args:
        merged_ms: when the row was merged (ms since 1970); its event came before.
        merged_to: partition -> the next offset that silver has not merged.
        quarantined: partition -> offsets of the key's events in quarantine.
    """

    merged_ms: int
    merged_to: dict[int, int]
    quarantined: dict[int, list[int]]


@dataclass
class Scan:
    """The result of searching one partition; events are newest first.

    Args:
        end: the offset after the last record in bronze; 0 if there is none.
        reached: the offset down to which everything was searched; None if to the beginning.
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
    """Search a partition backwards from its end, or from offset `before` (not included).

    Args:
        limit: end when this many of the key's events are found; events of all rows do not count.
        deadline: end after this time of `clock`, but search at least one object.
        since_ms: end at an object that is older than this (Kafka's time).
    Raises: UnreadableObjectError; OSError if the object store does not answer.
    """
    result = Scan()
    needles = [*key.needles(), _TRUNCATE, IN_BRONZE]
    paths = _wanted(bronze, topic, partition, before, skip)
    number = 0
    with ThreadPoolExecutor(THREADS, thread_name_prefix="trace") as pool:
        running: deque[Future[_Searched]] = deque()

        def more() -> None:
            for path in islice(paths, AHEAD - len(running)):
                running.append(pool.submit(_search, bronze, path, needles, key, before))

        more()
        while running:
            searched = running.popleft().result()
            result.end = max(result.end, searched.last + 1)
            result.found += searched.found
            number += sum(1 for one in searched.found if not is_of_all_rows(one.event))
            result.reached = searched.first
            is_old = since_ms is not None and searched.newest_ms < since_ms - CLOCKS_APART_MS
            if number >= limit or is_old or clock() > deadline:
                for future in running:
                    future.cancel()
                return result
            more()
    result.reached = None
    return result


def _wanted(
    bronze: Bronze, topic: str, partition: int, before: int | None, skip: Skip | None
) -> Iterator[str]:
    """Yield the objects to search, newest first; always the newest, because it has the end."""
    search_below = _first_irrelevant(bronze, topic, partition, skip) if skip else None
    newer: int | None = None
    for path in bronze.objects_newest_first(topic, partition, before):
        first = first_offset(path)
        if (
            skip is None
            or search_below is None
            or newer is None
            or first < search_below
            or newer > skip.merged_to.get(partition, 0)
            or any(first <= offset < newer for offset in skip.quarantined.get(partition, ()))
        ):
            yield path
        newer = first


def _first_irrelevant(bronze: Bronze, topic: str, partition: int, skip: Skip) -> int | None:
    """Return the first offset of the sections begun after the row was merged.

    None if there are none, or too few sections for this to be worth it.
    """
    sections = bronze.sections(topic, partition)
    if len(sections) < SKIP_SECTIONS_MIN:
        return None
    low, high = 0, len(sections)  # the first one that began too late may be in sections[low:high]
    while low < high:
        middle = (low + high) // 2
        began = bronze.first_timestamp(sections[middle])
        if began is not None and began > skip.merged_ms + CLOCKS_APART_MS:
            high = middle
        else:
            low = middle + 1
    return section_offset(sections[low]) if low < len(sections) else None


def _search(
    bronze: Bronze, path: str, needles: Sequence[bytes], key: RowKey, before: int | None
) -> _Searched:
    """Search one object for events of the key, and events of all rows."""
    body = bronze.content(path)
    newest = orjson.loads(body[body.rfind(b"\n", 0, -1) + 1 :])
    found = []
    for begin in sorted(set(_lines(body, needles)), reverse=True):
        document = orjson.loads(body[begin : body.find(b"\n", begin)])
        event = event_of(document)
        if event.value is None or (before is not None and event.offset >= before):
            continue  # a tombstone adds nothing to the delete before it
        if key.owns(event.key, event.value) or is_of_all_rows(event):
            found.append(Found(event, path, body.count(b"\n", 0, begin) + 1))
    return _Searched(
        first_offset(path), int(newest["offset"]), int(newest.get("timestamp") or 0), found
    )


def _lines(body: bytes, needles: Sequence[bytes]) -> Iterator[int]:
    """Yield the positions where lines with one of the needles begin."""
    for needle in needles:
        at = body.find(needle)
        while at >= 0:
            begin = body.rfind(b"\n", 0, at) + 1
            yield begin
            # One hit a line is enough.
            end = body.find(b"\n", at)
            at = body.find(needle, end) if end >= 0 else -1


def in_order(found: Sequence[Found]) -> list[Found]:
    """Merge the events of several partitions, without duplicates, in the order of their commits.

    Events of one partition keep the order of their offsets, because an incremental snapshot's rows
    have the stream's LSN. Partitions are merged by LSN.
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


def without_idle_ends(ordered: Sequence[Found]) -> list[Found]:
    """Drop the ends of resyncs that found the row in the source."""
    kept: list[Found] = []
    last: RawEvent | None = None
    for one in ordered:
        event = one.event
        if not is_resync_end(event):
            last = event
        elif (
            last is None
            or op_of(last) in ("d", "t", "m")
            # In the row's own partition, the row that the resync read comes before the resync's
            # end.
            or last.partition != event.partition
            or (lsn_of(last) or 0) >= (lsn_of(event) or 0)
        ):
            continue
        else:
            last = event
        kept.append(one)
    return kept
