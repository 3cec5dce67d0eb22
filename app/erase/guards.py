"""What must be so before anything is erased, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import psycopg

from app.environment.settings import Settings
from app.erase.key_search import Searched, is_of_any
from app.errors import HeadwaterError
from app.lake import topic_tail as tail
from app.lake.lakehouse import Lakehouse, LedgerEntry
from app.rebuild.rebuild_guards import entry_in
from app.trace.side_by_side import key_condition
from app.trace.trace_key import RowKey
from spark_streaming.batch.rebuild_state import RebuildStore
from spark_streaming.contract.canonical import SESSION_SETTINGS
from spark_streaming.contract.contract import Contract, quoted
from spark_streaming.contract.lsn import LOG_START, Lsn, lsn_text, parse_lsn
from spark_streaming.events.contract_versions import key_changed
from spark_streaming.storage.connections import TCP_LIMITS

CONNECT_TIMEOUT_S = 5
POLL_S = 0.5
TAIL_S = 30.0


def check_table(contract: Contract) -> None:
    """Raise HeadwaterError if events of the table's rows cannot all be recognized by a key."""
    table = f"{contract.schema}.{contract.table}"
    if contract.is_keyless:
        raise HeadwaterError(
            f"rows of {table} cannot be erased: the table has no key",
            detail="nothing in an event says which of several equal rows it changed, so what belongs to one "
            "person cannot be told apart",
            hint=f"ALTER TABLE {table} ADD PRIMARY KEY (…) for the future; for the past, delete the "
            "topic's folder in bronze and `./headwater resync` the table",
        )
    if key_changed(contract):
        raise HeadwaterError(
            f"rows of {table} cannot be erased: the table's key columns changed",
            detail="older deletes in bronze name rows by another key, so a search would miss some",
            hint="delete the topic's folder in bronze and `./headwater resync` the table",
        )


def gone_from_source(settings: Settings, contract: Contract, keys: Sequence[RowKey]) -> Lsn:
    """Check that the source has no row with one of these keys.

    Returns: a position of its log behind which the deletes are.
    Raises: HeadwaterError if the source still has one, or does not answer.
    """
    table = f"{contract.schema}.{contract.table}"
    try:
        with psycopg.connect(
            settings.capture_dsn,
            **{**TCP_LIMITS, "connect_timeout": CONNECT_TIMEOUT_S},
            application_name="headwater-erase",
        ) as connection:
            for statement in SESSION_SETTINGS:
                connection.execute(statement.encode())
            condition = " or ".join(key_condition(connection, key) for key in keys)
            name = f"{quoted(contract.schema)}.{quoted(contract.table)}"
            found = connection.execute(f"select 1 from {name} where {condition} limit 1".encode())
            there = found.fetchone() is not None
            at = connection.execute("select pg_current_wal_insert_lsn()::text").fetchone()
    except psycopg.errors.UndefinedTable:
        raise HeadwaterError(
            f"the source has no table {table} any more",
            detail="silver keeps its rows, which nothing removes row by row",
            hint="without the table, remove silver's and bronze's folders of it as a whole",
        ) from None
    except psycopg.Error as error:
        raise HeadwaterError(
            "the source cannot be asked whether it still has the row",
            detail=str(error).strip().splitlines()[0],
        ) from error
    if there:
        raise HeadwaterError(
            f"the source still has this row of {table}",
            detail="silver equals the source: an erasure here would make them differ, and the next "
            "change of the row would bring it back",
            hint="delete the row in the source first, then run this again"
            if len(keys) == 1
            else "the row's key was changed, and it lives on under the new one: `./headwater trace` shows "
            "it. Delete it in the source first",
        )
    assert at is not None
    return parse_lsn(at[0])


def await_silver(
    lake: Lakehouse,
    table: str,
    lsn: Lsn,
    has_row: Callable[[], bool],
    *,
    wait_s: float,
    waiting: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> LedgerEntry:
    """Wait until silver's table runs, is complete to `lsn`, and has no such row. Returns: its ledger entry.

    Raises: HeadwaterError if it is stopped, is being rebuilt, or does not get there within `wait_s`.
    """
    limit = clock() + wait_s
    while True:
        entry = entry_in(lake.ledger(), table)
        if entry.state in ("stopped", "refused"):
            raise HeadwaterError(
                f"table `{table}` is {entry.state}: events that it has not merged would be missing",
                detail=entry.reason or "",
                hint="repair the cause, then `./headwater resume`; then erase",
            )
        # A quiet table's own entry is as old as its last event; a table that runs is complete with the others.
        reached = max(lake.complete_lsn(), entry.complete_lsn or LOG_START)
        complete = entry.state == "running" and reached >= lsn
        if complete and not has_row():
            return entry
        if clock() > limit:
            raise HeadwaterError(
                f"silver has not merged the source's delete within {wait_s:.0f} s"
                if not complete
                else f"silver still has the row, although it is complete to {lsn_text(lsn)}",
                detail=f"`{table}` is {entry.state}, complete to {lsn_text(reached)}",
                hint=f"`./headwater status silver`; `./headwater verify {table}` compares the table, "
                f"`./headwater resync {table}` repairs it",
            )
        waiting(f"erase {table}: waiting until silver has the source's delete")
        time.sleep(POLL_S)


def check_no_rebuild(lake: Lakehouse, table: str, entry: LedgerEntry) -> None:
    """Raise HeadwaterError if an unfinished rebuild of the table holds rows aside."""
    store = RebuildStore(lake.lake)
    if any(state.id != entry.generation for state in store.of(table)):
        raise HeadwaterError(
            f"a rebuild of `{table}` is not finished",
            detail="its rows are aside, in the lake's folder rebuild/",
            hint=f"`./headwater rebuild {table}` finishes it; then erase",
        )


def is_behind(settings: Settings, topic: str, searched: Searched, keys: Sequence[RowKey]) -> bool:
    """Whether Kafka has events of these keys that bronze had not when it was searched."""
    consumer = tail.open_consumer(settings.kafka)
    with closing(consumer):
        ends = tail.end_offsets(consumer, topic)
        begins = {
            tp.partition: at
            for tp, at in consumer.beginning_offsets(tail.partitions(consumer, topic)).items()
        }
        starts = {p: max(searched.ends.get(p, 0), begins.get(p, 0)) for p in ends}
        newer: Any = tail.read_between(consumer, topic, starts, ends, deadline_s=TAIL_S)
        return any(is_of_any(event, keys) for event in newer)
