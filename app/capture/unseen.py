"""Finds changes that no event carries, and requests resyncs for them.

These are partitions that come or go, renamed tables, and first snapshots that were interrupted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from app.capture.resync import request, request_unless_blocking
from app.capture.resyncing import KEYLESS_ROWS_MAX
from app.connectors.adoption import Report, grant
from app.connectors.capture_record import DONE, first_time, names_taken, pattern, record
from app.connectors.first_snapshot import estimates
from app.connectors.keyless_topics import admin, partitions_of
from app.connectors.notices import Notices
from app.connectors.partitions import Partitions
from app.connectors.registration import SNAPSHOT_LIST
from app.connectors.worker import Worker
from app.environment.settings import Settings
from app.source.database import Connection, address_of
from app.source.source_tables import OWN_SCHEMA, Names, SourceTable

# Recorded once the resyncs after an interrupted first snapshot are requested.
_ONCE = "initial-interrupted"


class UnseenChanges:
    """Finds changes without events in one source."""

    def __init__(self, settings: Settings, worker: Worker, report: Report) -> None:
        self._settings = settings
        self._worker = worker
        self._report = report
        self._names = Names.of(settings)
        self._role = address_of(settings.capture_dsn).user
        self._partitions = Partitions(self._names, self._request)
        self._first_snapshot_checked = False

    def check(
        self, connection: Connection, tables: Sequence[SourceTable], known: Mapping[int, str]
    ) -> bool:
        """Request resyncs for partitions and renamed tables; return whether a table was renamed.

        Args:
            tables: the captured tables.
            known: oid → PENDING or DONE.
        """
        self._partitions.step(connection, tables)
        taken = names_taken(connection, self._names)
        renamed = [table for table in tables if taken.get(table.oid) not in (None, str(table))]
        for table in renamed:
            # From now on its events go to another topic, which never had its existing rows.
            if known[table.oid] == DONE:
                self._request(connection, table, f"it was {taken[table.oid]} before")
            if self._settings.profile.may_apply:  # another schema
                grant(connection, table, self._role)
            record(connection, self._names, [table], known[table.oid])
        return bool(renamed)

    def check_first_snapshot(self, connection: Connection, tables: Sequence[SourceTable]) -> None:
        """Request resyncs, once, for tables that an interrupted first snapshot may have left wrong.

        Args:
            tables: the published tables; the first snapshot is over.
        """
        if self._first_snapshot_checked:
            return
        history = self._history()
        self._first_snapshot_checked = True
        if history.initial_starts <= 1:
            return
        self._report_starts(history)
        # Silver drops the rows of previous attempts when it gets rows of the last one, so a table
        # that is empty in the last attempt keeps them. Also, the stream begins before the last
        # attempt read a table: a row read twice is one row in a keyed table, but two copies in a
        # keyless one.
        empty = [table for table in tables if str(table) in history.initial_empty]
        keyless = [table for table in tables if not table.has_key and table not in empty]
        with connection.transaction():
            if first_time(connection, self._names, _ONCE):
                for table in empty:
                    self._request(connection, table, "an earlier try of the first snapshot read it")
                for table in keyless:
                    self._request(
                        connection, table, "rows of the first snapshot may have been read twice"
                    )

    def continue_by_table(
        self,
        connection: Connection,
        found: Sequence[SourceTable],
        await_source: Callable[[], None],
    ) -> None:
        """Replace a first snapshot that was interrupted by resyncs, table by table.

        The connector always begins that snapshot from the start, and refuses to stream without one.
        So the snapshot is reduced to the capture's own two tables, and all others are resynced, one
        by one: a table that was read once need not be read again. This is not done if a keyless
        table is too large to be read while its writers are blocked.

        Args:
            found: the source's tables; the first snapshot is not over yet.
            await_source: returns when the connector runs again.
        """
        if self._first_snapshot_checked or not self._has_notices():
            return
        history = self._history()
        if history.initial_starts <= 1 or history.initial_ended:
            return
        tables = [table for table in found if table.published]
        keyless = [table for table in tables if not table.has_key]
        rows = estimates(connection, [table.oid for table in keyless])
        large = [t for t in keyless if (rows.get(t.oid) or 0) > KEYLESS_ROWS_MAX]
        config = self._worker.config(self._settings.connector)
        if not config or large or (keyless and not self._settings.profile.may_apply):
            return
        self._report_starts(history)
        with connection.transaction():
            if first_time(connection, self._names, _ONCE):
                reason = "the first snapshot was interrupted"
                request(connection, self._names, sorted(tables, key=str), reason=reason)
        own = ",".join(pattern(f"{OWN_SCHEMA}.{name}") for name in self._names.own_tables)
        if config.get(SNAPSHOT_LIST) != own:
            self._worker.register(self._settings.connector, {**config, SNAPSHOT_LIST: own})
            self._report(
                "first snapshot", "the first snapshot continues table by table, by resyncs"
            )
            await_source()
        self._first_snapshot_checked = True

    def _has_notices(self) -> bool:
        """Whether the connector has sent a notification yet."""
        topic = f"{self._settings.topic_prefix}.notifications"
        with admin(self._settings.kafka) as client:
            return topic in partitions_of(client, {topic})

    def _history(self) -> Notices:
        history = Notices(self._settings.kafka, self._settings.topic_prefix, from_start=True)
        try:
            history.read_all()
        finally:
            history.close()
        return history

    def _report_starts(self, history: Notices) -> None:
        self._report(
            "initial snapshot",
            f"the initial snapshot was interrupted: it began {history.initial_starts} times",
        )

    def _request(self, connection: Connection, table: SourceTable, reason: str) -> None:
        """Request a resync that no user asked for."""
        may_block_writers = self._settings.profile.may_apply
        message = request_unless_blocking(connection, self._names, table, reason, may_block_writers)
        self._report(f"rows of {table}", message)
