"""A table's next contracts, one after the other, and those that its source noted.

Pure functions. The notes are made by an event trigger of the source (`debezium/sql/definitions.sql`),
each with the log position where it begins; `found` is the table as the catalog has it at last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import orjson

from spark_streaming.contract import Contract
from spark_streaming.events import RawEvent
from spark_streaming.evolution import EARLIER_MAX, SchemaChange, changes_between, followed
from spark_streaming.versions import Boundary, place_of


@dataclass(frozen=True)
class Pending:
    """A newer contract of a table that its stream has not reached, or that its policy holds back.

    `boundary`: None: all events are of it (the table is new).
    """

    contract: Contract
    changes: tuple[SchemaChange, ...]
    boundary: Boundary | None


def mended(noted: list[Contract], found: Contract) -> list[Contract]:
    """Definitions without those that nobody can follow, where a later one mends that.

    What mends one begins where that began: a key that goes and another that comes are two
    statements, and one change.
    """
    kept = list[Contract]()
    begins: int | None = None
    for place, step in enumerate(noted):
        if step.refusal and not all(c.refusal for c in [*noted[place + 1 :], found]):
            begins = step.begins_at_lsn if begins is None else begins
            continue
        kept.append(step if begins is None else replace(step, begins_at_lsn=begins))
        begins = None
    return kept


def since_first(
    noted: list[Contract], found: Contract, events: Iterable[RawEvent]
) -> list[Contract]:
    """What a table that was never seen was like at the first of its events, and became since.

    `found` alone where the events tell no position; it is last. The least position counts: a
    definition that no event is of costs a commit, one that is left out costs values.
    """
    reached = _first_position(events)
    # Those of a table of that name that was dropped, too: its rows go where this one begins.
    steps = [step for step in noted if not step.refusal][-EARLIER_MAX:]
    if reached is None or not steps:
        return [found]
    begun = sum((step.begins_at_lsn or 0) <= reached for step in steps)
    return [*steps[max(begun - 1, 0) :], found]


def queue(
    pendings: list[Pending], first: Contract, steps: list[Contract], after: int, by: int
) -> None:
    """Let a table's definitions follow what is pending already; what is no change is left out.

    Args:
        first: what silver follows now.
        after, by: the log positions between which all of them came.
    """
    for step in steps:
        last = pendings[-1].contract if pendings else first
        newer = followed(last, step)
        if newer is last:
            continue
        by_lsn = max(by, step.begins_at_lsn or 0)
        newer = replace(newer, valid_after_lsn=after, valid_from_lsn=by_lsn, xid=step.xid)
        changes = tuple(changes_between(last, step))
        pendings.append(Pending(newer, changes, Boundary.between(last, newer)))
        after = max(after, step.begins_at_lsn or 0)


def _first_position(events: Iterable[RawEvent]) -> int | None:
    """The least log position that any of these events tells."""
    found = []
    for event in events:
        try:
            lsn, _ = place_of(orjson.loads(event.value or b""))
        except (ValueError, TypeError, AttributeError):
            continue
        if lsn:
            found.append(lsn)
    return min(found, default=None)
