"""A size as rows of a table, for people and machines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from app.deploy.sizing.demand import STORE, Workload
from app.deploy.sizing.sizes import PartSize, Size

COLUMNS = (
    "part",
    "instances",
    "cores",
    "memory_gib",
    "disk_gib",
    "writes_per_s",
    "reads_per_s",
    "carries_changes_per_s",
    "cost_per_month",
    "note",
)


def rows(load: Workload, found: Size, currency: str) -> Iterator[Sequence[Any]]:
    """A row for each part, then `all`, whose instances are nodes.

    `carries_changes_per_s`: the rate that one instance can carry for this workload; None: no limit found.
    `instances`: None if one is not enough and a second one does not help.
    """
    first = found.first_to_break
    for part in found.parts:
        use = found.store if part.part == STORE else None
        yield (
            part.part,
            part.instances,
            round(part.cores, 2),
            round(part.memory_gib, 2),
            round(part.disk_gib, 1),
            round(use.writes_per_second, 1) if use else None,
            round(use.reads_per_second, 1) if use else None,
            None if math.isinf(part.carries) else round(part.carries),
            round(cost_of(part, found), 2),
            note(part, first, load),
        )
    yield (
        "all",
        found.nodes,
        round(sum(part.cores for part in found.parts), 2),
        round(sum(part.memory_gib for part in found.parts), 2),
        round(sum(part.disk_gib for part in found.parts), 1),
        round(found.store.writes_per_second, 1),
        round(found.store.reads_per_second, 1),
        None if math.isinf(first.carries) else round(first.carries),
        round(sum(found.cost.values()), 2),
        f"{currency}; instances are nodes; a batch of silver takes {shown_s(found.batch_s)}",
    )


def cost_of(part: PartSize, found: Size) -> float:
    """What is paid for a part alone: disks and requests; nodes are paid for all of them."""
    paid = {"kafka": ("kafka's disks",), STORE: ("stored bytes", "writes", "reads")}
    return sum(found.cost[name] for name in paid.get(part.part, ()))


def note(part: PartSize, first: PartSize, load: Workload) -> str:
    """What to do about a part that is full, or that will be so first."""
    if load.changes_per_second > part.carries:
        return f"too much for one: {part.remedy}" if part.instances is None else ""
    return f"the first to break: {part.remedy}" if part is first else ""


def shown_s(seconds: float) -> str:
    """A batch's time as text."""
    return "ever longer" if math.isinf(seconds) else f"{seconds:.1f} s"
