"""Carries resyncs out, one at a time; `capture` calls `step` in each pass.

A table with a key:
1. record the log's end (L0), and wait until the transactions that wrote to the table before have
   ended: everything that is written from then on has a position of L0 or more;
2. signal an incremental snapshot, which reads the rows in chunks beside the stream. Each row comes
   with a position of L0 or more: its own, or that of a change that was streamed meanwhile;
3. write the end of the resync into each partition of the table's topic, after those rows. Silver
   then removes the rows that are older than L0.
   If Debezium cannot read the table in chunks, step 2 is a blocking snapshot.

A table without a key is read by a blocking snapshot while its writers are blocked, from L0 until
all is read: a whole snapshot replaces all older rows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg

from app.capture.resync import (
    DONE,
    FAILED,
    READING,
    WAITING,
    Resync,
    change,
    drop,
    progress,
)
from app.capture.resync_end import log_end, shape_of, write_ends, writers_of
from app.connectors.adoption import (
    KEYLESS_SNAPSHOT_S_MAX,
    Report,
    can_be_incremental,
    describe_again,
    writers_held_off,
)
from app.connectors.capture_record import PENDING, ask_for_snapshot
from app.connectors.first_snapshot import estimates
from app.connectors.notices import Notices, Scan
from app.connectors.stream.continuity import read_slot
from app.environment.settings import Settings
from app.source.database import Connection, connect
from app.source.source_tables import Names, SourceTable

INCREMENTAL, BLOCKING, KEYLESS = "incremental", "blocking", "bag"
# After this time without a notification an incremental snapshot is signalled again.
SILENT_S_MAX = 600.0
ATTEMPTS_MAX = 5
# A keyless table's writers are blocked for a minute at most; 10,000 rows a second were measured.
KEYLESS_ROWS_MAX = 600_000
_POLL_MS = 100
APPLICATION = "headwater resync"


class Resyncing:
    """Carries out the resyncs of one source.

    Args:
        restart: restarts the connector's task.
        chunk_rows: rows of a chunk of an incremental snapshot, as the connector is configured.
    """

    def __init__(
        self,
        settings: Settings,
        restart: Callable[[], None],
        report: Report,
        chunk_rows: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._names = Names.of(settings)
        self._restart = restart
        self._report = report
        self._chunk_rows = chunk_rows
        self._clock = clock
        self._notices: Notices | None = None
        self._heard_at = clock()
        self._restarted: int | None = None  # oid of the table for which the task was restarted
        self._writers: tuple[int, set[str]] | None = None  # oid, and its writers before L0
        self._blocked: set[int] = set()  # tables whose incremental snapshot did not succeed
        self.is_open = False

    def step(
        self, connection: Connection, tables: Sequence[SourceTable], known: Mapping[int, str]
    ) -> None:
        """Continue the current resync, or begin the next.

        Args:
            connection: a session of the owner.
            tables: the captured tables.
            known: oid → PENDING if the table's first rows are still to come, else DONE.
            Raises: psycopg.Error, kafka.errors.KafkaError, HeadwaterError; the next pass continues.
        """
        by_oid = {table.oid: table for table in tables}
        waiting = [one for one in progress(connection, self._names) if one.is_open]
        for one in waiting:
            if one.oid not in by_oid:
                drop(connection, self._names, one.oid)
                _print(f"{one}: no resync, because it is not captured any more")
        waiting = [w for w in waiting if w.oid in by_oid and known.get(w.oid) != PENDING]
        self.is_open = bool(waiting)
        if waiting:
            self._continue(connection, by_oid[waiting[0].oid], waiting[0])

    def close(self) -> None:
        """Forget the observed state; the next step begins from the recorded one."""
        if self._notices is not None:
            self._notices.close()
        self._notices = self._restarted = self._writers = None

    def _continue(self, connection: Connection, table: SourceTable, one: Resync) -> None:
        if str(one) != str(table):
            self._retry(connection, one, f"its name is {table} now", table)
        elif one.tries >= ATTEMPTS_MAX:
            self._end(connection, one, FAILED, why=one.why)
            _print(
                f"{table}: its resync failed {one.tries} times: {one.why}\n"
                f"  hint: see `headwater logs connect`; then `headwater resync {table}`"
            )
        elif one.state == READING and one.mark and one.kind != KEYLESS:
            self._read(connection, table, one)
        elif self._is_ready(table):
            if table.has_key:
                self._begin(connection, table, one)
            else:
                self._read_keyless(connection, table, one)

    def _is_ready(self, table: SourceTable) -> bool:
        """Whether a snapshot's rows would have the position at which they are read.

        If a connector has made the slot itself, it gives the slot's first position to every row of
        a blocking snapshot until its task is restarted. So a blocking snapshot begins with a
        restart.
        """
        if self._kind(table) == INCREMENTAL or self._restarted == table.oid:
            return True
        self._restart()
        self._restarted = table.oid
        return False

    def _kind(self, table: SourceTable) -> str:
        if not table.has_key:
            return KEYLESS
        apart = can_be_incremental(table) and table.oid not in self._blocked
        return INCREMENTAL if apart else BLOCKING

    # -- tables with a key

    def _begin(self, connection: Connection, table: SourceTable, one: Resync) -> None:
        """Do steps 1 and 2: record L0, wait for previous writers, signal."""
        if self._writers is None or self._writers[0] != table.oid or one.state == WAITING:
            one = self._start(connection, table, one)
            self._writers = (table.oid, writers_of(connection, table))
        left = self._writers[1] & writers_of(connection, table)
        if left:
            why = f"waits for {len(left)} transaction(s) that wrote to the table before"
            if one.why != why:
                self._change(connection, one, why=why)
                self._report(f"resync of {table}", f"{table}: its resync {why}")
            return
        kind = self._kind(table)
        mark = f"again-{table.oid}-{time.time_ns()}"
        notices = self._open()
        slot = read_slot(connection, self._names.slot)
        with connection.transaction():
            self._change(
                connection,
                one,
                kind=kind,
                mark=mark,
                since=notices.end(),
                reader=slot.active_pid if slot else None,
                why="",
            )
            ask_for_snapshot(connection, self._names, [table], kind=kind, mark=mark)
        self._writers = None
        self._heard_at = self._clock()
        _print(f"{table}: resync begun, {kind} ({one.reason})")

    def _start(self, connection: Connection, table: SourceTable, one: Resync) -> Resync:
        """Record the start of a resync; a request after this leads to another one."""
        total = estimates(connection, [table.oid]).get(table.oid)
        shape = shape_of(connection, table)
        return change(
            connection,
            self._names,
            table.oid,
            lambda known: replace(
                known or one,
                state=READING,
                reading=(known or one).asked,
                below_lsn=log_end(connection),
                shape=shape,
                mark="",
                rows=0,
                rows_total=total,
                began_at=time.time(),
                ended_at=0.0,
                ends={},
            ),
        )

    def _read(self, connection: Connection, table: SourceTable, one: Resync) -> None:
        """Follow a snapshot; do step 3 at its end."""
        notices = self._open(one.since)
        before = notices.chunks[str(table)]
        notices.read_all()
        scan = notices.take(str(table))
        if scan is not None and one.kind == INCREMENTAL and scan.mark not in ("None", one.mark):
            scan = None  # it belongs to a previous signal
        chunks = notices.chunks[str(table)]
        if chunks != before:
            self._heard_at = self._clock()
            rows = max(one.rows, chunks * self._chunk_rows)
            total = None if one.rows_total is None else max(one.rows_total, rows)
            one = self._change(connection, one, rows=rows, rows_total=total)
        if scan is not None and scan.succeeded:
            self._finish(connection, table, one, scan)
        elif scan is not None:
            self._blocked.add(table.oid)
            self._retry(connection, one, f"its snapshot ended with {scan.status}")
        elif one.kind == BLOCKING and self._was_cut(connection, one):
            self._retry(connection, one, "the connector was started again while it read the table")
        elif self._clock() - self._heard_at > SILENT_S_MAX:
            self._retry(connection, one, f"nothing was read for {SILENT_S_MAX:.0f} s")

    def _was_cut(self, connection: Connection, one: Resync) -> bool:
        """Whether the connector was restarted, which ends a blocking snapshot."""
        slot = read_slot(connection, self._names.slot)
        reader = slot.active_pid if slot else None
        return reader is not None and reader != one.reader

    def _retry(
        self, connection: Connection, one: Resync, why: str, table: SourceTable | None = None
    ) -> None:
        self._report(f"resync of {one}", f"{one}: its resync begins again: {why}")
        self.close()
        schema, name = (table.schema, table.name) if table else (one.schema, one.name)
        tries = one.tries + 1
        self._change(connection, one, mark="", tries=tries, why=why, schema=schema, name=name)

    def _finish(self, connection: Connection, table: SourceTable, one: Resync, scan: Scan) -> None:
        settings = self._settings
        name = f"{one.oid}-{one.reading}"
        ends = write_ends(
            settings.kafka,
            settings.topic_prefix,
            table,
            one.below_lsn,
            name,
            partitions=settings.profile.topic_partitions,
        )
        if shape_of(connection, table) != one.shape:
            # Rows that a chunk read before a TRUNCATE arrive after the event of the TRUNCATE.
            self._retry(connection, one, "the table was truncated or rewritten during the resync")
            return
        # Debezium counts since its last start; the chunks were counted here.
        whole = scan.rows + self._chunk_rows >= one.rows
        rows = scan.rows if whole else one.rows
        done = {"ends": ends, "rows": rows, "applied_lsn": one.below_lsn}
        self._end(connection, one, DONE, **done)
        _print(f"{table}: resync read {rows} rows")
        if one.kind == BLOCKING and settings.profile.may_apply:
            describe_again(connection, self._names)

    def _end(self, connection: Connection, one: Resync, state: str, **to: Any) -> None:
        """Record the end of a resync; a request that came while it ran leads to another one."""

        def ended(known: Resync | None) -> Resync:
            known = known or one
            new = replace(known, state=state, finished=known.reading, ended_at=time.time(), **to)
            if new.asked > new.finished:
                return replace(new, state=WAITING, tries=0, why="")
            return new if state == FAILED else replace(new, tries=0, why="")

        change(connection, self._names, one.oid, ended)
        self.close()

    # -- tables without a key

    def _read_keyless(self, connection: Connection, table: SourceTable, one: Resync) -> None:
        one = self._start(connection, table, one)
        if (one.rows_total or 0) > KEYLESS_ROWS_MAX:
            why = (
                f"it has about {one.rows_total} rows and no key: its writers would wait during the read, "
                f"which would take more than {KEYLESS_SNAPSHOT_S_MAX:.0f} s; give it a key"
            )
            self._end(connection, one, FAILED, why=why)
            self._report(f"resync of {table}", f"{table}: no resync: {why}")
            return
        notices = self._open()
        notices.take(str(table))
        mark = f"again-{table.oid}-{time.time_ns()}"
        one = self._change(connection, one, kind=KEYLESS, mark=mark)
        try:
            with (
                connect(self._settings.source_dsn, application=APPLICATION) as holding,
                writers_held_off(holding, table),
            ):
                # This position is after everything written before, and before everything written
                # later.
                one = replace(one, below_lsn=log_end(connection))
                ask_for_snapshot(connection, self._names, [table], kind="blocking", mark=mark)
                scan = self._await(notices, table)
                self._finish(connection, table, one, scan)
        except (psycopg.Error, TimeoutError) as error:
            self._retry(connection, one, str(error).strip())
        else:
            with suppress(psycopg.Error):  # then few rows have newer columns than the log
                if self._settings.profile.may_apply:
                    describe_again(connection, self._names)

    def _await(self, notices: Notices, table: SourceTable) -> Scan:
        limit = self._clock() + KEYLESS_SNAPSHOT_S_MAX
        while self._clock() < limit:
            notices.read(_POLL_MS)
            scan = notices.take(str(table))
            if scan is not None and scan.succeeded:
                return scan
            if scan is not None:
                raise TimeoutError(f"its snapshot ended with {scan.status}")
        raise TimeoutError(f"its snapshot did not end within {KEYLESS_SNAPSHOT_S_MAX:.0f} s")

    # -- records

    def _change(self, connection: Connection, one: Resync, **to: Any) -> Resync:
        return change(connection, self._names, one.oid, lambda known: replace(known or one, **to))

    def _open(self, since: int | None = None) -> Notices:
        if self._notices is None:
            settings = self._settings
            self._notices = Notices(settings.kafka, settings.topic_prefix, since=since)
        return self._notices


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
