"""Merges the partitions of a topic by the time of their events."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping

from spark_streaming.events.event import RawEvent


class EventsByTime:
    """A topic's events of all partitions in the order of their times, some at a time.

    Thus events that belong together, such as the two halves of a key change, are seldom separated,
    even if they are in different partitions. It reads ahead by one event per partition.

    Args:
        partitions: number → events in the order of their offsets.
        before_ms: leaves out events of this time (ms since 1970) and later; None takes all.
    """

    def __init__(
        self, partitions: Mapping[int, Iterable[RawEvent]], before_ms: int | None = None
    ) -> None:
        self._events = {number: iter(events) for number, events in partitions.items()}
        self._before_ms = before_ms
        self._heads: list[tuple[int, int, RawEvent]] = []
        for number in self._events:
            self._advance(number)

    def take(self, events_max: int, bytes_max: int) -> list[RawEvent]:
        """Return the next events; none at the end.

        Events of one millisecond stay together, even beyond a limit, up to twice the limit.
        """
        taken: list[RawEvent] = []
        size = 0
        while self._heads:
            time_ms, number, event = self._heads[0]
            full = len(taken) >= events_max or size >= bytes_max
            beyond = len(taken) >= 2 * events_max or size >= 2 * bytes_max
            if full and (beyond or time_ms != taken[-1].timestamp_ms):
                break
            taken.append(event)
            size += len(event.value or b"")
            heapq.heappop(self._heads)
            self._advance(number)
        return taken

    def take_until(self, ends: Mapping[int, int]) -> list[RawEvent]:
        """Return each partition's next events below its end, e.g. those taken before a restart."""
        taken = []
        for _, number, event in self._heads:
            head: RawEvent | None = event
            while head is not None and head.offset < ends.get(number, 0):
                taken.append(head)
                head = next(self._events[number], None)
            if head is not None:
                self._events[number] = _behind(head, self._events[number])
        self._heads = []
        for number in self._events:
            self._advance(number)
        return taken

    def _advance(self, number: int) -> None:
        event = next(self._events[number], None)
        if event is None:
            return
        if self._before_ms is not None and event.timestamp_ms >= self._before_ms:
            self._events[number] = iter(())
            return
        heapq.heappush(self._heads, (event.timestamp_ms, number, event))


def _behind(first: RawEvent, rest: Iterator[RawEvent]) -> Iterator[RawEvent]:
    yield first
    yield from rest
