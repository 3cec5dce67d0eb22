"""A first snapshot on its way into silver: what `up` and `status` say of it.

1. Ask Debezium what it has read; where it has read nothing, there is nothing to say.
2. While it reads, ask the source how much there is.
3. Ask the ledger what silver has taken in; tell the tables that lack something of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.cli.printing import Steps, print_rows

if TYPE_CHECKING:
    from app.lake.loading import Merged
    from app.settings import Settings
    from app.source.first_snapshot import Reading

FOLLOW_S = 15.0  # longer than Debezium counts for: a rate can be told then
POLL_S = 1.0
TABLES_SHOWN = 20
COLUMNS = ("table", "state", "rows_read", "rows_estimated", "read_percent", "rows_merged")
Estimates = Mapping[tuple[str, str], "int | None"]


@dataclass(frozen=True)
class Load:
    """A table that is not whole in silver yet.

    Args:
        table: `schema.name` in the source.
        state: waiting (for its turn to be read), loading, or what halts it in silver.
        read: rows that Debezium has read.
        estimated: rows that there are, about; None where it is not known.
        merged: rows that silver has taken in.
    """

    table: str
    state: str
    read: int
    estimated: int | None
    merged: int

    @property
    def percent(self) -> int | None:
        """The share that has been read; never 100 where more may come."""
        return min(99, 100 * self.read // self.estimated) if self.estimated else None

    def told(self) -> str:
        """In a few words: `public.orders: 120,000 of about 500,000 rows read (24 %), …`."""
        if self.state == "waiting":
            size = "" if self.estimated is None else f", about {self.estimated:,} rows"
            return f"{self.table}: waits for its turn{size}"
        of = f" of about {self.estimated:,}" if self.estimated else ""
        share = f" ({self.percent} %)" if self.estimated else ""
        halted = "" if self.state == "loading" else f", {self.state} in silver"
        return f"{self.table}: {self.read:,}{of} rows read{share}, {self.merged:,} merged{halted}"


@dataclass(frozen=True)
class Loading:
    """A first snapshot of which something is missing in silver; `to_go_s` None: nobody knows."""

    tables: list[Load] = field(default_factory=list)
    to_go_s: float | None = None

    def told(self) -> str:
        """In one line."""
        from app.cli.stack import duration

        count = len(self.tables)
        which = "1 table is" if count == 1 else f"{count} tables are"
        left = "" if self.to_go_s is None else f", about {duration(math.ceil(self.to_go_s))} to go"
        return f"first snapshot: {which} still being loaded{left}"


def look(settings: Settings, *, with_silver: bool) -> Loading | None:
    """What is still being loaded; None where nothing is, or no worker answers.

    Args:
        with_silver: whether silver runs; without it nothing is waited for there.
    Raises: HeadwaterError, psycopg.Error, DeltaError, OSError.
    """
    from app.source.first_snapshot import ask, estimated_rows

    reading = ask(f"http://{settings.address('connect_metrics')}/metrics")
    if reading is None or not (reading.running or reading.rows):
        return None
    from app.lake.loading import Merged, merged

    estimates = estimated_rows(settings) if reading.running else {}
    taken = merged(settings) if with_silver else Merged()
    return loading(reading, estimates, taken, with_silver=with_silver)


def loading(
    reading: Reading, estimates: Estimates, taken: Merged, *, with_silver: bool = True
) -> Loading | None:
    """The tables that lack something in silver, those being read first; None where none does."""
    found = []
    names = {f"{schema}.{table}": (schema, table) for schema, table in estimates}
    for name in [*reading.rows, *(name for name in names if name not in reading.rows)]:
        # While nothing is read, the metrics alone tell the tables.
        schema, _, table = name.partition(".")
        load = _load(names.get(name, (schema, table)), reading, estimates, taken)
        if load is not None and (with_silver or reading.running):
            found.append(load)
    if not found:
        return None
    found.sort(key=lambda one: (one.state == "waiting", one.table))
    return Loading(found, _to_go_s(reading, estimates, taken, found, with_silver))


def _load(
    key: tuple[str, str], reading: Reading, estimates: Estimates, taken: Merged
) -> Load | None:
    from app.source.tables import OWN_SCHEMA
    from spark_streaming.naming import silver_table

    name, silver = ".".join(key), silver_table(*key)
    estimated, merged = estimates.get(key), taken.rows[silver]
    if key[0] == OWN_SCHEMA:
        return None
    if name not in reading.rows:
        # What is in silver was loaded earlier: this snapshot is another table's.
        return Load(name, "waiting", 0, estimated, 0) if not merged else None
    read = reading.rows[name]
    may_go_on = reading.running and (not estimated or read < estimated)
    if merged >= read and not may_go_on:
        return None
    state = taken.halted.get(silver, "loading")
    # A table that silver has halted loads nothing: `ops.freshness` and its reason tell of it.
    if state != "loading" and not reading.running:
        return None
    return Load(name, state, read, estimated, merged)


def _to_go_s(
    reading: Reading, estimates: Estimates, taken: Merged, left: list[Load], with_silver: bool
) -> float | None:
    """Seconds until the last row is in silver, at the speed so far."""
    from spark_streaming.naming import silver_table

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
    tables = {silver_table(*name.split(".", 1)) for name in reading.rows}
    rate = taken.rate(tables)
    if rate is None:
        return None
    to_merge = sum(max(one.estimated or 0, one.read) - one.merged for one in going_on)
    return max(seconds, to_merge / rate)


def follow(settings: Settings, steps: Steps, *, with_silver: bool) -> None:
    """Watch a first snapshot for a few seconds, then say what is left of it, table by table."""
    deadline = time.monotonic() + FOLLOW_S
    found, why = attempt(settings, with_silver=with_silver)
    while found and time.monotonic() < deadline:
        steps.waiting(found.told())
        time.sleep(POLL_S)
        found, why = attempt(settings, with_silver=with_silver)
    steps.rest()
    if why:
        steps.note(why)
    if found is None:
        return
    steps.note(found.told())
    for one in found.tables[:TABLES_SHOWN]:
        steps.note(f"  {one.told()}")
    if len(found.tables) > TABLES_SHOWN:
        steps.note(f"  and {len(found.tables) - TABLES_SHOWN} more")
    steps.note("until then queries see what has been merged; watch it: ./headwater status")


def attempt(settings: Settings, *, with_silver: bool) -> tuple[Loading | None, str]:
    """What `look` finds, or why that is not known."""
    import psycopg
    from deltalake.exceptions import DeltaError

    from app.errors import HeadwaterError

    try:
        return look(settings, with_silver=with_silver), ""
    except (HeadwaterError, psycopg.Error, DeltaError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return None, f"how far the first snapshot is, is not known: {first}"


def print_loading(found: Loading) -> None:
    """Print it as a table below what `status` prints."""
    print(f"\n{found.told()}")
    rows = [(o.table, o.state, o.read, o.estimated, o.percent, o.merged) for o in found.tables]
    shown = [["" if value is None else value for value in row] for row in rows[:TABLES_SHOWN]]
    print_rows(COLUMNS, shown)
    if len(rows) > TABLES_SHOWN:
        print(f"and {len(rows) - TABLES_SHOWN} more")
