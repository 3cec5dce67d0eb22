"""Orders a table's next contracts: those that its source noted, then the one in the catalog.

The functions are pure. An event trigger of the source (`debezium/sql/definitions.sql`) writes the records, each with
the log position where it begins. `found` is the table as the catalog has it now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import orjson

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.evolution import (
    PREVIOUS_VERSIONS_MAX,
    SchemaChange,
    changes_between,
    next_version,
)
from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.events.contract_versions import Boundary, place_of
from spark_streaming.events.event import RawEvent


@dataclass(frozen=True)
class Pending:
    """A newer contract of a table that its stream has not reached, or that its policy holds back.

    `boundary`: where its events begin; None if all events belong to it (the table is new).
    """

    contract: Contract
    changes: tuple[SchemaChange, ...]
    boundary: Boundary | None


def without_refused(noted: list[Contract], found: Contract) -> list[Contract]:
    """Leave out definitions that silver cannot follow if a later definition repairs them.

    The later one then begins where the left-out one began. For example, dropping a key and adding
    another are two statements but one change.
    """
    kept = list[Contract]()
    begins: Lsn | None = None
    for place, step in enumerate(noted):
        if step.refusal and not all(c.refusal for c in [*noted[place + 1 :], found]):
            begins = step.begins_at_lsn if begins is None else begins
            continue
        kept.append(step if begins is None else replace(step, begins_at_lsn=begins))
        begins = None
    return kept


def after_known(newest: Contract, noted: list[Contract], found: Contract, by: Lsn) -> Contract:
    """Place `found` after all known versions if the source was restored to an older state.

    Log positions that a restored source has lost keep the versions of that time. Once the restored source is
    captured again (`headwater recover`), its positions continue after them.

    Args:
        newest: the newest version that is known; it began at a position that the source had not
            reached when `found` was read.
        by: the latest log position at which `found` can have been read.
    """
    if noted or by >= newest.valid_from_lsn:
        return found
    return replace(found, begins_at_lsn=Lsn(newest.valid_from_lsn + 1))


def since_first(
    noted: list[Contract], found: Contract, events: Iterable[RawEvent], reached: int | None = None
) -> list[Contract]:
    """The definitions of a new table since the first of its events, `found` last.

    Only `found` if the events have no position. The least position of the events counts: an
    extra definition costs a commit, but a missing one costs values.

    reached: for a table without events, the log position before which it has none.
    """
    first = _first_position(events)
    reached = reached if first is None else first
    # Includes definitions of a dropped table of that name: its rows are removed where this one
    # begins.
    steps = [step for step in noted if not step.refusal][-PREVIOUS_VERSIONS_MAX:]
    if reached is None or not steps:
        return [found]
    begun = sum((step.begins_at_lsn or LOG_START) <= reached for step in steps)
    return [*steps[max(begun - 1, 0) :], found]


def queue(
    pendings: list[Pending], first: Contract, steps: list[Contract], after: Lsn, by: Lsn
) -> None:
    """Append a table's definitions to the pending ones; leave out those that change nothing.

    Args:
        first: the contract that silver follows now.
        after, by: the log positions between which all the definitions came.
    """
    for step in steps:
        last = pendings[-1].contract if pendings else first
        newer = next_version(last, step)
        if newer is last:
            continue
        by_lsn = max(by, step.begins_at_lsn or LOG_START)
        newer = replace(newer, valid_after_lsn=after, valid_from_lsn=by_lsn, xid=step.xid)
        changes = tuple(changes_between(last, step))
        pendings.append(Pending(newer, changes, Boundary.between(last, newer)))
        after = max(after, step.begins_at_lsn or LOG_START)


def _first_position(events: Iterable[RawEvent]) -> int | None:
    """The least log position of these events."""
    found = []
    for event in events:
        try:
            lsn, _ = place_of(orjson.loads(event.value or b""))
        except (ValueError, TypeError, AttributeError):
            continue
        if lsn:
            found.append(lsn)
    return min(found, default=None)
