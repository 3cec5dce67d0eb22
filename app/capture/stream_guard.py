"""Watches whether the stream can continue, in a thread of its own, which no pass of `capture` delays.

Each check does the following:
1. if the same session still reads a slot that was found intact, nothing can have happened to it;
2. else read the slot, the server's identity and the connector's offsets, and judge
(`continuity.py`);
3. if the stream is broken: stop the source's connector, so that no wrong events flow, record the
incident, and report it; recover the stream if that is allowed without asking;
4. if it is whole again: resume the connector.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import psycopg

from app.capture.recovery_lock import stream_lock
from app.connectors.stream.continuity import (
    SERVER_KEY,
    SLOT_KINDS,
    Beats,
    Broken,
    Stream,
    judge,
    read_beat,
    read_slot,
    read_stream,
)
from app.connectors.stream.stream_state import (
    BROKEN,
    FLOWS,
    UNKNOWN,
    StreamState,
    read_state,
    write_state,
)
from app.connectors.worker import Worker, WorkerBusy
from app.environment.ports import service_name
from app.environment.service_problem import report_problem
from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.source.database import KeptConnection
from app.source.source_tables import Names
from spark_streaming.contract.lsn import LOG_START, lsn_text
from spark_streaming.ops.incident_table import IncidentLog

CHECK_EVERY_S = 2.0
# A failed recovery is repeated after this many seconds, up to RECOVERIES_MAX times.
RECOVER_AGAIN_S = 60.0
RECOVERIES_MAX = 10
APPLICATION = "headwater capture"
SERVICE = "capture"
Recover = Callable[[], None]


class StreamGuard:
    """The guard of one stream. `check` is one check; `broken` is the result of the last one.

    Args:
        recover: does the same as `headwater recover --apply`; None if only users may start it.
        unasked: the kinds of broken streams for which it is called.
    """

    def __init__(
        self,
        settings: Settings,
        worker: Worker,
        incidents: IncidentLog,
        recover: Recover | None = None,
        unasked: Collection[str] = SLOT_KINDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._incidents = incidents
        self._recover = recover
        self._unasked = unasked
        self._clock = clock
        self._names = Names.of(settings)
        self._source = KeptConnection(lambda: settings.source_dsn, application=APPLICATION)
        self._reader: int | None = None  # the slot's reader when the stream was found whole
        self._offsets: list[dict[str, Any]] = []  # as last read: the worker may be away
        self._config: Mapping[str, str] = {}
        self._state = read_state(settings)
        self._recoveries, self._recover_at = 0, 0.0
        self._beat: int | None = None  # the heartbeat's count at the last check
        self.broken: Broken | None = None

    def start(self) -> threading.Thread:
        """Check every CHECK_EVERY_S seconds, in a thread that lives as long as the process."""

        def serve() -> None:
            while True:
                self.check()
                time.sleep(CHECK_EVERY_S)

        watching = threading.Thread(target=serve, name="guard", daemon=True)
        watching.start()
        return watching

    def check(self, *, only: bool = False) -> None:
        """Do one check; report once that a service does not answer, and ask again in the next check.

        Args:
            only: whether to check only, without a recovery, which may take minutes.
        """
        try:
            stream = self._stream()
            if stream is None:
                return
            broken = judge(stream, self._settings.profile.accept_source)
            if broken is None:
                self._continue(stream)
            else:
                self._stop(broken)
                if self._recover is not None and broken.kind in self._unasked and not only:
                    self._recover_unasked(self._recover)
        except (HeadwaterError, psycopg.Error, WorkerBusy, OSError, ValueError) as error:
            self._source.close()
            self._reader = None
            if self.broken is None:
                self._note(
                    UNKNOWN,
                    message="it is not known whether the stream can continue",
                    detail=str(error),
                )

    def _stream(self) -> Stream | None:
        """Read the state of the stream; None if nothing has happened since it was found whole."""
        connection = self._source.open()
        slot = read_slot(connection, self._names.slot)
        if slot and slot.active_pid is not None and slot.active_pid == self._reader:
            self._keep_beat(read_beat(connection, self._names))
            return None
        self._reader = None
        self._state = read_state(self._settings)  # a recovery writes it, too
        try:
            self._config = self._worker.config(self._settings.connector) or {}
            self._offsets = self._worker.offsets(self._settings.connector)
        except WorkerBusy:
            # The last offsets are known; if the slot is gone or lost, they are enough.
            if not self._offsets or (slot and slot.wal_status != "lost"):
                raise
        return read_stream(
            self._settings.capture_dsn,
            slot_name=self._names.slot,
            slot=slot,
            config=self._config,
            offsets=self._offsets,
            beats=Beats(read_beat(connection, self._names), self._state.beat),
        )

    def _continue(self, stream: Stream) -> None:
        with stream_lock(self._source.open(), self._names) as mine:
            if not mine:
                return  # the recovery resumes the connector
            if stream.known is not None and stream.server != stream.known:
                # A promoted server that has everything captured so far: record it.
                config = {**self._config, SERVER_KEY: str(stream.server)}
                self._worker.register(self._settings.connector, config)
            # A user may have stopped the connector: start it only if the guard stopped it.
            if self._state.state == BROKEN and self._worker.stopped(self._settings.connector):
                self._worker.resume(self._settings.connector)
        report_problem(self._settings.home, service_name(SERVICE, self._settings.source), None)
        if self.broken is not None:
            print("the stream can continue", file=sys.stderr, flush=True)
        self.broken, self._recoveries = None, 0
        self._reader = stream.slot.active_pid if stream.slot else None
        self._keep_beat(stream.beat)

    def _keep_beat(self, beat: int | None) -> None:
        """Store the heartbeat's count of the previous check.

        A crash of the source could undo a newer count, if commits do not wait for the log
        (`synchronous_commit`).
        """
        self._note(FLOWS, beat=self._beat)
        self._beat = beat

    def _stop(self, broken: Broken) -> None:
        with stream_lock(self._source.open(), self._names) as mine:
            if not mine:
                return
            first = self.broken is None or str(self.broken) != str(broken)
            self.broken, self._beat = broken, None
            self._note(BROKEN, broken.kind, broken.message, broken.detail, broken.hint)
            report_problem(
                self._settings.home, service_name(SERVICE, self._settings.source), broken
            )
            if first:
                print(broken, file=sys.stderr, flush=True)
            open_incident(self._incidents, broken, self._names)
            if not self._worker.stopped(self._settings.connector):
                self._worker.stop(self._settings.connector)

    def _recover_unasked(self, recover: Recover) -> None:
        now = self._clock()
        if self._recoveries >= RECOVERIES_MAX or now < self._recover_at:
            return
        self._recoveries += 1
        try:
            recover()
        except (HeadwaterError, psycopg.Error, WorkerBusy) as error:
            self._recover_at = self._clock() + RECOVER_AGAIN_S
            print(f"the stream could not be recovered yet: {error}", file=sys.stderr, flush=True)

    def _note(
        self,
        state: str,
        kind: str = "",
        message: str = "",
        detail: str = "",
        hint: str = "",
        beat: int | None = None,
    ) -> None:
        kept = self._state.beat if beat is None else beat
        new = StreamState(state, kind, message, detail, hint, self._state.since, kept)
        if new == self._state:
            return
        if (new.state, new.kind) != (self._state.state, self._state.kind):
            new = replace(new, since=time.time())
            if state == UNKNOWN:
                print(f"{message}: {detail}", file=sys.stderr, flush=True)
        self._state = new
        write_state(self._settings, new)


def open_incident(incidents: IncidentLog, broken: Broken, names: Names) -> str:
    """Record that the stream is broken; the same break is always the same incident."""
    return incidents.open_incident(
        "gap",
        incident_name(broken, names),
        cause=f"{broken.kind}: {broken.message}; {broken.detail}",
        lsn_from=broken.consumed_lsn,
    )


def incident_name(broken: Broken, names: Names) -> str:
    """Return the natural key of a break: one slot breaks once at one position."""
    return f"{names.slot} at {lsn_text(broken.consumed_lsn or LOG_START)}"
