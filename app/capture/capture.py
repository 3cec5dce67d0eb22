"""Guards the capture while the stack runs: `python -m app.capture.capture`.

Every five seconds, and each second while a started connector is awaited, one pass:
1. end transactions in Kafka that nobody will end;
2. restart connector tasks that failed, with back-off and a limit;
3. if the stream cannot continue without a loss, stop here until it is recovered: the guard
   (`stream_guard.py`, in a thread of its own) has stopped the source's connector;
   4. leave out tables that would stop the connector at its next start, and report them;
   5. add tables that are not captured, if that is allowed (`new_tables.py`); report the others;
6. continue pending snapshots (`pending_snapshots.py`) and resyncs (`resyncing.py`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import psycopg
from kafka.errors import KafkaError

from app.capture.new_tables import NewTables
from app.capture.pending_snapshots import PendingSnapshots
from app.capture.recovery import guard_of
from app.capture.repaired import Repaired
from app.capture.resync import progress
from app.capture.resyncing import Resyncing
from app.capture.source_stream import SourceStream
from app.capture.unseen import UnseenChanges
from app.connectors.capture_record import states
from app.connectors.hanging_transactions import Hanging
from app.connectors.messages import Messages
from app.connectors.registration import BRONZE, chunk_rows
from app.connectors.task_restarts import TaskRestarts
from app.connectors.worker import Worker, WorkerBusy
from app.environment.settings import Settings, load
from app.errors import HeadwaterError
from app.lake.object_store import refuse_overwriting
from app.source.database import Connection, KeptConnection
from app.source.shared_names import to_exclude, withdraw
from app.source.source_tables import Names

PASS_S = 5.0
# The pause while a started connector is awaited, to see soon whether it streams.
OFTEN_S = 1.0
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
        self._names = Names.of(settings)
        self._source = KeptConnection(lambda: settings.source_dsn, application=APPLICATION)
        messages = Messages()
        self._report, self._reachable_again = messages.report, messages.reachable_again
        self._restarts = TaskRestarts(clock)
        self._hanging = Hanging(settings.kafka, settings.topic_prefix, clock)
        self._stream = SourceStream(settings, worker, self._report, clock)
        self._new = NewTables(self._stream, APPLICATION)
        self._snapshots = PendingSnapshots(self._stream)
        restart = self._stream.restart
        self._resyncing = Resyncing(settings, restart, self._report, chunk_rows(), clock)
        self._unseen = UnseenChanges(settings, worker, self._report)

    def step(self) -> None:
        """Do one pass; report a service that does not answer once, and try it again in the next pass.

        Raises: HeadwaterError if a connector keeps failing.
        """
        self._end_hanging()  # Connect waits for the end of these transactions
        self._restart_failed()
        if self._stream_is_broken():
            self._disconnect()
            return
        try:
            self._work(self._source.open())
        except (HeadwaterError, psycopg.Error, KafkaError, WorkerBusy) as error:
            self._report("source", str(error))
            self._disconnect()
        else:
            self._reachable_again("source")

    @property
    def pause_s(self) -> float:
        """Seconds to wait before the next pass."""
        often = self._stream.is_settling or self._resyncing.is_open
        return OFTEN_S if often else PASS_S

    def _end_hanging(self) -> None:
        try:
            for one in self._hanging.end():
                print(f"ended a transaction that Kafka left open: {one}", file=sys.stderr)
        except KafkaError as error:
            self._report("transactions", f"not known whether a transaction hangs: {error}")
        else:
            self._reachable_again("transactions")

    def _restart_failed(self) -> None:
        names = [] if self._stream_is_broken() else [self._settings.connector]
        if not self._settings.source:  # the first source's service restarts the shared sink
            names.append(BRONZE)
        try:
            for task in self._restarts.due([t for name in names for t in self._worker.tasks(name)]):
                print(f"connector {task} failed, restarting it: {task.why}", file=sys.stderr)
                self._worker.restart(task)
        except WorkerBusy as error:
            self._report("connect", f"Kafka Connect does not answer: {error}")
        else:
            self._reachable_again("connect")

    def _work(self, connection: Connection) -> None:
        """Do steps 4 to 6."""
        publication = self._names.publication
        found = connection.execute("SELECT FROM pg_publication WHERE pubname = %s", [publication])
        if not found.fetchall():
            raise HeadwaterError(
                f"the publication `{publication}` is gone from the source",
                hint=f"make it again (`headwater preflight --apply`), then drop the slot: "
                f"SELECT pg_drop_replication_slot('{self._names.slot}'); changes committed without the "
                "publication cannot be read any more, so `headwater recover` reads the tables again",
            )
        tables = self._stream.tables(connection)
        if self._settings.profile.may_apply and withdraw(connection, publication, tables):
            tables = self._stream.tables(connection)
        self._stream.leave_out(connection, to_exclude(tables))
        wanted = self._new.wanted(tables)
        if not self._stream.is_streaming(connection):
            self._unseen.continue_by_table(connection, tables, self._stream.await_running)
            return
        self._new.take_in(connection, wanted)
        if self._stream.is_streaming(connection):
            self._stream.has_settled()
            self._snapshots.step(connection)
            self._resync(connection)

    def _resync(self, connection: Connection) -> None:
        """Find tables that need a resync, and continue the resyncs."""
        known = states(connection, self._names)
        tables = [t for t in self._stream.tables(connection) if t.published and t.chosen]
        tables = [t for t in tables if t.oid in known]
        self._unseen.check_first_snapshot(connection, tables)
        if self._unseen.check(connection, tables, known):
            self._snapshots.signal_again()
            self._stream.restart()  # a signal names tables, which the connector must know
        else:
            self._resyncing.step(connection, tables, known)
        if self._repaired is not None:
            self._repaired.close_done(progress(connection, self._names))

    def _disconnect(self) -> None:
        self._source.close()
        self._stream.disconnect()
        self._resyncing.close()
        self._snapshots.signal_again()


def main() -> int:
    """Do passes until the process is stopped; return 1 if a connector keeps failing."""
    settings = load()
    try:
        refuse_overwriting(settings.store)
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    worker = Worker(*settings.connect_urls)
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
