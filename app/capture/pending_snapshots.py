"""A duty of `capture`: has Debezium read the rows that tables had before they were captured."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from app.capture.source_stream import SourceStream
from app.connectors.adoption import (
    can_be_incremental,
    describe_again,
    published_by_hand,
    signal_snapshots,
)
from app.connectors.capture_record import DONE, PENDING, record, states
from app.source.database import Connection
from app.source.shared_names import to_exclude
from app.source.source_tables import SourceTable

# After this time without a notification an incremental snapshot is signalled again. Repeating one
# only costs work, and a large table takes long.
SIGNAL_AGAIN_S = 600.0
FAILED_AGAIN_S = 30.0


class PendingSnapshots:
    """The snapshots that are pending; they are recorded in the source (`capture_record`)."""

    def __init__(self, stream: SourceStream) -> None:
        self._stream = stream
        self._names = stream.names
        self._signalled_at: dict[int, float] = {}
        self._skipped: set[int] = set()  # tables whose incremental snapshot did not succeed

    def step(self, connection: Connection) -> None:
        """Signal pending snapshots, and record those that have ended."""
        known = states(connection, self._names)
        tables = self._stream.tables(connection)
        excluded = {table.oid for table in to_exclude(tables)}
        tables = [t for t in tables if t.published and t.readable and t.oid not in excluded]
        unknown = [table for table in tables if table.oid not in known]
        if unknown:
            self._take_in_published(connection, unknown)
        pending = {str(t): t for t in tables if known.get(t.oid) == PENDING}
        if not pending:
            return
        notices = self._stream.notices()
        notices.read(wait_ms=0)
        for name, table in list(pending.items()):
            scan = notices.take(name)
            if scan is not None and scan.succeeded:
                record(connection, self._names, [table], DONE)
                del pending[name]
                print(f"{table}: its earlier rows are snapshotted", file=sys.stderr)
                blocking = table.oid in self._skipped or not can_be_incremental(table)
                if blocking and self._stream.settings.profile.may_apply:
                    describe_again(connection, self._names)
            elif scan is not None:
                self._stream.report(name, f"{table}: its snapshot ended with {scan.status}")
                self._skipped.add(table.oid)
                self._signalled_at[table.oid] = (
                    self._stream.clock() - SIGNAL_AGAIN_S + FAILED_AGAIN_S
                )
        self._signal(connection, list(pending.values()))

    def signal_again(self) -> None:
        """Signal pending snapshots again at the next step: one may have ended unobserved."""
        self._signalled_at.clear()

    def _signal(self, connection: Connection, pending: Sequence[SourceTable]) -> None:
        now = self._stream.clock()
        due = [
            table
            for table in pending
            if now >= self._signalled_at.get(table.oid, -math.inf) + SIGNAL_AGAIN_S
        ]
        if due:
            signal_snapshots(connection, self._names, due, self._skipped)
            self._signalled_at.update({table.oid: now for table in due})

    def _take_in_published(self, connection: Connection, tables: Sequence[SourceTable]) -> None:
        """Record tables that somebody else added to the publication while the stack ran."""
        record(connection, self._names, [table for table in tables if table.has_key], PENDING)
        record(connection, self._names, [table for table in tables if not table.has_key], DONE)
        for table in tables:
            if not table.has_key:
                print(published_by_hand(table, self._names), file=sys.stderr)
        self._stream.restart()
