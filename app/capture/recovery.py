"""Recovers a broken stream: a new slot, and a resync of every table that may differ.

`plan_of` describes the failure and the repair; it changes nothing. `carry_out` does it.
The order of its steps allows it to be killed anywhere and started again:
1. stop the source's connector;
2. record the incident, with the position up to which everything was captured;
   3. request a resync of each captured table, in the source: none begins before the stream
   continues;
   4. if the source's log ends before the captured position, write empty messages into it until it
   is past that: positions never go back, so comparisons of positions stay right;
5. make a new slot in place of the old one; the incident gets the position where it begins;
6. give the connector the identity of the server that it captures now, and the slot's position;
7. resume it. The resyncs follow, and the last of them closes the incident.
Until step 6 the stream counts as broken, so the next recovery repeats the steps. After step 6 the
guard of the stream does the rest by itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from app.capture.recovery_lock import stream_lock
from app.capture.resync import READING, WAITING, Resync, change, progress, request
from app.capture.slot import advance_log, new_slot
from app.capture.stream_guard import StreamGuard, open_incident
from app.connectors.capture_record import DONE, record
from app.connectors.registration import (
    RUNNING_WAIT_S,
    WORKER_WAIT_S,
    current_stream,
    running,
)
from app.connectors.stream.continuity import (
    LAKE_RESTORED,
    RESTORED,
    SERVER_KEY,
    SLOT_KINDS,
    Broken,
    Stream,
    judge,
    read_beat,
)
from app.connectors.stream.stream_state import BROKEN, FLOWS, StreamState, read_state, write_state
from app.connectors.worker import Worker, WorkerBusy, retry_while_busy
from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.lake.merged_position import merged_position
from app.source.database import Connection, address_of, connect
from app.source.definition_notes import record_all_definitions
from app.source.source_tables import Names, SourceTable, source_tables
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.lsn import LOG_START, Lsn, lsn_text
from spark_streaming.ops.incident_table import IncidentLog
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import load_store

APPLICATION = "headwater recover"
# The most that is written into the log to move it past the captured position. For a server that
# is further back, pg_resetwal is faster.
ADVANCE_BYTES_MAX = 64 << 30
# Added to the highest known position, which may be the start of a record.
MARGIN_BYTES = 1 << 20
LOCK_WAIT_S = 15.0
RECORDED_S = 60.0
Report = Callable[[str], None]


class RequestResync(Protocol):
    """`app.capture.resync.request`."""

    def __call__(
        self,
        connection: Connection,
        names: Names,
        tables: Sequence[SourceTable],
        *,
        reason: str,
        incident: str | None,
    ) -> object: ...


@dataclass(frozen=True)
class Plan:
    """The failure of a stream, and the planned repair.

    Args:
        floor_lsn: the new slot must begin after this, the highest position in the lake.
        advance_bytes: how many bytes are written into the source's log for that.
        tables: the captured tables, each of which is read again.
        kept_lsn: where the old slot continues, if it stays; it has changes that a new one would lose.
    """

    broken: Broken
    stream: Stream
    floor_lsn: Lsn
    advance_bytes: int
    tables: tuple[SourceTable, ...]
    kept_lsn: Lsn | None = None

    @property
    def steps(self) -> list[str]:
        """The steps, as text."""
        slot, stream = self.stream.slot_name, self.stream
        steps = ["stop the source's connector (it stays registered)"]
        if stream.known not in (None, RESTORED, stream.server):
            steps.append(f"capture server {stream.server} from now on, in place of {stream.known}")
        if self.advance_bytes:
            steps.append(
                f"write {_size(self.advance_bytes)} of empty messages into the source's log (its "
                f"archive and standbys get them too): it ends at {lsn_text(stream.wal_lsn)}, and "
                f"must be past {lsn_text(self.floor_lsn)}"
            )
        drop = "" if stream.slot is None else "drop the old replication slot and "
        if self.kept_lsn is not None:
            steps.append(f"let the connector continue from the replication slot `{slot}`")
        else:
            steps.append(f"{drop}make the replication slot `{slot}`")
            steps.append("let the connector continue from the new slot")
        steps.append(f"read {len(self.tables)} tables again from the source, one after the other")
        return steps

    def to_plain(self) -> dict[str, Any]:
        """Return the plan as a JSON object."""
        return {
            "state": "broken",
            "kind": self.broken.kind,
            "what": self.broken.message,
            "detail": self.broken.detail,
            "captured_to": lsn_text(self.broken.consumed_lsn or LOG_START),
            "log_bytes_to_write": self.advance_bytes,
            "tables": [str(table) for table in self.tables],
            "steps": self.steps,
        }


def plan_of(settings: Settings, worker: Worker, connection: Connection, lake: Lake) -> Plan | None:
    """Plan the recovery of the stream; None if it can continue without one.

    Raises: HeadwaterError if it cannot be recovered, or its state cannot be read.
    """
    config = _retried(
        lambda: worker.config(settings.connector), "asking Kafka Connect for the connector"
    )
    if not config:
        raise HeadwaterError(
            "nothing was captured yet: the source's connector is not registered",
            hint="`headwater up` registers it",
        )
    stream = _retried(
        lambda: current_stream(settings, worker, connection, config),
        "asking for the connector's offsets",
    )
    broken = judge(stream, settings.profile.accept_source)
    if broken is None:
        return None
    if broken.consumed_lsn is None:
        raise broken
    _refuse_standby(connection)
    floor = broken.consumed_lsn
    if broken.kind not in SLOT_KINDS:
        floor = max(floor, highest_contract_lsn(ContractStore(lake, settings.capture_dsn)))
    if broken.kind == LAKE_RESTORED:
        floor = max(floor, merged_position(lake).highest_lsn)
    kept = stream.slot_begins if broken.kind == LAKE_RESTORED else None
    advance = max(0, floor + MARGIN_BYTES - stream.wal_lsn)
    if broken.kind in SLOT_KINDS or kept is not None:
        advance = 0  # the same log, and longer
    if advance > ADVANCE_BYTES_MAX:
        raise _too_far(stream, floor, advance)
    role, names = address_of(settings.capture_dsn).user, Names.of(settings)
    found = source_tables(connection, role, names.publication)
    tables = tuple(table for table in found if table.published and table.readable)
    return Plan(broken, stream, floor, advance, tables, kept)


@contextmanager
def locked_session(settings: Settings) -> Iterator[Connection]:
    """Open a session of the source's owner that holds the stream's lock.

    Raises: HeadwaterError if another process recovers this stream at the moment.
    """
    limit = time.monotonic() + LOCK_WAIT_S
    with connect(settings.source_dsn, application=APPLICATION) as connection:
        while True:
            with stream_lock(connection, Names.of(settings)) as mine:
                if mine:
                    yield connection
                    return
            if time.monotonic() > limit:  # the guard holds it only for moments
                raise HeadwaterError(
                    "this stream is being recovered by another process",
                    hint="wait for it: `headwater logs capture`, `headwater recover`",
                )
            time.sleep(0.2)


def recover(
    settings: Settings, worker: Worker, incidents: IncidentLog, lake: Lake, report: Report
) -> Plan | None:
    """Recover the stream if it is broken, and return the plan; None if it is not broken.

    Raises: HeadwaterError, as `plan_of` and `carry_out`.
    """
    with locked_session(settings) as connection:
        plan = plan_of(settings, worker, connection, lake)
        if plan is None and _retried(
            lambda: worker.stopped(settings.connector), "asking for the connector"
        ):
            _retried(lambda: worker.resume(settings.connector), "resuming the connector")
            report("the source's connector was stopped, and is resumed")
        if plan is not None:
            carry_out(plan, settings, worker, connection, incidents, request, report)
        return plan


def guard_of(settings: Settings) -> tuple[StreamGuard, IncidentLog]:
    """Return the guard of this stack's stream, which recovers if that is allowed, and the incidents."""
    worker, lake = Worker(*settings.connect_urls), Lake(load_store())
    incidents = IncidentLog(lake)

    def report(text: str) -> None:
        print(f"recovering: {text}", file=sys.stderr, flush=True)

    def recover_now() -> None:
        recover(settings, Worker(*settings.connect_urls), incidents, lake, report)

    # A user has asked for a restored lake by `headwater restore`.
    unasked = SLOT_KINDS if settings.profile.recovers_unasked else ()
    guard = StreamGuard(settings, worker, incidents, recover_now, (*unasked, LAKE_RESTORED))
    return guard, incidents


