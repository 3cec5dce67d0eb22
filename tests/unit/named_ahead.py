"""Events as a connector writes them whose columns' names are ahead of the log."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from spark_streaming.contract.types import Column
from spark_streaming.events.event import RawEvent
from tests.unit.evolving_source import EvolvingSource


def named_ahead(source: EvolvingSource, random: Random) -> tuple[list[RawEvent], dict[int, int]]:
    """The events as a connector writes them that now and then reads its columns from the catalog.

    Returns: the events, and offset -> where the log ended when an event's columns were read.

    As after a blocking snapshot: until the table's next description comes by in the log, values are
    named, by their places, by the columns that the catalog has. Where there are fewer columns than
    values, or a value is of another type, it fails, and begins again with the right names.
    """
    events, ends = [], {}
    names: list[Column] | None = None
    key: tuple[str, ...] = ()
    until_lsn = read_at = newest = 0
    for event in source.events:
        document = json.loads(event.value or b"{}")
        lsn = document["source"]["lsn"]
        is_half, newest = lsn == newest, lsn  # of a key change: one row of the log, read once
        if lsn >= until_lsn:
            names = None
        if names is None and not is_half and random.random() < 0.2:
            read_at = random.randint(lsn, source.lsn)
            read = source.catalog_at(read_at)
            names, key = list(read.columns), read.key
            until_lsn = min((at for at, _ in source.states if at > lsn), default=lsn)
        own = list(source.catalog_at(lsn).columns)
        if names is not None and _is_readable(own, names):
            event = _renamed(event, document, [c.name for c in names], key)
            ends[event.offset] = read_at
        else:
            names = None
        events.append(event)
    return events, ends


def _is_readable(own: list[Column], names: list[Column]) -> bool:
    return len(names) >= len(own) and all(
        a.name == b.name or a.pg_type == b.pg_type for a, b in zip(own, names, strict=False)
    )


def _renamed(
    event: RawEvent, document: dict[str, Any], names: list[str], key: tuple[str, ...]
) -> RawEvent:
    image: dict[str, Any] = {}
    for which in ("before", "after"):
        if document[which] is not None:
            values = [*document[which].values(), *[None] * len(names)]
            image = document[which] = dict(zip(names, values, strict=False))
    message_key = json.dumps({n: image.get(n) for n in key}, separators=(",", ":")).encode()
    return event._replace(
        value=json.dumps(document).encode(), key=message_key if image else event.key
    )
