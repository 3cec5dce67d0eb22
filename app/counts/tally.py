"""Compares each transaction's expected counts with its observed events; pure, without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from app.counts.transactions import End, EventRun
from spark_streaming.contract.lsn import LOG_START, Lsn

Kind = Literal["short", "surplus"]
# How many judged transactions are remembered, so that a later event of one counts as surplus.
RECENT_MAX = 5_000
# An END counts as missing after this many later passes that read everything and found later ENDs.
PASSES_WITHOUT_END = 2


class Miscount(NamedTuple):
    """A wrong count: a transaction has too few or too many events of a table.

    Args:
        kind: `short`: events are missing; `surplus`: there are too many.
        lsn: the LSN of the transaction's commit, or of its last event if its END is missing.
        expected: number of events in its END; None if the END is missing.
        note: further details.
    """

    kind: Kind
    xid: int
    lsn: Lsn
    topic: str
    expected: int | None
    found: int
    note: str = ""


@dataclass
class _Open:
    """A transaction's events so far: topic → [events, sum of their numbers]; `since`: first pass."""

    since: int
    lsn: Lsn = LOG_START
    topics: dict[str, list[int]] = field(default_factory=dict)


class Tally:
    """Counts of events that are not judged yet, by transaction.

    It keeps one entry for each transaction that is not judged and RECENT_MAX numbers, but no
    events.
    """

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._recent: dict[int, Lsn] = {}  # xid → LSN of its commit, oldest first
        self._passes = 0
        self._ended = LOG_START  # LSN of the last commit that was judged
        self._floor = LOG_START
        self._excluded: set[int] = set()
        self.checked = 0
        self.unproven = 0

    @property
    def ended(self) -> Lsn:
        """The LSN of the newest commit whose counts were checked."""
        return self._ended

    def exclude(self, floor: Lsn, xids: Iterable[int]) -> None:
        """Exclude transactions that cannot be judged: these, and all up to the LSN `floor`.

        Their events are older than the events that bronze still has.
        """
        self._floor = max(self._floor, floor)
        self._excluded.update(xids)

    def add(self, topic: str, seen: Iterable[EventRun]) -> list[Miscount]:
        """Count events of a topic; return those of transactions that were judged already."""
        late: dict[int, Miscount] = {}
        for one in seen:
            commit = self._recent.get(one.xid)
            if commit is not None and one.lsn <= commit:
                known = late.get(one.xid)
                found = one.events + (known.found if known else 0)
                note = "events came again after the transaction was complete"
                late[one.xid] = Miscount("surplus", one.xid, commit, topic, 0, found, note)
                continue
            entry = self._open.get(one.xid)
            if entry is None:
                entry = self._open[one.xid] = _Open(self._passes)
            entry.lsn = max(entry.lsn, one.lsn)
            counts = entry.topics.setdefault(topic, [0, 0])
            counts[0] += one.events
            counts[1] += one.numbers
        return list(late.values())

    def judge(self, ends: Iterable[End], *, whole: bool) -> list[Miscount]:
        """Judge transactions whose events were all counted, in the order of their ENDs.

        Args:
            whole: whether this ends a pass that has read everything.
        """
        wrong: list[Miscount] = []
        progressed = False
        for end in ends:
            again = end.lsn <= self._ended or end.xid in self._recent
            if again and (self._recent.get(end.xid) == end.lsn or end.xid not in self._open):
                continue  # a restarted connector repeats transactions that were complete before
            self._ended = max(end.lsn, self._ended)
            progressed = True
            entry = self._open.pop(end.xid, None)
            if end.lsn <= self._floor or end.xid in self._excluded:
                self._excluded.discard(end.xid)
                continue
            self.checked += 1
            wrong += self._compare(end, entry.topics if entry else {})
            self._remember(end)
        if whole:
            self._passes += 1
            wrong += self._without_end(progressed)
        return wrong

    def _compare(self, end: End, found: Mapping[str, list[int]]) -> list[Miscount]:
        wrong = []
        unproven = False
        for topic in sorted(end.expected.keys() | found.keys()):
            expected = end.expected.get(topic, 0)
            events, numbers = found.get(topic, (0, 0))
            rest = numbers - expected * (expected + 1) // 2
            if events == expected and rest == 0:
                continue
            extra = events - expected
            # A connector that does not count the log starts again at 1 after a restart.
            if extra > 0 and not end.counted and rest == extra * (extra + 1) // 2:
                unproven = True
                continue
            kind: Kind = "surplus" if extra > 0 else "short"
            note = "" if extra else "some are missing and others are there twice"
            wrong.append(Miscount(kind, end.xid, end.lsn, topic, expected, events, note))
        self.unproven += unproven
        return wrong

    def _remember(self, end: End) -> None:
        self._recent.pop(end.xid, None)
        self._recent[end.xid] = end.lsn
        if len(self._recent) > RECENT_MAX:
            self._recent.pop(next(iter(self._recent)))

    def _without_end(self, progressed: bool) -> list[Miscount]:
        """Find transactions that were open two passes ago, if a later one has ended since."""
        if not progressed:
            return []
        wrong = []
        overdue = self._passes - PASSES_WITHOUT_END
        for xid, entry in list(self._open.items()):
            if entry.since >= overdue:
                continue
            del self._open[xid]
            if entry.lsn <= self._floor or xid in self._excluded:
                continue
            note = "its END record is missing, so its events cannot be counted"
            wrong += [
                Miscount("short", xid, entry.lsn, topic, None, counts[0], note)
                for topic, counts in sorted(entry.topics.items())
            ]
        return wrong

    def to_json(self) -> dict[str, Any]:
        """Return the document that `from_json` reads."""
        return {
            "open": {str(x): [e.since, e.lsn, e.topics] for x, e in self._open.items()},
            "recent": [[xid, lsn] for xid, lsn in self._recent.items()],
            "passes": self._passes,
            "ended": self._ended,
            "floor": self._floor,
            "excused": sorted(self._excluded),
            "checked": self.checked,
            "unproven": self.unproven,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Tally:
        """Parse what `to_json` wrote. Raises: KeyError, TypeError, ValueError for anything else."""
        tally = cls()
        tally._open = {
            int(xid): _Open(since, lsn, {t: list(c) for t, c in topics.items()})
            for xid, (since, lsn, topics) in document["open"].items()
        }
        tally._recent = dict(document["recent"])
        tally._passes = document["passes"]
        tally._ended = document["ended"]
        tally._floor = document["floor"]
        tally._excluded = set(document["excused"])
        tally.checked = document["checked"]
        tally.unproven = document["unproven"]
        return tally
