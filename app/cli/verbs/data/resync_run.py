"""Carries out `headwater resync TABLE…`: requests resyncs and waits until silver has applied them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence

from app.capture.resync import DONE, FAILED, READING, Resync, progress, request
from app.environment.settings import Settings, load
from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse, LedgerEntry
from app.printing import Format, Steps, duration, print_rows
from app.source.database import Connection, address_of, connect
from app.source.source_tables import Names, SourceTable, source_tables
from spark_streaming.contract.names import silver_table, topic_of
from spark_streaming.events.position import RESYNCED

APPLICATION = "headwater resync"
COLUMNS = ("table", "kind", "rows", "seconds", "state")
# `capture` reports at least this often while a resync progresses; a blocked writer may last longer.
SILENT_S_MAX = 900.0
_EVERY_S = 1.0


def run_resync(names: Sequence[str], fmt: Format) -> None:
    """Request resyncs, show their progress, and wait until silver has applied them.

    Raises: HeadwaterError if a name is not that of a captured table, a resync fails, silver has stopped a table,
        or there is no progress for SILENT_S_MAX.
    """
    settings = load()
    own = Names.of(settings)
    with connect(settings.source_dsn, application=APPLICATION) as connection:
        silver_name = Lakehouse(settings).names.of
        tables = chosen(_captured(connection, settings, own), names, silver_name)
        asked = request(connection, own, tables, reason="asked for by `headwater resync`")
        try:
            ended = _watch(connection, settings, own, asked)
        except KeyboardInterrupt:
            print("\nnot waiting any longer: `capture` goes on with it", file=sys.stderr)
            raise SystemExit(130) from None
    print_rows(COLUMNS, [_row(one) for one in ended], fmt)


def chosen(
    tables: Sequence[SourceTable],
    names: Sequence[str],
    silver_name: Callable[[str, str], str] = silver_table,
) -> list[SourceTable]:
    """The tables of these names: as the source has them, with or without their schema, or silver's.

    Raises: HeadwaterError if no table or several tables have the name.
    """
    found: dict[int, SourceTable] = {}
    for name in names:
        exact = [t for t in tables if name in (str(t), t.name if t.schema == "public" else "")]
        fitting = exact or [t for t in tables if name in (t.name, silver_name(t.schema, t.name))]
        if len(fitting) != 1:
            known = ", ".join(str(t) for t in (fitting or tables)) or "none"
            raise HeadwaterError(
                f"`{name}` is {'no captured table' if not fitting else 'several tables'}",
                hint=f"there are {known}",
            )
        found[fitting[0].oid] = fitting[0]
    return list(found.values())


def line(one: Resync, now: float) -> str:
    """Describe the progress of a resync in one line."""
    text = f"{one}: {one.state}"
    if one.state == READING and one.mark:
        text += f", {one.rows:,} rows, {one.rows_per_s(now):,.0f}/s"
        if one.percent is not None:
            text += f", {one.percent:.0f} %"
        if (left := one.eta_s(now)) is not None:
            text += f", about {duration(left)} left"
    return text + (f" ({one.why})" if one.why else "")


def _captured(connection: Connection, settings: Settings, own: Names) -> list[SourceTable]:
    role = address_of(settings.capture_dsn).user
    found = source_tables(connection, role, own.publication)
    return [table for table in found if table.published]


def _watch(
    connection: Connection, settings: Settings, own: Names, asked: Mapping[int, int]
) -> list[Resync]:
    """Wait until each of these requests is fulfilled, and silver has applied it."""
    lake = Lakehouse(settings)
    ended: dict[int, Resync] = {}
    changed_at, previous = time.monotonic(), ""
    with Steps() as steps:
        while True:
            known = {one.oid: one for one in progress(connection, own)}
            open_ = [_of(known, oid, number) for oid, number in asked.items() if oid not in ended]
            ledger = lake.ledger() if any(one.finished >= asked[one.oid] for one in open_) else {}
            for one in open_:
                if _is_over(one, asked[one.oid], settings, ledger):
                    ended[one.oid] = one
                    steps.note(f"resync {one}: {one.rows:,} rows, and silver has applied it")
            if len(ended) == len(asked):
                return [ended[oid] for oid in asked]
            text = "; ".join(line(one, time.time()) for one in open_ if one.oid not in ended)
            steps.waiting(f"resync {text}")
            state = str(sorted((o.oid, o.state, o.rows, o.why, o.finished) for o in open_))
            if state != previous:
                changed_at, previous = time.monotonic(), state
            if time.monotonic() - changed_at > SILENT_S_MAX:
                raise HeadwaterError(
                    f"the resync has not gone on for {SILENT_S_MAX / 60:.0f} min: {text}",
                    hint="`headwater status capture connect silver`; the request stays",
                )
            time.sleep(_EVERY_S)


def _of(known: Mapping[int, Resync], oid: int, number: int) -> Resync:
    one = known.get(oid)
    if one is None:
        raise HeadwaterError(
            "a table to be resynced is no longer captured",
            hint="see `headwater logs capture`",
        )
    if one.state == FAILED and one.finished >= number:
        raise HeadwaterError(f"the resync of {one} failed", detail=one.why)
    return one


def _is_over(
    one: Resync, number: int, settings: Settings, ledger: Mapping[str, LedgerEntry]
) -> bool:
    """Return whether silver has applied a resync. Raises: HeadwaterError if it cannot."""
    if one.finished < number:
        return False
    if one.state == DONE and not one.ends:  # no topic: it never had a row
        return True
    entry = ledger.get(Lakehouse(settings).names.of(one.schema, one.name))
    if entry is None:
        return False
    topic = topic_of(settings.topic_prefix, one.schema, one.name)
    if entry.high_water.get(topic, RESYNCED).lsn >= one.applied_lsn:
        return True
    if entry.state in ("stopped", "refused"):
        raise HeadwaterError(
            f"{one} was resynced, and silver has stopped the table",
            detail=entry.reason or "",
            hint=f"repair the cause; `headwater resume {entry.table}` then applies the resync",
        )
    return False


def _row(one: Resync) -> tuple[str, str, int, float, str]:
    return str(one), one.kind, one.rows, round(max(0.0, one.ended_at - one.began_at), 1), one.state
