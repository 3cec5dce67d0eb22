"""Computes up to which LSN of the source's log silver is complete, and from which batch on.

An event names the last commit that the connector had passed when it sent it (C), and the connector
sends in commit order: all events up to C were sent before. What is sent is not yet visible: records
of an open Kafka transaction, or of one whose marker a killed broker did not write, stand behind a
partition's last stable offset. So two things have to be seen before silver is complete to C:
1. A batch merged the event that names C. Then `ends` is asked: the end of each partition, of what
   is written, visible or not. All events up to C are before these ends.
2. A later batch ended nowhere before those ends: all events up to C are in it or in previous
   ones, whatever limit it was planned under, by this process or a previous one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.reading.offsets import Offsets

# Under steady load a batch or two pass until an open transaction is over; where one hangs, the
# oldest positions are the first to be proven.
SEEN_MAX = 16


@dataclass(frozen=True)
class _Seen:
    commit_lsn: Lsn
    time: datetime | None
    ends: Offsets | None


class Claims:
    """Keeps the LSN and the time of the source up to which silver is complete; both only grow.

    Args:
        complete_lsn, time: what the ledger said last.
        commit_lsn: the greatest commit named by an event that the ledger knows to be merged.
        ends: of each partition the offset after the last record that is written, committed or not;
            None where Kafka does not say. None in place of it: all that is written is visible.
    """

    def __init__(
        self,
        complete_lsn: Lsn | None,
        time: datetime | None,
        commit_lsn: Lsn | None,
        ends: Callable[[], Offsets | None] | None = None,
    ) -> None:
        self.complete_lsn, self.time = complete_lsn, time
        self._ends = ends
        self._seen: list[_Seen] = []
        self._restored = commit_lsn
        self._asked: Offsets | None = None
        self._newest = time

    def begin(self) -> None:
        """Ask Kafka for the partition ends that a later batch must pass before these events count."""
        self._asked = self._ends() if self._ends is not None else {}
        if self._restored is not None and self._asked is not None:
            self._add(_Seen(self._restored, self.time, self._asked))
            self._restored = None

    def prove(self, end: Offsets) -> None:
        """Advance to what a batch proves that ends at `end`: everything before that is merged."""
        for number, seen in reversed(list(enumerate(self._seen))):
            if _covers(end, seen.ends or {}):
                self.complete_lsn = max(self.complete_lsn or LOG_START, seen.commit_lsn)
                self.time = max((t for t in (self.time, seen.time) if t), default=None)
                del self._seen[: number + 1]
                return

    def merged(self, commit_lsn: Lsn | None, time: datetime | None) -> None:
        """Note that the batch is in the ledger.

        Args:
            commit_lsn: the greatest commit that its events and previous ones name.
            time: the newest time of the source that its own events name.
        """
        self._newest = max((t for t in (self._newest, time) if t), default=None)
        if commit_lsn is not None and self._asked is not None:
            self._add(_Seen(commit_lsn, self._newest, self._asked))

    def _add(self, seen: _Seen) -> None:
        if len(self._seen) >= SEEN_MAX:
            del self._seen[SEEN_MAX // 2]
        self._seen.append(seen)


def _covers(end: Offsets, ends: Offsets) -> bool:
    """Whether a batch ends at or behind all of `ends`; of an unknown topic nothing is merged."""
    return all(
        end.get(topic, {}).get(partition, 0) >= offset
        for topic, partitions in ends.items()
        for partition, offset in partitions.items()
    )
