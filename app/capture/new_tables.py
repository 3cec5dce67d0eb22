"""A duty of `capture`: start to capture new tables, if that is allowed."""

from __future__ import annotations

from collections.abc import Sequence

from app.capture.resync import request_unless_blocking
from app.capture.source_stream import SourceStream
from app.connectors.adoption import publish_keyed, publish_keyless
from app.connectors.capture_record import states
from app.connectors.keyless_topics import ensure_single, too_many
from app.connectors.partitions import note
from app.source.database import Connection, connect
from app.source.shared_names import not_captured, shared_names
from app.source.source_tables import SourceTable


class NewTables:
    """Publishes new tables, and makes the topics of those without a key."""

    def __init__(self, stream: SourceStream, application: str) -> None:
        self._stream = stream
        self._application = application
        self._single: set[tuple[int, str]] = set()  # keyless tables whose topics are checked

    def wanted(self, tables: Sequence[SourceTable]) -> list[SourceTable]:
        """Return the tables to be captured; report those that cannot or may not be.

        Also makes the topics of the returned tables and of the published ones.
        """
        shared = shared_names(tables)
        wanted = []
        for table in tables:
            if table.published or not table.chosen:
                continue
            if table.uncapturable():
                if table.excluded_key:  # `left_out` reports the others
                    self._stream.report(str(table), f"{table} is left out: {table.uncapturable()}")
                continue
            may = self._stream.settings.profile.may_apply
            if table not in shared and not table.identity_problem() and may:
                wanted.append(table)
            else:
                publication = self._stream.names.publication
                self._stream.report(str(table), not_captured(table, shared.get(table), publication))
        self._make_topics([*wanted, *(table for table in tables if table.published)])
        return wanted

    def take_in(self, connection: Connection, wanted: Sequence[SourceTable]) -> None:
        """Publish these tables; the connector must be streaming."""
        stream = self._stream
        note(connection, stream.names, wanted)
        known = states(connection, stream.names)
        keyed = [table for table in wanted if table.has_key]
        if publish_keyed(connection, stream.names, keyed, stream.role, stream.report):
            stream.restart()
        for table in wanted:
            if not table.has_key:
                self._take_in_keyless(connection, table)
        for table in wanted:
            if table.oid in known:  # silver may have rows that were deleted in the meantime
                reason = "it was not captured for a time"
                message = request_unless_blocking(connection, stream.names, table, reason, True)
                stream.report(f"rows of {table}", message)

    def _take_in_keyless(self, connection: Connection, table: SourceTable) -> None:
        stream = self._stream
        with connect(stream.settings.capture_dsn, application=self._application) as signalling:
            publish_keyless(
                connection,
                signalling,
                stream.names,
                table,
                stream.role,
                stream.notices(),
                stream.report,
                stream.clock,
            )

    def _make_topics(self, tables: Sequence[SourceTable]) -> None:
        """Make the topics of keyless tables, with one partition; each table is checked once."""
        new = [t for t in tables if not t.has_key and (t.oid, str(t)) not in self._single]
        kafka, prefix = self._stream.settings.kafka, self._stream.settings.topic_prefix
        for table, count in ensure_single(kafka, prefix, new).items():
            self._stream.report(f"topic of {table}", too_many(table, count))
        self._single.update((table.oid, str(table)) for table in new)
