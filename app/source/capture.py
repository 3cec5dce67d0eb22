"""Guards the capture while the stack runs: `python -m app.source.capture`.

Every few seconds, and each second while a connector that was started is waited for:
1. where the stream cannot go on without a loss, the source's connector is stopped and so is this;
2. connector tasks that failed are started again, with back-off and a limit;
3. tables at which the connector would stop at its next start are left out, and told;
4. tables that are not captured are taken in where that is allowed, and told where it is not;
5. tables whose earlier rows are still to be snapshotted are seen through;
6. transactions in Kafka that nobody will end are aborted.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence

import psycopg
from kafka.errors import KafkaError
from psycopg import sql

from app.errors import HeadwaterError
from app.settings import Settings, load
from app.source.adoption import (
    can_be_incremental,
    describe_anew,
    publish_bag,
    publish_keyed,
    signal_snapshots,
)
from app.source.connectors import (
    BRONZE,
    LEFT_OUT_LIST,
    RUNNING_WAIT_S,
    SOURCE,
    left_out,
    look_at_stream,
    running,
)
from app.source.continuity import SERVER_KEY, judge, read_slot
from app.source.database import Connection, address_of, connect
from app.source.hanging import Hanging
from app.source.judge import refused_names
from app.source.notices import Notices
from app.source.record import DONE, PENDING, forget, record, states
from app.source.repair import Repair
from app.source.tables import Names, SourceTable, source_tables
from app.source.topics import ensure_single, too_many
from app.source.worker import Worker, WorkerBusy, patiently

PASS_S = 5.0
# A table that was just taken in waits for the restarted connector: whether that streams is then
# asked more often, for a while.
SOON_S = 1.0
SOON_FOR_S = 30.0
# An incremental snapshot that says nothing for so long is signalled again: repeating one changes
# nothing but the work, and a large table takes its time.
SIGNAL_AGAIN_S = 600.0
FAILED_AGAIN_S = 30.0
APPLICATION = "headwater capture"


class Capture:
    """One guard of one source; `step` is one pass."""

    def __init__(
        self, settings: Settings, worker: Worker, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._clock = clock
        self._names = Names.of(settings)
        self._role = address_of(settings.capture_dsn).user
        self._repair = Repair(clock)
        self._hanging = Hanging(settings.kafka, settings.topic_prefix, clock)
        self._connection: Connection | None = None
        self._notices: Notices | None = None
        self._told: dict[str, str] = {}
        self._looked_back = False
        self._reader: int | None = None  # the slot's, since the stream was seen unbroken
        self._since: str | None = None  # by the source's clock
        self._soon_until = clock() + SOON_FOR_S
        self._signalled_at: dict[int, float] = {}
        self._single: set[int] = set()  # tables without a key whose topic was looked at
        self._left_out: dict[str, str] | None = None  # as the connector is configured
        self._skipped: set[int] = set()  # tables whose incremental snapshot did not succeed

    def step(self) -> None:
        """One pass; what cannot be reached now is told once and tried again in the next.

        Raises: HeadwaterError where a connector keeps failing; Broken where the stream cannot go
            on: the source's connector is stopped then.
        """
        self._end_hanging()  # Connect waits for those
        self._with_worker(self._watch_stream, self._restart_failed)
        try:
            self._take_in(self._source())
        except (HeadwaterError, psycopg.Error, KafkaError, WorkerBusy) as error:
            self._tell("source", str(error))
            self._disconnect()
        else:
            self._untell("source")

    @property
    def pause_s(self) -> float:
        """How long to rest before the next pass."""
        return SOON_S if self._clock() < self._soon_until else PASS_S

    def begin(self) -> None:
        """Refuse a stream that is broken already, before this counts as started.

        Raises: Broken, as `step`.
        """
        self._with_worker(self._watch_stream)

    def _with_worker(self, *tasks: Callable[[], None]) -> None:
        try:
            for task in tasks:
                task()
        except WorkerBusy as error:
            self._tell("connect", f"Kafka Connect does not answer: {error}")
        else:
            self._untell("connect")

    def _watch_stream(self) -> None:
        """Look whether the stream can go on, whenever the connector may have begun it anew."""
        try:
            connection = self._source()
            slot = read_slot(connection, self._names.slot)
            if slot and slot.active_pid is not None and slot.active_pid == self._reader:
                return
            config = self._worker.config(SOURCE) or {}
            stream = look_at_stream(self._settings, self._worker, connection, config)
        except (HeadwaterError, psycopg.Error) as error:
            self._reader = None
            self._tell("stream", f"not known yet whether the stream can go on: {error}")
            return
        broken = judge(stream, self._settings.profile.accept_source)
        if broken is not None:
            self._worker.stop(SOURCE)
            raise broken
        if stream.server != stream.known:  # promoted with all in it that was captured: it counts
            self._worker.register(SOURCE, {**config, SERVER_KEY: str(stream.server)})
        self._reader = slot.active_pid if slot else None
        self._untell("stream")

    def _end_hanging(self) -> None:
        try:
            for one in self._hanging.abort():
                print(f"aborted a transaction that Kafka left open: {one}", file=sys.stderr)
        except KafkaError as error:
            self._tell("transactions", f"not known whether a transaction hangs: {error}")
        else:
            self._untell("transactions")

    def _restart_failed(self) -> None:
        tasks = [task for name in (SOURCE, BRONZE) for task in self._worker.tasks(name)]
        for task in self._repair.due(tasks):
            print(f"connector {task} failed, restarting it: {task.why}", file=sys.stderr)
            self._worker.restart(task)

    def _take_in(self, connection: Connection) -> None:
        publication = self._names.publication
        found = connection.execute("SELECT FROM pg_publication WHERE pubname = %s", [publication])
        if not found.fetchall():
            raise HeadwaterError(
                f"the publication `{publication}` is gone from the source",
                hint="what was committed without it cannot be read any more: start again with an "
                "empty lake (down --wipe, then up)",
            )
        tables = self._tables(connection)
        self._leave_out(connection, [t for t in tables if t.twins and not t.published])
        names = refused_names(tables)
        absent = [table for table in tables if not table.published and not table.uncapturable()]
        wanted = []
        for table in absent:
            reason = names.get(table) or table.identity_problem()
            if reason or not self._settings.may_apply:
                reason = reason or "it is not in the publication"
                fix = (
                    table.identity_fix() if table.identity_problem() else table.publish(publication)
                )
                hint = f"\n  hint: {fix.as_string(None)};" if table not in names else ""
                self._tell(str(table), f"{table} is not captured: {reason}{hint}")
            else:
                wanted.append(table)
        self._make_topics([*wanted, *(table for table in tables if table.published)])
        if not self._streams(connection):
            return
        keyed = [table for table in wanted if table.has_key]
        if publish_keyed(connection, self._names, keyed, self._role, self._tell):
            self._restart_source()
        for table in wanted:
            if not table.has_key:
                self._take_in_bag(connection, table)
        if self._streams(connection):
            self._soon_until = -math.inf
            self._see_through(connection)
            self._look_back(connection)

    def _leave_out(self, connection: Connection, twins: Sequence[SourceTable]) -> None:
        """Keep the connector from tables whose columns it cannot tell apart, and from no others.

        It reads the columns of every table when it starts, and stops there at such a one.
        """
        wanted = left_out(twins)
        for table in twins:
            self._tell(f"columns of {table}", f"{table} is left out: {table.uncapturable()}")
        if wanted == self._left_out:
            return
        config = self._worker.config(SOURCE) or {}
        self._left_out = {k: v for k, v in config.items() if k == LEFT_OUT_LIST}
        if wanted == self._left_out or not config:
            return
        failed = any(task.state == "FAILED" for task in self._worker.tasks(SOURCE))
        if not failed and not self._streams(connection):
            self._left_out = None  # a new configuration would begin its first snapshot again
            return
        rest = {k: v for k, v in config.items() if k != LEFT_OUT_LIST}
        self._worker.register(SOURCE, rest | wanted)
        self._await_source()
        self._left_out = wanted

    def _make_topics(self, tables: Sequence[SourceTable]) -> None:
        """See that tables without a key have a topic of one partition; each is looked at once."""
        new = [t for t in tables if not t.has_key and t.oid not in self._single]
        settings = self._settings
        for table, count in ensure_single(settings.kafka, settings.topic_prefix, new).items():
            self._tell(f"topic of {table}", too_many(table, count))
        self._single.update(table.oid for table in new)

    def _take_in_bag(self, connection: Connection, table: SourceTable) -> None:
        notices = self._open_notices()
        with connect(self._settings.capture_dsn, application=APPLICATION) as signalling:
            publish_bag(
                connection,
                signalling,
                self._names,
                table,
                self._role,
                notices,
                self._tell,
                self._clock,
            )

    def _look_back(self, connection: Connection) -> None:
        """Mend, once, what an interrupted initial snapshot left; say what cannot be mended."""
        if self._looked_back:
            return
        history = Notices(self._settings.kafka, self._settings.topic_prefix, from_start=True)
        try:
            history.read_all()
        finally:
            history.close()
        self._looked_back = True
        if history.initial_starts <= 1:
            return
        # Silver drops what earlier tries read when it sees the last one's rows. The stream begins
        # where the last try did, and that try read each table later: a key makes one row of what
        # came twice, a bag would count it twice.
        tables = self._tables(connection)
        bags = [table for table in tables if table.published and not table.has_key]
        text = f"the initial snapshot was interrupted: it began {history.initial_starts} times"
        empty = [str(t) for t in tables if t.published and str(t) in history.initial_empty]
        if empty:
            text += (
                f". What an earlier try read stays in the lake where the last found no row: "
                f"{', '.join(empty)}\n  hint: `headwater verify` tells; a start with an empty lake "
                "(down --wipe) mends"
            )
        self._tell("initial snapshot", text)
        if (
            bags
            and self._settings.may_apply
            and forget(connection, self._names, bags, "initial-interrupted")
        ):
            names = ", ".join(map(str, bags))
            print(f"taken in again, for their rows may have come twice: {names}", file=sys.stderr)
        elif bags and not self._settings.may_apply:
            names = ", ".join(map(str, bags))
            print(f"without a key, so rows may have come twice: {names}", file=sys.stderr)

    def _see_through(self, connection: Connection) -> None:
        """Signal what is pending, and note what has ended."""
        known = states(connection, self._names)
        tables = [t for t in self._tables(connection) if t.published and t.readable]
        unknown = [table for table in tables if table.oid not in known]
        if unknown:
            self._take_over(connection, unknown)
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
                if blocking and self._settings.may_apply:
                    describe_anew(connection, self._names)
            elif scan is not None:
                self._tell(name, f"{table}: its snapshot ended with {scan.status}")
                self._skipped.add(table.oid)
                self._signalled_at[table.oid] = self._clock() - SIGNAL_AGAIN_S + FAILED_AGAIN_S
        self._signal(connection, list(pending.values()))

    def _streams(self, connection: Connection) -> bool:
        """Whether the connector is past its initial snapshot since this guard last looked away.

        A restart would begin that snapshot again, and a blocking one would wait behind it; the
        heartbeat beats only in the stream.
        """
        if self._since is None:
            row = connection.execute("SELECT clock_timestamp()::text").fetchone()
            self._since = str(row[0]) if row else None
        row = connection.execute(
            sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE beaten_at > %s::timestamptz)").format(
                self._names.heartbeat_table
            ),
            [self._since],
        ).fetchone()
        return bool(row and row[0])

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

    def _take_over(self, connection: Connection, tables: Sequence[SourceTable]) -> None:
        """Tables that somebody else put into the publication while the stack ran."""
        publication = self._names.publication
        record(connection, self._names, [table for table in tables if table.has_key], PENDING)
        record(connection, self._names, [table for table in tables if not table.has_key], DONE)
        for table in tables:
            if not table.has_key:
                print(
                    f"{table}: published by hand and without a key: the rows that it had before "
                    f"are not in the lake\n  hint: {table.unpublish(publication).as_string(None)}; and start "
                    "with --apply",
                    file=sys.stderr,
                )
        self._restart_source()

    def _restart_source(self) -> None:
        """Let Debezium read the definitions of all tables anew."""
        self._open_notices()  # before anything is signalled, or its end could be missed
        for task in self._worker.tasks(SOURCE):
            if task.task is not None:
                self._worker.restart(task)
        self._await_source()

    def _await_source(self) -> None:
        patiently(
            lambda: running(self._worker, SOURCE),
            within_s=RUNNING_WAIT_S,
            what=f"waiting for connector `{SOURCE}` to run again",
        )
        self._since = None
        self._soon_until = self._clock() + SOON_FOR_S

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
        self._connection = self._notices = self._since = self._reader = None
        self._signalled_at.clear()  # what ended meanwhile went unseen: signal again

    def _tell(self, topic: str, text: str) -> None:
        """Say it once, and again when it changes."""
        if self._told.get(topic) != text:
            self._told[topic] = text
            print(text, file=sys.stderr, flush=True)

    def _untell(self, topic: str) -> None:
        if self._told.pop(topic, None) is not None:
            print(f"{topic}: reachable again", file=sys.stderr, flush=True)


def main() -> int:
    """Guard until stopped; the exit code is 1 where a connector keeps failing, or the
    stream cannot go on."""
    settings = load()
    capture = Capture(settings, Worker(settings.connect_url))
    try:
        capture.begin()
        print("watching the source", file=sys.stderr, flush=True)
        while True:
            capture.step()
            time.sleep(capture.pause_s)
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
