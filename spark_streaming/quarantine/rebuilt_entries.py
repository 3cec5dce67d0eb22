"""Resolves a table's entries in quarantine after the table was rebuilt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spark_streaming.events.event import Place
from spark_streaming.quarantine.quarantine import DISCARDED, OPEN, REPLAYED, SUPERSEDED, Quarantine

_UNRESOLVED = (OPEN, DISCARDED)


@dataclass(frozen=True)
class Resolution:
    """What to do with which entries.

    Args:
        taken_back: entries of events that the rebuild has not reached; they are judged again.
            superseded, replayed: unresolved entries that are resolved now: silver has a later event
                of
            the row, or the event itself.
        reopened: resolved entries whose event breaks the current contract.
        added: new entries, of events that broke no rule before.
    """

    taken_back: set[Place] = field(default_factory=set)
    superseded: set[Place] = field(default_factory=set)
    replayed: set[Place] = field(default_factory=set)
    reopened: set[Place] = field(default_factory=set)
    added: set[Place] = field(default_factory=set)


def resolution(
    kept: Mapping[Place, str], rebuilt: Mapping[Place, str], reached: Mapping[int, int]
) -> Resolution:
    """Compare a table's entries with those of its rebuild, both with their statuses.

    An entry whose event is still not in silver stays as it is, even a discarded one.

    Args:
        reached: for each partition, the first offset that the rebuild has not merged.
    """
    found = Resolution()
    for place, status in kept.items():
        if place.offset >= reached.get(place.partition, 0):
            found.taken_back.add(place)
        elif status in _UNRESOLVED and rebuilt.get(place) != OPEN:
            gone = found.superseded if place in rebuilt else found.replayed
            gone.add(place)
    for place, status in rebuilt.items():
        if status == OPEN and place not in kept:
            found.added.add(place)
        elif status == OPEN and kept[place] not in _UNRESOLVED:
            found.reopened.add(place)
    return found


def resolve_entries(
    quarantine: Quarantine, table: str, rebuilt: Quarantine, reached: Mapping[int, int]
) -> Resolution:
    """Bring a table's entries in line with its rebuild; repeating it changes nothing."""
    found = resolution(quarantine.places(table), rebuilt.places(table), reached)
    quarantine.withdraw(found.taken_back)
    quarantine.close(found.superseded, SUPERSEDED)
    quarantine.close(found.replayed, REPLAYED, discarded=True)
    quarantine.open_again(found.reopened)
    if found.added:
        quarantine.copy_from(rebuilt, table, found.added)
    return found
