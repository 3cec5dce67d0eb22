"""How far a first snapshot is on its way into silver, as `up` and `status` print it.

1. Ask Debezium how many rows of each table it has read; none: there is nothing to report.
2. While it reads, ask the source for its estimate of each table's rows.
3. Ask the ledger how many rows silver has merged, and list the tables that are not complete.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from app.printing import Steps, duration, print_rows
from spark_streaming.contract.names import silver_table

if TYPE_CHECKING:
    from app.connectors.first_snapshot import Reading
    from app.environment.settings import Settings
    from app.lake.silver_loading import Merged

FOLLOW_S = 15.0  # several of Debezium's updates, so that a rate can be computed
POLL_S = 1.0
TABLES_SHOWN = 20
COLUMNS = ("table", "state", "rows_read", "rows_estimated", "read_percent", "rows_merged")
Estimates = Mapping[tuple[str, str], "int | None"]


@dataclass(frozen=True)
class Load:
    """A table that is not complete in silver yet.

    Args:
        table: `schema.name` in the source.
        state: waiting (for its turn to be read), loading, or the state that it is stopped in.
        read: rows that Debezium has read.
        estimated: the source's estimate of its rows; None if it is not known.
        merged: rows that silver has merged.
    """

    table: str
    state: str
    read: int
    estimated: int | None
    merged: int

    @property
    def percent(self) -> int | None:
        """The share that has been read, in percent; at most 99, because more rows may come."""
        return min(99, 100 * self.read // self.estimated) if self.estimated else None

    def text(self) -> str:
        """Describe the progress in a few words: `public.orders: 120,000 of about 500,000 rows read (24 %), …`."""
        if self.state == "waiting":
            size = "" if self.estimated is None else f", about {self.estimated:,} rows"
            return f"{self.table}: waits for its turn{size}"
        of = f" of about {self.estimated:,}" if self.estimated else ""
        share = f" ({self.percent} %)" if self.estimated else ""
        halted = "" if self.state == "loading" else f", {self.state} in silver"
        return f"{self.table}: {self.read:,}{of} rows read{share}, {self.merged:,} merged{halted}"


@dataclass(frozen=True)
class Loading:
    """A first snapshot that is not complete in silver; `to_go_s` is None if it is not known."""

    tables: list[Load] = field(default_factory=list)
    to_go_s: float | None = None

    def text(self) -> str:
        """Describe it in one line."""
        count = len(self.tables)
        which = "1 table is" if count == 1 else f"{count} tables are"
        left = (
            ""
            if self.to_go_s is None
            else f", about {duration(math.ceil(self.to_go_s), compact=True)} to go"
        )
        return f"first snapshot: {which} still being loaded{left}"


def observe(settings: Settings, *, with_silver: bool) -> Loading | None:
    """Find the tables that are still being loaded; None if nothing is, or Connect does not answer.

    Args:
        with_silver: whether silver runs; without it, only the reading counts.
    Raises: HeadwaterError, psycopg.Error, DeltaError, OSError.
    """
    from app.connectors.first_snapshot import ask, estimated_rows
    from app.health.connector_health import ConnectWorkers

    reading = ask(*ConnectWorkers.of(settings).metrics_urls)
    if reading is None or not (reading.running or reading.rows):
        return None
    from app.lake.silver_loading import Merged, merged

    further = bool(settings.profile.sources)  # Connect's metrics then have their tables, too
    estimates = estimated_rows(settings) if reading.running or further else {}
    if further:
        own = {f"{schema}.{table}" for schema, table in estimates}
        reading = replace(reading, rows={k: v for k, v in reading.rows.items() if k in own})
        estimates = estimates if reading.running else {}
    merged_rows = merged(settings) if with_silver else Merged()
    from app.lake.lakehouse import Lakehouse

    names = Lakehouse(settings).names.of
    return loading(reading, estimates, merged_rows, with_silver=with_silver, names=names)


def loading(
    reading: Reading,
    estimates: Estimates,
    merged_rows: Merged,
    *,
    with_silver: bool = True,
    names: Callable[[str, str], str] = silver_table,
) -> Loading | None:
    """List the tables that are not complete in silver, those being read first; None if all are.

    names: gives a source table's silver name.
    """
    found = []
    known = {f"{schema}.{table}": (schema, table) for schema, table in estimates}
    for name in [*reading.rows, *(name for name in known if name not in reading.rows)]:
        # While nothing is read, only the metrics name the tables.
        schema, _, table = name.partition(".")
        load = _load(known.get(name, (schema, table)), reading, estimates, merged_rows, names)
        if load is not None and (with_silver or reading.running):
            found.append(load)
    if not found:
        return None
    found.sort(key=lambda one: (one.state == "waiting", one.table))
    tables = {names(*known.get(name, tuple(name.split(".", 1)))) for name in reading.rows}
    rate = merged_rows.rate(tables) if with_silver else None
    return Loading(found, _to_go_s(reading, estimates, rate, found, with_silver))


def _load(
    key: tuple[str, str],
    reading: Reading,
    estimates: Estimates,
    merged_rows: Merged,
    names: Callable[[str, str], str],
) -> Load | None:
    from app.source.source_tables import OWN_SCHEMA

    name, silver = ".".join(key), names(*key)
    estimated, merged = estimates.get(key), merged_rows.rows[silver]
    if key[0] == OWN_SCHEMA:
        return None
    if name not in reading.rows:
        # Its rows in silver were loaded before: this snapshot is another table's.
        return Load(name, "waiting", 0, estimated, 0) if not merged else None
    read = reading.rows[name]
    may_go_on = reading.running and (not estimated or read < estimated)
    if merged >= read and not may_go_on:
        return None
    state = merged_rows.halted.get(silver, "loading")
    # A stopped table loads nothing: `ops.freshness` has it with the reason.
    if state != "loading" and not reading.running:
        return None
    return Load(name, state, read, estimated, merged)


def _to_go_s(
    reading: Reading,
    estimates: Estimates,
    rate: float | None,
    left: list[Load],
    with_silver: bool,
) -> float | None:
    """Estimate the seconds until the last row is in silver; `rate`: rows a second that silver merges."""
    if any(one.estimated is None for one in left) and reading.running:
        return None
    going_on = [one for one in left if one.state in ("waiting", "loading")]
    if not going_on:
        return None
    to_read = sum(max(0, (one.estimated or 0) - one.read) for one in going_on)
    read_rate = sum(reading.rows.values()) / reading.seconds if reading.seconds else 0.0
    if to_read and not read_rate:
        return None
    seconds = to_read / read_rate if to_read else 0.0
    if not with_silver:
        return seconds
    if rate is None:
        return None
    to_merge = sum(max(one.estimated or 0, one.read) - one.merged for one in going_on)
    return max(seconds, to_merge / rate)


def follow(settings: Settings, steps: Steps, *, with_silver: bool) -> None:
    """Show a first snapshot for FOLLOW_S seconds, then print the tables that are still loading."""
    deadline = time.monotonic() + FOLLOW_S
    found, why = attempt(settings, with_silver=with_silver)
    while found and time.monotonic() < deadline:
        steps.waiting(found.text())
        time.sleep(POLL_S)
        found, why = attempt(settings, with_silver=with_silver)
    steps.rest()
    if why:
        steps.note(why)
    if found is None:
        return
    steps.note(found.text())
    for one in found.tables[:TABLES_SHOWN]:
        steps.note(f"  {one.text()}")
    if len(found.tables) > TABLES_SHOWN:
        steps.note(f"  and {len(found.tables) - TABLES_SHOWN} more")
    steps.note("until then queries see what has been merged; watch it: ./headwater status")


def attempt(settings: Settings, *, with_silver: bool) -> tuple[Loading | None, str]:
    """Return the result of `observe`, and "" or the reason why it is unknown."""
    import psycopg
    from deltalake.exceptions import DeltaError

    from app.errors import HeadwaterError

    try:
        return observe(settings, with_silver=with_silver), ""
    except (HeadwaterError, psycopg.Error, DeltaError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return None, f"how far the first snapshot is, is not known: {first}"


def print_loading(found: Loading) -> None:
    """Print the tables that are still loading, below the output of `status`."""
    print(f"\n{found.text()}")
    rows = [(o.table, o.state, o.read, o.estimated, o.percent, o.merged) for o in found.tables]
    shown = [["" if value is None else value for value in row] for row in rows[:TABLES_SHOWN]]
    print_rows(COLUMNS, shown)
    if len(rows) > TABLES_SHOWN:
        print(f"and {len(rows) - TABLES_SHOWN} more")
