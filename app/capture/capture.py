"""Guards the capture while the stack runs: `python -m app.capture.capture`.

Every five seconds, and each second while a started connector is awaited, one pass:
1. abort transactions in Kafka that nobody will end;
2. restart connector tasks that failed, with back-off and a limit;
3. where the stream cannot go on without a loss, stop here until it is recovered: the guard
   (`stream_guard.py`, in a thread of its own) has stopped the source's connector;
4. leave out tables at which the connector would stop at its next start, and report them;
5. take in tables that are not captured, where that is allowed; report them where it is not;
6. continue pending snapshots and resyncs.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence

import psycopg
from kafka.errors import KafkaError

from app.capture.recovery import guard_of
from app.capture.repaired import Repaired
from app.capture.resync import progress
from app.capture.resyncing import Resyncing
from app.capture.unseen import UnseenChanges
from app.connectors.adoption import (
    can_be_incremental,
    describe_again,
    publish_keyed,
    publish_keyless,
    published_by_hand,
    signal_snapshots,
)
from app.connectors.capture_record import DONE, PENDING, record, states
from app.connectors.hanging_transactions import Hanging
from app.connectors.heartbeat import beaten_since, source_time
from app.connectors.keyless_topics import ensure_single, too_many
from app.connectors.messages import Messages
from app.connectors.notices import Notices
from app.connectors.partitions import note
from app.connectors.registration import (
    BRONZE,
    LEFT_OUT_LIST,
    RUNNING_WAIT_S,
    SOURCE,
    chunk_rows,
    left_out,
    running,
)
from app.connectors.task_restarts import TaskRestarts
from app.connectors.worker import Worker, WorkerBusy, retry_while_busy
from app.environment.settings import Settings, load
from app.errors import HeadwaterError
from app.source.database import Connection, address_of, connect
from app.source.shared_names import not_captured, shared_names, to_exclude, withdraw
from app.source.source_tables import Names, SourceTable, source_tables

PASS_S = 5.0
# A table that was just taken in waits for the restarted connector: for a while passes are more
# frequent, to see soon whether it streams.
OFTEN_S = 1.0
OFTEN_FOR_S = 30.0
# An incremental snapshot without a notification for so long is signalled again. Repeating one only
# costs work, and a large table takes long.
SIGNAL_AGAIN_S = 600.0
FAILED_AGAIN_S = 30.0
APPLICATION = "headwater capture"


class Capture:
    """The service for one source; `step` is one pass."""

    def __init__(
        self,
        settings: Settings,
        worker: Worker,
        clock: Callable[[], float] = time.monotonic,
        stream_is_broken: Callable[[], bool] = lambda: False,
        repaired: Repaired | None = None,
    ) -> None:
        self._settings = settings
        self._repaired = repaired
        self._stream_is_broken = stream_is_broken
        self._worker = worker
        self._clock = clock
        self._names = Names.of(settings)
        self._role = address_of(settings.capture_dsn).user
        self._restarts = TaskRestarts(clock)
        self._hanging = Hanging(settings.kafka, settings.topic_prefix, clock)
        self._connection: Connection | None = None
        self._notices: Notices | None = None
        messages = Messages()
        self._report, self._reachable_again = messages.report, messages.reachable_again
        self._since: str | None = None  # by the source's clock
        self._often_until = clock() + OFTEN_FOR_S
        self._signalled_at: dict[int, float] = {}
        self._single: set[tuple[int, str]] = set()  # tables without a key: their topics
        self._left_out: dict[str, str] | None = None  # as the connector is configured
        self._skipped: set[int] = set()  # tables whose incremental snapshot did not succeed
        self._resyncing = Resyncing(
            settings, self._restart_source, self._report, chunk_rows(), clock
        )
        self._unseen = UnseenChanges(settings, worker, self._report)

    def step(self) -> None:
        """Do one pass; what cannot be reached is reported once and tried again in the next pass.

        Raises: HeadwaterError where a connector keeps failing.
        """
        self._end_hanging()  # Connect waits for their end
        self._restart_failed()
        if self._stream_is_broken():
            self._disconnect()
            return
        try:
            self._take_in(self._source())
        except (HeadwaterError, psycopg.Error, KafkaError, WorkerBusy) as error:
            self._report("source", str(error))
            self._disconnect()
        else:
            self._reachable_again("source")

    @property
    def pause_s(self) -> float:
        """Seconds to wait before the next pass."""
        often = self._clock() < self._often_until or self._resyncing.is_open
        return OFTEN_S if often else PASS_S

    def _end_hanging(self) -> None:
        try:
            for one in self._hanging.abort():
                print(f"aborted a transaction that Kafka left open: {one}", file=sys.stderr)
        except KafkaError as error:
            self._report("transactions", f"not known whether a transaction hangs: {error}")
        else:
            self._reachable_again("transactions")

    def _restart_failed(self) -> None:
        names = (BRONZE,) if self._stream_is_broken() else (SOURCE, BRONZE)
        try:
            for task in self._restarts.due([t for name in names for t in self._worker.tasks(name)]):
                print(f"connector {task} failed, restarting it: {task.why}", file=sys.stderr)
                self._worker.restart(task)
        except WorkerBusy as error:
            self._report("connect", f"Kafka Connect does not answer: {error}")
        else:
            self._reachable_again("connect")

    def _take_in(self, connection: Connection) -> None:
        publication = self._names.publication
        found = connection.execute("SELECT FROM pg_publication WHERE pubname = %s", [publication])
        if not found.fetchall():
            raise HeadwaterError(
                f"the publication `{publication}` is gone from the source",
                hint=f"make it again (`headwater preflight --apply`), then drop the slot: "
                f"SELECT pg_drop_replication_slot('{self._names.slot}'); what was committed without "
                "the publication cannot be read any more, and `headwater recover` reads the tables",
            )
        tables = self._tables(connection)
        if self._settings.profile.may_apply and withdraw(connection, publication, tables):
            tables = self._tables(connection)
        shared = shared_names(tables)
        self._leave_out(connection, to_exclude(tables))
        absent = [table for table in tables if not table.published and not table.uncapturable()]
        wanted = []
        for table in absent:
            if (
                table not in shared
                and not table.identity_problem()
                and self._settings.profile.may_apply
            ):
                wanted.append(table)
            else:
                self._report(str(table), not_captured(table, shared.get(table), publication))
        self._make_topics([*wanted, *(table for table in tables if table.published)])
        if not self._is_streaming(connection):
            self._unseen.continue_by_table(connection, tables, self._await_source)
            return
        note(connection, self._names, wanted)
        keyed = [table for table in wanted if table.has_key]
        if publish_keyed(connection, self._names, keyed, self._role, self._report):
            self._restart_source()
        for table in wanted:
            if not table.has_key:
                self._take_in_keyless(connection, table)
        if self._is_streaming(connection):
            self._often_until = -math.inf
            self._complete_snapshots(connection)
            self._resync(connection)

    def _leave_out(self, connection: Connection, excluded: Sequence[SourceTable]) -> None:
        """Exclude exactly the tables at which the connector would stop.

        It reads every table's columns when it starts, and stops at two whose names differ in case only.
        """
        wanted = left_out(excluded)
        for table in excluded:
            if table.twins:
                self._report(f"columns of {table}", f"{table} is left out: {table.uncapturable()}")
        if wanted == self._left_out:
            return
        config = self._worker.config(SOURCE) or {}
        self._left_out = {k: v for k, v in config.items() if k == LEFT_OUT_LIST}
        if wanted == self._left_out or not config:
            return
        failed = any(task.state == "FAILED" for task in self._worker.tasks(SOURCE))
        if not failed and not self._is_streaming(connection):
            self._left_out = None  # a new configuration would begin its first snapshot again
            return
        rest = {k: v for k, v in config.items() if k != LEFT_OUT_LIST}
        self._worker.register(SOURCE, rest | wanted)
        self._await_source()
        self._left_out = wanted

    def _make_topics(self, tables: Sequence[SourceTable]) -> None:
        """Make the topics of keyless tables, with one partition; each table is checked once."""
        new = [t for t in tables if not t.has_key and (t.oid, str(t)) not in self._single]
        kafka, prefix = self._settings.kafka, self._settings.topic_prefix
        for table, count in ensure_single(kafka, prefix, new).items():
            self._report(f"topic of {table}", too_many(table, count))
        self._single.update((table.oid, str(table)) for table in new)

    def _take_in_keyless(self, connection: Connection, table: SourceTable) -> None:
        notices, names, role = self._open_notices(), self._names, self._role
        with connect(self._settings.capture_dsn, application=APPLICATION) as signalling:
            publish_keyless(
                connection, signalling, names, table, role, notices, self._report, self._clock
            )

    def _complete_snapshots(self, connection: Connection) -> None:
        """Signal pending snapshots, and record those that have ended."""
        known = states(connection, self._names)
        tables = self._tables(connection)
        excluded = {table.oid for table in to_exclude(tables)}
        tables = [t for t in tables if t.published and t.readable and t.oid not in excluded]
        unknown = [table for table in tables if table.oid not in known]
        if unknown:
            self._take_in_published(connection, unknown)
        pending = {str(t): t for t in tables if known.get(t.oid) == PENDING}
        if not pending:
            return
        notices = self._open_notices()
        notices.read(wait_ms=0)
        for name, table in list(pending.items()):
            scan = notices.take(name)
            if scan is not None and scan.succeeded:
                record(connection, self._names, [table], DONE)
                del pending[name]
                print(f"{table}: its earlier rows are snapshotted", file=sys.stderr)
                blocking = table.oid in self._skipped or not can_be_incremental(table)
                if blocking and self._settings.profile.may_apply:
                    describe_again(connection, self._names)
            elif scan is not None:
                self._report(name, f"{table}: its snapshot ended with {scan.status}")
                self._skipped.add(table.oid)
                self._signalled_at[table.oid] = self._clock() - SIGNAL_AGAIN_S + FAILED_AGAIN_S
        self._signal(connection, list(pending.values()))

    def _resync(self, connection: Connection) -> None:
        """Find tables that need a resync, and continue the resyncs."""
        known = states(connection, self._names)
        tables = [t for t in self._tables(connection) if t.published and t.oid in known]
        self._unseen.check_first_snapshot(connection, tables)
        if self._unseen.check(connection, tables, known):
            self._signalled_at.clear()
            self._restart_source()  # it is signalled by names that the connector must know
        else:
            self._resyncing.step(connection, tables, known)
        if self._repaired is not None:
            self._repaired.close_done(progress(connection, self._names))

    def _is_streaming(self, connection: Connection) -> bool:
        """Whether the connector streams, past its first snapshot, since it was last (re)started.

        A restart would begin that snapshot again, and a blocking one would wait behind it. The
        heartbeat beats only while the connector streams.
        """
        if self._since is None:
            self._since = source_time(connection)
        return beaten_since(connection, self._names, self._since)

    def _signal(self, connection: Connection, pending: Sequence[SourceTable]) -> None:
        now = self._clock()
        due = [
            table
            for table in pending
            if now >= self._signalled_at.get(table.oid, -math.inf) + SIGNAL_AGAIN_S
        ]
        if due:
            signal_snapshots(connection, self._names, due, self._skipped)
            self._signalled_at.update({table.oid: now for table in due})

    def _take_in_published(self, connection: Connection, tables: Sequence[SourceTable]) -> None:
        """Take in tables that somebody else added to the publication while the stack ran."""
        record(connection, self._names, [table for table in tables if table.has_key], PENDING)
        record(connection, self._names, [table for table in tables if not table.has_key], DONE)
        for table in tables:
            if not table.has_key:
                print(published_by_hand(table, self._names), file=sys.stderr)
        self._restart_source()

    def _restart_source(self) -> None:
        """Restart the source's tasks, so that Debezium reads all tables' definitions again."""
        self._open_notices()  # before a signal, or the snapshot's end could be missed
        for task in self._worker.tasks(SOURCE):
            if task.task is not None:
                self._worker.restart(task)
        self._await_source()

    def _await_source(self) -> None:
        retry_while_busy(
            lambda: running(self._worker, SOURCE),
            within_s=RUNNING_WAIT_S,
            what=f"waiting for connector `{SOURCE}` to run again",
        )
        self._since = None
        self._often_until = self._clock() + OFTEN_FOR_S

    def _source(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._settings.source_dsn, application=APPLICATION)
        return self._connection

    def _tables(self, connection: Connection) -> list[SourceTable]:
        return source_tables(connection, self._role, self._names.publication)

    def _open_notices(self) -> Notices:
        if self._notices is None:
            self._notices = Notices(self._settings.kafka, self._settings.topic_prefix)
        return self._notices

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._notices is not None:
            self._notices.close()
        self._resyncing.close()
        self._connection = self._notices = self._since = None
        self._signalled_at.clear()  # a snapshot may end unobserved: signal again


def main() -> int:
    """Do passes until the process is stopped; return 1 where a connector keeps failing."""
    settings = load()
    worker = Worker(settings.connect_url)
    guard, incidents = guard_of(settings)
    capture = Capture(
        settings,
        worker,
        stream_is_broken=lambda: guard.broken is not None,
        repaired=Repaired(incidents),
    )
    guard.check(only=True)
    print("watching the source", file=sys.stderr, flush=True)
    watching = guard.start()
    try:
        while watching.is_alive():
            capture.step()
            time.sleep(capture.pause_s)
    except HeadwaterError as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