def carry_out(
    plan: Plan,
    settings: Settings,
    worker: Worker,
    connection: Connection,
    incidents: IncidentLog,
    request_resync: RequestResync,
    report: Report,
) -> str:
    """Carry out a plan; the caller holds the stream's lock (`recovery_lock`).

    Returns: the incident's identifier; the resyncs close it.
    Raises: HeadwaterError; the next attempt repeats all steps.
    """
    names = Names.of(settings)
    _stop(worker, settings.connector)
    # If this is killed, the guard resumes the connector once the stream can continue.
    write_state(settings, replace(read_state(settings), state=BROKEN, kind=plan.broken.kind))
    report("the source's connector is stopped")
    incident = open_incident(incidents, plan.broken, names)
    incidents.extend_incident(incident, tables=[str(table) for table in plan.tables])
    _flush(incidents)
    report(f"incident {incident} is in lake.ops.incidents")
    request_resync(
        connection, names, plan.tables, reason=f"recover: {plan.broken.kind}", incident=incident
    )
    report(f"a resync of {len(plan.tables)} tables is requested")
    if plan.advance_bytes:
        advance_log(connection, plan.floor_lsn + MARGIN_BYTES)
        report(f"the source's log is past {lsn_text(plan.floor_lsn)}")
    if plan.broken.kind not in SLOT_KINDS:
        record_all_definitions(connection)
        record(connection, names, plan.tables, DONE)  # pending snapshots are part of the resyncs
    begins = plan.kept_lsn or _new_slot(plan, settings.capture_dsn, names.slot)
    incidents.extend_incident(incident, lsn_to=begins)
    _flush(incidents)
    _forget_readings(connection, names)
    report(f"the replication slot `{names.slot}` begins at {lsn_text(begins)}")
    beat = _resume_at(begins, plan, settings, worker, connection)
    if not plan.tables:
        incidents.close_incident(incident, "no table was captured")
        _flush(incidents)
    write_state(settings, StreamState(state=FLOWS, since=time.time(), beat=beat))
    report("the stream continues")
    return incident


