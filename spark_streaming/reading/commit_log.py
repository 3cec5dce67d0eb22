"""The source's commits in their order, as the END records in bronze tell them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orjson

from spark_streaming.contract.lsn import Lsn
from spark_streaming.reading.bronze import Bronze, before_section

PARTITION = 0  # the transaction topic's only one
# Commits in memory at once; a few bytes each.
KEPT_MAX = 100_000


class Commit(NamedTuple):
    """A transaction's end: the LSN of its commit and the source's time."""

    lsn: Lsn
    time_ms: int


def commits_from(
    bronze: Bronze, topic: str, is_later: Callable[[Commit], bool]
) -> Iterator[Commit]:
    """Yield the commits in order, from shortly before the first one that is later.

    Args:
        topic: of the transactions' END records.
        is_later: whether a commit is after the wanted place; true for all after the first such one.
    """
    for path in bronze.objects(topic, PARTITION, after=_place(bronze, topic, is_later)):
        yield from _commits(bronze, path)


def _place(bronze: Bronze, topic: str, is_later: Callable[[Commit], bool]) -> str:
    """Return a path before the first object that may have a commit that is later."""
    sections = bronze.sections(topic, PARTITION)
    low, high = 0, len(sections)
    while low + 1 < high:
        middle = (low + high) // 2
        begin = next(_commits_of_section(bronze, topic, sections[middle]), None)
        if begin is None or is_later(begin):
            high = middle
        else:
            low = middle
    return before_section(sections[low]) if sections else ""


def _commits_of_section(bronze: Bronze, topic: str, section: str) -> Iterator[Commit]:
    for path in bronze.objects(topic, PARTITION, after=before_section(section)):
        if not path.startswith(section):
            return
        yield from _commits(bronze, path)


def _commits(bronze: Bronze, path: str) -> Iterator[Commit]:
    for document in bronze.documents(path):
        record: Any = orjson.loads(document["value"]) if document["value"] else {}
        if record.get("status") == "END":
            yield Commit(Lsn(int(record["id"].partition(":")[2])), int(record["ts_ms"]))


class CommitLog:
    """Finds the commit that follows a position. It keeps a window of them, and reads on or back.

    Args:
        topic: of the transactions' END records.
        kept_max: commits in memory at once.
    """

    def __init__(self, bronze: Bronze, topic: str, kept_max: int = KEPT_MAX) -> None:
        self._bronze = bronze
        self._topic = topic
        self._kept_max = kept_max
        self._known: list[Lsn] = []
        self._begins_after: Lsn | None = None  # the window has all commits after this one
        self._read_upto = ""  # the last object that was read
        self._reading: Iterator[Commit] = iter(())
        self._has_more = False  # whether bronze may have objects after those that are being read

    def refresh(self) -> None:
        """Read on at the next question: bronze may have more commits."""
        self._has_more = True

    def after(self, lsn: Lsn) -> Lsn | None:
        """Return the first commit after `lsn`; None while bronze has none."""
        if self._begins_after is None or lsn < self._begins_after:
            self._known.clear()
            self._begins_after = lsn
            self._read_upto = _place(self._bronze, self._topic, lambda one: one.lsn > lsn)
            self._reading, self._has_more = self._read_on(), False
        while (place := bisect_right(self._known, lsn)) == len(self._known):
            commit = next(self._reading, None)
            if commit is not None:
                self._add(commit.lsn)
            elif self._has_more:
                self._reading, self._has_more = self._read_on(), False
            else:
                return None
        return self._known[place]

    def _read_on(self) -> Iterator[Commit]:
        for path in self._bronze.objects(self._topic, PARTITION, after=self._read_upto):
            self._read_upto = path
            yield from _commits(self._bronze, path)

    def _add(self, lsn: Lsn) -> None:
        assert self._begins_after is not None
        # A restarted connector may send END records again.
        if lsn <= max(self._begins_after, self._known[-1] if self._known else lsn - 1):
            return
        self._known.append(lsn)
        if len(self._known) > self._kept_max:
            gone = self._kept_max // 2
            self._begins_after = self._known[gone - 1]
            del self._known[:gone]
