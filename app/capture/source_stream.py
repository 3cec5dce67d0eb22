"""The source's connector, for the duties of `capture`: whether it streams, and its restarts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from app.connectors.adoption import Report
from app.connectors.heartbeat import beaten_since, source_time
from app.connectors.notices import Notices
from app.connectors.registration import LEFT_OUT_LIST, RUNNING_WAIT_S, left_out, running
from app.connectors.worker import Worker, retry_while_busy
from app.environment.settings import Settings
from app.source.database import Connection, address_of
from app.source.source_tables import Names, SourceTable, source_tables
from spark_streaming.capture_choice import Choice

# A table that was just published waits for the restarted connector.
SETTLE_S = 30.0


class SourceStream:
    """One connector, and what all duties share: settings, names, capture role, report function.

    The connector counts as settling from a start until it streams, for SETTLE_S at most.
    """

    def __init__(
        self, settings: Settings, worker: Worker, report: Report, clock: Callable[[], float]
    ) -> None:
        self.settings = settings
        self._worker = worker
        self.report = report
        self.clock = clock
        self.names = Names.of(settings)
        self.role = address_of(settings.capture_dsn).user
        self._since: str | None = None  # by the source's clock
        self._settling_until = clock() + SETTLE_S
        self._notices: Notices | None = None
        self._left_out: dict[str, str] | None = None  # as in the connector's configuration

    @property
    def is_settling(self) -> bool:
        """Whether the connector was started a moment ago, and is not known to stream."""
        return self.clock() < self._settling_until

    def has_settled(self) -> None:
        """Note that the connector streams."""
        self._settling_until = -math.inf

    def is_streaming(self, connection: Connection) -> bool:
        """Whether the connector streams, past its first snapshot, since it was last (re)started.

        Before that, a restart would begin the first snapshot again, and a blocking snapshot would
        wait for it. The heartbeat beats only while the connector streams.
        """
        if self._since is None:
            self._since = source_time(connection)
        return beaten_since(connection, self.names, self._since)

    def tables(self, connection: Connection) -> list[SourceTable]:
        """Read the source's tables, as the capture role sees them."""
        choice = Choice.of(self.settings.profile)
        return source_tables(connection, self.role, self.names.publication, choice)

    def restart(self) -> None:
        """Restart the source's tasks, so that Debezium reads all tables' definitions again."""
        self.notices()  # read from before the signal on, or the snapshot's end could be missed
        for task in self._worker.tasks(self.settings.connector):
            if task.task is not None:
                self._worker.restart(task)
        self.await_running()

    def await_running(self) -> None:
        """Wait until the connector's tasks run; it counts as just started then."""
        retry_while_busy(
            lambda: running(self._worker, self.settings.connector),
            within_s=RUNNING_WAIT_S,
            what=f"waiting for connector `{self.settings.connector}` to run again",
        )
        self._since = None
        self._settling_until = self.clock() + SETTLE_S

    def leave_out(self, connection: Connection, excluded: Sequence[SourceTable]) -> None:
        """Exclude exactly the tables at which the connector would stop.

        It reads every table's columns when it starts, and stops at two whose names differ in case
        only.
        """
        wanted = left_out(excluded)
        for table in excluded:
            if table.twins:
                self.report(f"columns of {table}", f"{table} is left out: {table.uncapturable()}")
        if wanted == self._left_out:
            return
        config = self._worker.config(self.settings.connector) or {}
        self._left_out = {k: v for k, v in config.items() if k == LEFT_OUT_LIST}
        if wanted == self._left_out or not config:
            return
        failed = any(task.state == "FAILED" for task in self._worker.tasks(self.settings.connector))
        if not failed and not self.is_streaming(connection):
            self._left_out = None  # a new configuration would begin its first snapshot again
            return
        rest = {k: v for k, v in config.items() if k != LEFT_OUT_LIST}
        self._worker.register(self.settings.connector, rest | wanted)
        self.await_running()
        self._left_out = wanted

    def notices(self) -> Notices:
        """Return Debezium's notifications; reading begins at the first call."""
        if self._notices is None:
            self._notices = Notices(self.settings.kafka, self.settings.topic_prefix)
        return self._notices

    def disconnect(self) -> None:
        """Forget what was observed: the source or Kafka cannot be reached."""
        if self._notices is not None:
            self._notices.close()
        self._notices = self._since = None