def _new_slot(plan: Plan, dsn: str, name: str) -> Lsn:
    """Make the replication slot again; return where it begins, after everything captured."""
    begins = new_slot(dsn, name)
    if begins <= plan.floor_lsn:
        raise HeadwaterError(
            f"the new replication slot begins at {lsn_text(begins)}, not after the captured position",
            detail=f"captured up to {lsn_text(plan.floor_lsn)}",
            hint="run it again; is another server at the source's address now?",
        )
    return begins


def _resume_at(
    lsn: Lsn, plan: Plan, settings: Settings, worker: Worker, connection: Connection
) -> int | None:
    """Resume the connector at a position; return the heartbeat's count before it streams."""
    config = {**(worker.config(settings.connector) or {}), SERVER_KEY: str(plan.stream.server)}
    _retried(
        lambda: worker.register(settings.connector, config), "naming the server to the connector"
    )
    _retried(
        lambda: _begin_at(worker, settings.connector, lsn), "giving the connector its position"
    )
    beat = read_beat(connection, Names.of(settings))  # another server's count may be lower
    write_state(settings, replace(read_state(settings), beat=beat))
    _retried(lambda: worker.resume(settings.connector), "resuming the connector")
    retry_while_busy(
        lambda: running(worker, settings.connector),
        within_s=RUNNING_WAIT_S,
        what=f"waiting for connector `{settings.connector}` to run",
    )
    return beat


def _forget_readings(connection: Connection, names: Names) -> None:
    """Let running resyncs wait again: their snapshots ended with the old position."""
    for one in progress(connection, names):
        if one.state == READING:
            again = partial(_waiting, one)
            change(connection, names, one.oid, again)


def _waiting(one: Resync, known: Resync | None) -> Resync:
    return replace(known or one, state=WAITING, mark="", tries=0)


def highest_contract_lsn(store: ContractStore) -> Lsn:
    """Return the highest LSN from which a contract in the lake is valid; 0 if there is none."""
    return max(
        (one.valid_from_lsn for table in store.tables() for one in store.versions(*table)),
        default=LOG_START,
    )


def _stop(worker: Worker, connector: str) -> None:
    def stopped() -> None:
        if not worker.stopped(connector):
            worker.stop(connector)
            raise WorkerBusy("its task has not ended yet")

    retry_while_busy(stopped, within_s=WORKER_WAIT_S, what=f"stopping connector `{connector}`")


def _begin_at(worker: Worker, connector: str, lsn: Lsn) -> None:
    """Set the connector's offsets to a slot's first position, without a snapshot under way.

    The offsets say that the first snapshot is complete; else the connector would take another one.
    """
    offset = {"lsn": lsn, "lsn_proc": lsn, "lsn_commit": lsn, "ts_usec": time.time_ns() // 1000}
    partitions = [entry["partition"] for entry in worker.offsets(connector)]
    worker.alter_offsets(connector, [{"partition": one, "offset": offset} for one in partitions])


def _flush(incidents: IncidentLog) -> None:
    if not incidents.flush(RECORDED_S):
        raise HeadwaterError(
            "the incident cannot be recorded in the lake, so the recovery ended here",
            detail=f"not within {RECORDED_S:.0f} s",
            hint="see `headwater status s3`, and run `headwater recover` again",
        )


def _refuse_standby(connection: Connection) -> None:
    row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    if row and row[0]:
        raise HeadwaterError(
            "the source is a standby: it cannot be captured",
            hint="promote it, or give the primary's address",
        )


def _too_far(stream: Stream, floor: Lsn, advance: int) -> HeadwaterError:
    target = floor + (1 << 30)
    segment = f"{stream.server.timeline:08X}{target >> 32:08X}{(target & 0xFFFFFFFF) >> 24:08X}"
    return HeadwaterError(
        "the source's log is too far behind the captured position to write it up to there",
        detail=f"it ends at {lsn_text(stream.wal_lsn)}, and must be past {lsn_text(floor)}: "
        f"{_size(advance)}, but at most {_size(ADVANCE_BYTES_MAX)} are written",
        hint="set it forward, with the server stopped cleanly and its segments of 16 MB: "
        f"pg_resetwal -l {segment} DATA_FOLDER; then run it again",
    )


def _retried(act: Callable[[], Any], what: str) -> Any:
    return retry_while_busy(act, within_s=WORKER_WAIT_S, what=what)


def _size(count: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count = -(-count // 1024)
    return f"{count:.0f} GB"
