"""Finds questions whose events are missing, by the running numbers in Trino's query ids.

A query id is `20260131_120000_00017_abcde`: second (UTC), number, coordinator. A coordinator has another
last part after each start. Its numbers begin at 0 each day, and again after 99,999.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_ID = re.compile(r"(\d{8})_\d{6}_(\d{5})_(\w+)")
_NUMBERS = 100_000
# The caller must check at this interval; after a longer pause the grace period begins again, because events sent
# meanwhile are still arriving.
PAUSE_MAX_S = 10.0
SERIES_MAX = 64


class Series(NamedTuple):
    """The numbers of one coordinator on one day (`20260131`, UTC)."""

    coordinator: str
    day: str

    def __str__(self) -> str:
        return f"{self.coordinator}/{self.day}"


class Gap(NamedTuple):
    """Questions of which nothing arrived: numbers `first` to `last` of a series."""

    series: Series
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.last > self.first else str(self.first)


class Open(NamedTuple):
    """A question that has started: its id, the place of that event, and when we heard of it."""

    query_id: str
    partition: int
    offset: int
    heard_at: float


class NumberRanges:
    """A set of numbers, as disjoint ranges."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number) - 1
        return place >= 0 and number <= self._lasts[place]

    def __str__(self) -> str:
        pairs = zip(self._firsts, self._lasts, strict=True)
        return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in pairs)

    def add(self, first: int, last: int) -> None:
        """Add the numbers from `first` to `last`, both included."""
        begin = bisect_left(self._lasts, first - 1)
        end = bisect_right(self._firsts, last + 1)
        if begin < end:
            first, last = min(first, self._firsts[begin]), max(last, self._lasts[end - 1])
        self._firsts[begin:end], self._lasts[begin:end] = [first], [last]

    def absent(self, last: int) -> Iterator[tuple[int, int]]:
        """Give the ranges of 0 to `last` that are not in the set."""
        expected = 0
        for begin, end in zip(self._firsts, self._lasts, strict=True):
            if begin > last:
                break
            if begin > expected:
                yield expected, begin - 1
            expected = end + 1
        if expected <= last:
            yield expected, last


@dataclass
class _Numbers:
    done: NumberRanges = field(default_factory=NumberRanges)
    accounted: NumberRanges = field(default_factory=NumberRanges)
    highest: int = -1


class QueryNumbers:
    """Which questions are known. Not safe for several threads.

    Args:
        grace_s: how long after a later number a missing one counts as lost.
        open_max_s: how long a question may run; Trino ends them by `query.max-execution-time`.
    """

    def __init__(self, grace_s: float, open_max_s: float) -> None:
        self._grace_s = grace_s
        self._open_max_s = open_max_s
        self._series: dict[Series, _Numbers] = {}
        self._open: dict[str, Open] = {}
        self._newest = ""
        self._history: deque[tuple[float, dict[Series, int]]] = deque()

    def restore(self, series: str, numbers: str, *, done: bool) -> None:
        """Take over the table's numbers: `0-57,59` of `coordinator/day`."""
        coordinator, _, day = series.partition("/")
        found = self._of(Series(coordinator, day))
        for part in numbers.split(","):
            first, _, last = part.partition("-")
            self._account(found, int(first), int(last or first), done)

    def started(self, query_id: str, partition: int, offset: int, now: float) -> None:
        """Take note of a question's start, unless its end is known."""
        series, number = self._heard(query_id)
        found = self._of(series)
        self._account(found, number, number, False)
        if number not in found.done and query_id not in self._open:
            self._open[query_id] = Open(query_id, partition, offset, now)

    def ended(self, query_id: str) -> bool:
        """Take note of a question's end. Returns: whether it is new."""
        series, number = self._heard(query_id)
        found = self._of(series)
        self._open.pop(query_id, None)
        if number in found.done:
            return False
        self._account(found, number, number, True)
        return True

    def issued(self, query_id: str) -> None:
        """Take note that Trino has given this id, and therefore all before it."""
        series, number = self._heard(query_id)
        found = self._of(series)
        found.highest = max(found.highest, number)

    def place(self, query_id: str) -> tuple[Series, int]:
        """Return the series of a query id and its number there, which goes on after 99,999.

        Raises: ValueError if it is not a query id.
        """
        match = _ID.fullmatch(query_id)
        if match is None:
            raise ValueError(f"`{query_id}` is no query id of Trino's")
        series, number = Series(match[3], match[1]), int(match[2])
        highest = max(0, self._of(series).highest)
        rounds = {max(0, highest // _NUMBERS + step) for step in (-1, 0, 1)}
        return series, min((r * _NUMBERS + number for r in rounds), key=lambda n: abs(n - highest))

    def overdue(self, now: float) -> list[Gap]:
        """Return the gaps that are older than the grace, each once. To be called when nothing waits."""
        if self._history and now - self._history[-1][0] > PAUSE_MAX_S:
            self._history.clear()
        self._history.append((now, {s: found.highest for s, found in self._series.items()}))
        limits: dict[Series, int] = {}
        while self._history[0][0] <= now - self._grace_s:
            limits = self._history.popleft()[1]
        if limits:
            self._history.appendleft((now - self._grace_s, limits))
        gaps = []
        for series, limit in limits.items():
            if (found := self._series.get(series)) is None:
                continue
            for first, last in list(found.accounted.absent(limit)):
                found.accounted.add(first, last)
                gaps.append(Gap(series, first, last))
        return gaps

    def unended(self, now: float) -> list[Open]:
        """Return the questions whose end will not come, each once: Trino ended, or their time is up."""
        lost = [
            one
            for one in self._open.values()
            if now - one.heard_at > self._open_max_s
            or (now - one.heard_at > self._grace_s and not self._lives(one.query_id))
        ]
        for one in lost:
            del self._open[one.query_id]
        return lost

    def kept_offsets(self) -> dict[int, int]:
        """Return, for each partition, the first offset that a restart has to read again."""
        found: dict[int, int] = {}
        for one in self._open.values():
            found[one.partition] = min(found.get(one.partition, one.offset), one.offset)
        return found

    # -- inside

    def _lives(self, query_id: str) -> bool:
        """Whether no later coordinator than this question's has been heard of."""
        return _coordinator(query_id) == _coordinator(self._newest)

    def _heard(self, query_id: str) -> tuple[Series, int]:
        self._newest = max(self._newest, query_id, key=lambda name: name[:15])  # its second
        return self.place(query_id)

    def _of(self, series: Series) -> _Numbers:
        found = self._series.get(series)
        if found is None:
            found = self._series[series] = _Numbers()
            while len(self._series) > SERIES_MAX:
                del self._series[next(iter(self._series))]
        return found

    @staticmethod
    def _account(found: _Numbers, first: int, last: int, done: bool) -> None:
        found.highest = max(found.highest, last)
        found.accounted.add(first, last)
        if done:
            found.done.add(first, last)


def _coordinator(query_id: str) -> str:
    return query_id.rpartition("_")[2]
