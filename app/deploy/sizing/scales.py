"""The table of docs/scale.md: which limit is reached first at each scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.deploy.sizing.coefficients import Coefficients
from app.deploy.sizing.demand import GIB, Workload
from app.deploy.sizing.prices import Prices
from app.deploy.sizing.rows import shown_s
from app.deploy.sizing.sizes import size

YEAR_DAYS = 365.0
HEADER = (
    "| workload | batch of silver | first to break | one instance | already overloaded | nodes "
    "| writes a second | bronze after its retention | a month, USD |"
)


@dataclass(frozen=True)
class Scale:
    """A line of the table: 200 B a row; the changes fall into the newest part of the rows."""

    name: str
    changes_per_second: float
    tables: int
    rows: int
    active_rows: int
    retention_days: float


SCALES = (
    Scale("100 changes/s", 100, 50, 10_000_000, 500_000, 30),
    Scale("1,000 changes/s", 1_000, 50, 10_000_000, 500_000, 30),
    Scale("10,000 changes/s", 10_000, 50, 10_000_000, 500_000, 30),
    Scale("100,000 changes/s", 100_000, 50, 10_000_000, 500_000, 30),
    Scale("1,000 tables, 1,000 changes/s", 1_000, 1_000, 100_000_000, 5_000_000, 30),
    Scale("a year kept, 1,000 changes/s", 1_000, 50, 10_000_000, 500_000, YEAR_DAYS),
    Scale("1,000 changes/s in any row", 1_000, 50, 10_000_000, 10_000_000, 30),
)
ROW_BYTES = 200


def table(found: Coefficients, prices: Prices) -> str:
    """Compute the table as Markdown."""
    lines = [HEADER, "|---" * HEADER.count(" | ") + "|---|"]
    for scale in SCALES:
        load = workload_of(scale, prices)
        needs = size(load, found, prices)
        first = needs.first_to_break
        full = [part.part for part in needs.parts if part.carries < load.changes_per_second]
        carried = "no limit" if math.isinf(first.carries) else f"{first.carries:,.0f} changes/s"
        cells = (
            scale.name,
            shown_s(needs.batch_s),
            first.part,
            carried,
            ", ".join(full) or "none",
            f"{needs.nodes}",
            f"{needs.store.writes_per_second:,.0f}",
            f"{needs.store.bronze_bytes / GIB:,.0f} GiB",
            f"{sum(needs.cost.values()):,.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def workload_of(scale: Scale, prices: Prices) -> Workload:
    """The workload of a line, on the nodes that have these prices."""
    return Workload(
        scale.changes_per_second,
        scale.tables,
        ROW_BYTES,
        scale.retention_days,
        scale.rows,
        scale.active_rows,
        prices.node.silver_cores,
    )
