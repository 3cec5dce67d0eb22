"""Computes up to which LSN of the source's log silver is complete, and from which batch on.

Each event names the last commit that the connector had passed when it sent the event (C). The
connector sends in commit order, so it had sent all events up to C before. Readers may not see them
yet: records of an open Kafka transaction, or of one whose marker a killed broker did not write, are after their
partition's last stable offset. So silver is complete to C after two steps:
1. A batch reads an event that names C. Then `ends` asks Kafka for the end of each partition,
   uncommitted records included. All events up to C are before these ends.
2. A later batch reaches or passes every one of these ends. All events up to C are in that batch or
   in previous ones, under whatever limit it was planned, by this process or a previous one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.reading.offsets import Offsets

# Under steady load an open transaction ends within a batch or two. While one hangs, positions
# gather; the oldest are kept, because they are proven first.
SEEN_MAX = 16


@dataclass(frozen=True)
class _Seen:
    commit_lsn: Lsn
    time: datetime | None
    ends: Offsets | None


class Claims:
    """Keeps the LSN and the time of the source up to which silver is complete; both only grow.

    Args:
        complete_lsn, time: the last values of the ledger.
        commit_lsn: the greatest commit named by an event that the ledger knows to be merged.
        ends: returns, for each partition, the offset after the last written record, committed or
            not; None if Kafka does not answer. Without `ends`, all written records are visible.
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
        """Advance to the LSN that is proven when all events before `end` are merged."""
        for number, seen in reversed(list(enumerate(self._seen))):
            if _covers(end, seen.ends or {}):
                self.complete_lsn = max(self.complete_lsn or LOG_START, seen.commit_lsn)
                self.time = max((t for t in (self.time, seen.time) if t), default=None)
                del self._seen[: number + 1]
                return

    def merged(self, commit_lsn: Lsn | None, time: datetime | None) -> None:
        """Note that the batch is in the ledger.

        Args:
            commit_lsn: the greatest commit that events of this batch or previous ones name.
            time: the newest commit time in the source that events of this batch name.
        """
        self._newest = max((t for t in (self._newest, time) if t), default=None)
        if commit_lsn is not None and self._asked is not None:
            self._add(_Seen(commit_lsn, self._newest, self._asked))

    def _add(self, seen: _Seen) -> None:
        if len(self._seen) >= SEEN_MAX:
            del self._seen[SEEN_MAX // 2]
        self._seen.append(seen)


def _covers(end: Offsets, ends: Offsets) -> bool:
    """Whether `end` reaches all of `ends`; a topic that `end` lacks has no merged events."""
    return all(
        end.get(topic, {}).get(partition, 0) >= offset
        for topic, partitions in ends.items()
        for partition, offset in partitions.items()
    )
