"""A row's events, followed through changes of its key; pure.

The events of a key are split into *lives*: from the insert of a row until its delete. If a key change began or ended a
life, the row goes on under the other key, and the life there belongs to it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.errors import HeadwaterError
from app.trace.trace_key import RowKey
from spark_streaming.contract.lsn import Lsn

# A row whose key changed more often is not followed further: the log may be a counter's.
KEYS_MAX = 100


class KeyEvent(NamedTuple):
    """One event of a key in bronze, without its values.

    Args:
        path: the object that holds it.
        lsn: its position; that of the event before it if it has none of its own.
        op: c, u, d, r, or "" for a tombstone and for an event that cannot be read.
        came_from, went_to: the row's other key, if the event is half of a key change (or all of it).
    """

    partition: int
    offset: int
    path: str
    lsn: Lsn
    op: str
    came_from: RowKey | None = None
    went_to: RowKey | None = None

    @property
    def rank(self) -> tuple[int, int, int]:
        """The order of a row's events: by LSN; those of one partition by offset."""
        return self.lsn, self.partition, self.offset

    @property
    def begins(self) -> bool:
        return self.op == "c" or self.came_from is not None

    @property
    def ends(self) -> bool:
        return self.op == "d" or self.went_to is not None


def in_order(events: Sequence[KeyEvent]) -> list[KeyEvent]:
    """Return events in the order of their commits; within a partition in that of their offsets."""
    reached: dict[int, Lsn] = {}
    ordered = []
    for event in sorted(events, key=lambda e: (e.partition, e.offset)):
        lsn = reached[event.partition] = max(reached.get(event.partition, event.lsn), event.lsn)
        ordered.append(event._replace(lsn=lsn))
    return sorted(ordered, key=lambda e: e.rank)


def lives(events: Sequence[KeyEvent]) -> Iterator[list[KeyEvent]]:
    """Split a key's ordered events into the lives of its rows; a tombstone belongs to the life before it."""
    life: list[KeyEvent] = []
    ended = False
    for event in events:
        # A row that a TRUNCATE removed has no delete: the next insert begins another life.
        if life and event.op and (ended or event.begins):
            yield life
            life, ended = [], False
        life.append(event)
        ended = ended or event.ends
    if life:
        yield life


@dataclass
class Lives:
    """All events that belong to one key's rows.

    Args:
        events: key → its events to erase; the first key is the one that was asked for, with all its events.
        going_on: keys under which such a row may still live: the log shows no end of that life.
    """

    events: dict[RowKey, list[KeyEvent]] = field(default_factory=dict)
    going_on: list[RowKey] = field(default_factory=list)


def follow(
    key: RowKey, search: Callable[[Sequence[RowKey]], Mapping[RowKey, Sequence[KeyEvent]]]
) -> Lives:
    """Collect the events of a key, and of the same rows under other keys.

    Args:
        search: finds the events of some keys, each key's in order.
    Raises: HeadwaterError if a row's key changed more than KEYS_MAX times.
    """
    known: dict[RowKey, list[list[KeyEvent]]] = {}
    found = Lives()
    whole = list(search([key])[key])
    found.events[key] = whole
    known[key] = list(lives(whole))
    links = [link for life in known[key] for link in _links(key, life)]
    while links:
        new = list(dict.fromkeys(link.other for link in links if link.other not in known))
        if len(known) + len(new) > KEYS_MAX:
            raise HeadwaterError(
                f"the key of this row changed more than {KEYS_MAX} times",
                hint="erase its newest key first; each run follows the keys from there",
            )
        if new:
            known |= {one: list(lives(events)) for one, events in search(new).items()}
        links = _take(found, known, links, key)
    return found


class _Link(NamedTuple):
    """The life of another key to which a life goes on: backwards to its end, or forwards to its begin."""

    key: RowKey
    other: RowKey
    at: KeyEvent
    back: bool


def _links(key: RowKey, life: Sequence[KeyEvent]) -> list[_Link]:
    came = [_Link(key, e.came_from, e, back=True) for e in life if e.came_from is not None]
    went = [_Link(key, e.went_to, e, back=False) for e in life if e.went_to is not None]
    return came + went


def _take(
    found: Lives,
    known: Mapping[RowKey, list[list[KeyEvent]]],
    links: Sequence[_Link],
    first: RowKey,
) -> list[_Link]:
    """Add the lives to which links lead. Returns: the links that begin there."""
    more = []
    for link in links:
        if link.other == first:
            continue  # all its lives are taken already
        life = _linked(known[link.other], link)
        taken = found.events.setdefault(link.other, [])
        if life is None:
            # Bronze does not show the row under that key: it may have gone on there unseen.
            if not link.back:
                found.going_on.append(link.other)
            continue
        if life[0] in taken:
            continue
        taken += life
        if not any(event.ends for event in life):
            found.going_on.append(link.other)
        more += _links(link.other, life)
    return more


def _linked(of_key: Sequence[list[KeyEvent]], link: _Link) -> list[KeyEvent] | None:
    """Return the life before a link that ended in its key, or the one after it that began from it."""
    if link.back:
        before = (e for e in of_key if _meets(e, lambda one: one.went_to, link))
        return next((e for e in reversed(list(before)) if e[0].rank <= link.at.rank), None)
    after = (e for e in of_key if _meets(e, lambda one: one.came_from, link))
    return next((e for e in after if e[-1].rank >= link.at.rank), None)


def _meets(life: Sequence[KeyEvent], key_of: Callable[[KeyEvent], Any], link: _Link) -> bool:
    return any(key_of(event) == link.key for event in life)
