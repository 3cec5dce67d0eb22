"""Remembers in memory which idempotency keys a stream's table has, with 8 bytes a key, by day.

A known hash means that the table may have the key; only then is the table read. The look-up of new
events, which are nearly all, therefore reads nothing.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

# Events with one key are the same event if their days are equal or neighbours.
WINDOW_DAYS = 1
# For one stream, over all its days: 160 MB. Other days are read again when they are needed.
KEYS_MAX = 20_000_000
_RECENT_MAX = 50_000
Hashes = npt.NDArray[np.uint64]


def hashes_of(keys: Iterable[str]) -> Hashes:
    """The first 8 bytes of each key's BLAKE2b."""
    found = (int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") for key in keys)
    return np.fromiter(found, np.uint64)


def neighbours(day: dt.date) -> list[dt.date]:
    """The days in which an event of `day` may have been sent before."""
    around = range(-WINDOW_DAYS, WINDOW_DAYS + 1)
    return [day + dt.timedelta(days=step) for step in around]


class _Day:
    """The hashes of one day: a sorted part, and those added since."""

    def __init__(self, hashes: Hashes) -> None:
        self._sorted = np.unique(hashes)
        self._recent: set[int] = set()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def holds(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        places = np.searchsorted(self._sorted, hashes)
        found = np.zeros(len(hashes), dtype=bool)
        inside = places < len(self._sorted)
        found[inside] = self._sorted[places[inside]] == hashes[inside]
        if self._recent:
            found |= np.fromiter((h in self._recent for h in hashes.tolist()), bool, len(hashes))
        return found

    def add(self, hashes: Hashes) -> None:
        self._recent.update(hashes.tolist())
        if len(self._recent) > _RECENT_MAX:
            recent = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._sorted = np.union1d(self._sorted, recent)
            self._recent.clear()


class KeyIndex:
    """Finds events that the table may have already.

    Args:
        read: gives the keys of a day, piece by piece; it is called at the day's first use.
        keys_max: how many to keep; the days that were used longest ago are dropped first.
    """

    def __init__(
        self, read: Callable[[dt.date], Iterable[Sequence[str]]], keys_max: int = KEYS_MAX
    ) -> None:
        self._read = read
        self._keys_max = keys_max
        self._days: OrderedDict[dt.date, _Day] = OrderedDict()

    def perhaps(self, day: dt.date, keys: Sequence[str]) -> list[bool]:
        """For each key, whether that day or its neighbours may have it; False is always certain."""
        hashes = hashes_of(keys)
        found = np.zeros(len(hashes), dtype=bool)
        for near in neighbours(day):
            found |= self._day(near).holds(hashes)
        return [bool(value) for value in found]

    def add(self, day: dt.date, keys: Sequence[str]) -> None:
        """Note keys that the table has now."""
        self._day(day).add(hashes_of(keys))
        while len(self._days) > 1 and sum(map(len, self._days.values())) > self._keys_max:
            self._days.popitem(last=False)

    def forget(self) -> None:
        """Forget all days, so that they are read again after a write of unknown outcome."""
        self._days.clear()

    def _day(self, day: dt.date) -> _Day:
        known = self._days.get(day)
        if known is None:
            pieces = [hashes_of(keys) for keys in self._read(day)]
            empty = np.empty(0, np.uint64)
            known = self._days[day] = _Day(np.concatenate([empty, *pieces]))
        self._days.move_to_end(day)
        return known
