"""Finds from which commit on each event of a table was visible in the source; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import RawEvent
from spark_streaming.events.resync_events import is_resync_end
from spark_streaming.events.visibility import origin_of


class Dated(NamedTuple):
    """An event, and the LSN of the commit from which on it was visible."""

    event: RawEvent
    visible_lsn: int


def dated(
    events: Sequence[RawEvent],
    reached: Mapping[int, int],
    commit_after: Callable[[Lsn], Lsn | None],
) -> list[Dated]:
    """Date events; what comes later in a partition is not visible earlier.

    Of each partition, the first event whose commit is not known yet is left out, and all after it.

    Args:
        reached: partition → the LSN up to which its events before these are visible.
        commit_after: returns the first commit after an LSN; None if it is not known yet.
    """
    found: list[Dated] = []
    visible, cut = dict(reached), set[int]()
    for event in events:
        if event.partition in cut:
            continue
        lsn = _visible(event, commit_after)
        if lsn is None:
            cut.add(event.partition)
            continue
        visible[event.partition] = max(visible.get(event.partition, 0), lsn)
        found.append(Dated(event, visible[event.partition]))
    return found


def _visible(event: RawEvent, commit_after: Callable[[Lsn], Lsn | None]) -> int | None:
    origin = origin_of(event)
    if origin is None:
        return 0
    own = origin.lsn or 0
    if origin.after_commit is None:
        return own
    commit = commit_after(origin.after_commit)
    return None if commit is None else max(own, commit)


def groups(events: Sequence[Dated]) -> Iterator[list[Dated]]:
    """Yield the events in groups; the end of a resync is the last event of its group."""
    group: list[Dated] = []
    for one in events:
        group.append(one)
        if is_resync_end(one.event):
            yield group
            group = []
    if group:
        yield group
