"""Decides which events of a topic belong to a moment in the source's log; pure functions.

Let `commit` be the last commit of the moment: a transaction belongs to the moment exactly if its
events name an earlier one (see `spark_streaming/events/visibility.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import NamedTuple

from app.errors import HeadwaterError
from spark_streaming.contract.lsn import Lsn, lsn_text, parse_lsn
from spark_streaming.events.event import RawEvent
from spark_streaming.events.visibility import origin_of

_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")


class Wanted(NamedTuple):
    """What `--until` asks for: an LSN, or a time of the source's commits."""

    lsn: Lsn | None
    time: datetime | None

    @property
    def text(self) -> str:
        """The moment as it is shown."""
        return lsn_text(self.lsn) if self.lsn is not None else f"{self.time:%Y-%m-%d %H:%M:%S.%f%z}"


class Moment(NamedTuple):
    """A state of the source between two commits.

    Args:
        commit: LSN of the last commit that belongs to it.
        lsn: a position from `commit` on and before the next commit; snapshots up to it belong to
            it.
        committed_at: the time of the last commit.
    """

    commit: Lsn
    lsn: Lsn
    committed_at: datetime


def parse_until(text: str) -> Wanted:
    """Read `--until`: an LSN as Postgres prints it or in bytes, or an ISO 8601 time.

    A time without a zone is UTC. Raises: HeadwaterError for other text.
    """
    if _LSN.fullmatch(text):
        return Wanted(parse_lsn(text), None)
    if text.isdecimal():
        return Wanted(Lsn(int(text)), None)
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise HeadwaterError(
            f"`--until {text}` is neither an LSN nor a time",
            hint="an LSN as Postgres prints it (16/B374D848), or a time (2026-11-24T03:20:00Z)",
        ) from None
    return Wanted(None, time if time.tzinfo else time.replace(tzinfo=timezone.utc))


def is_beyond(event: RawEvent, moment: Moment) -> bool:
    """Return whether an event, and so all that follow in its partition, came after the moment.

    Tombstones, and records that are not events of a row, do not show it.
    """
    origin = origin_of(event)
    if origin is None:
        return False
    if origin.lsn is not None and origin.lsn > moment.lsn:
        return True
    return origin.after_commit is not None and origin.after_commit >= moment.commit


@dataclass
class Cut:
    """Cuts each partition of a topic at the end of the moment.

    Args:
        ends: partition → the offset after the last event of the moment, tombstones left out.
        beyond: partition → the offset of the first event after the moment; missing if there is
        none.
        events: how many events of the moment were read, tombstones among them.
    """

    moment: Moment
    ends: dict[int, int] = field(default_factory=dict)
    beyond: dict[int, int] = field(default_factory=dict)
    events: int = 0

    def kept(self, partition: int, events: Iterable[RawEvent], start: int) -> Iterator[RawEvent]:
        """Yield a partition's events of the moment from offset `start` on.

        Args:
            events: all of the partition, from its beginning.
        """
        for event in events:
            if is_beyond(event, self.moment):
                self.beyond[partition] = event.offset
                return
            self.events += 1
            if event.value is not None:
                self.ends[partition] = event.offset + 1
            if event.offset >= start:
                yield event

    def is_held_exactly(self, merged: Mapping[int, int]) -> bool:
        """Return whether a table that merged up to these offsets has exactly the moment's events."""
        partitions = {*self.ends, *self.beyond, *merged}
        return all(
            self.ends.get(p, 0) <= merged.get(p, 0) <= self.beyond.get(p, merged.get(p, 0))
            for p in partitions
        )
