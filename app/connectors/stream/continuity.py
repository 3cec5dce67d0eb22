"""Decides whether the stream can continue: on the same server, from a slot that lost nothing.

The server's identity is kept in the connector's configuration (`SERVER_KEY`), because that exists
exactly as long as the connector's offsets. Anything kept in the source would change with a restore.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from app.errors import HeadwaterError
from app.source.database import Connection, connect
from app.source.source_tables import Names
from spark_streaming.contract.lsn import LOG_START, Lsn, lsn_text, parse_lsn

SERVER_KEY = "headwater.source.server"
RECOVER = "`headwater recover` shows the steps of a recovery, `headwater recover --apply` does them"
# Kinds of Broken, and of their incidents.
SLOT_GONE, SLOT_LOST, SLOT_REMADE = "slot_gone", "slot_lost", "slot_remade"
SOURCE_OTHER, SOURCE_BRANCHED, SOURCE_SET_BACK = (
    "source_other",
    "source_branched",
    "source_set_back",
)
LAKE_RESTORED = "lake_restored"
SLOT_KINDS = (SLOT_GONE, SLOT_LOST, SLOT_REMADE)
KINDS = (*SLOT_KINDS, SOURCE_OTHER, SOURCE_BRANCHED, SOURCE_SET_BACK, LAKE_RESTORED)


class Broken(HeadwaterError):
    """The stream has lost changes that were committed in the source, or would lose them.

    Args:
        kind: one of KINDS.
        consumed_lsn: position up to which the connector has read; None before the end of its first
            snapshot.
    """

    def __init__(
        self, kind: str, message: str, *, detail: str, hint: str, consumed_lsn: Lsn | None
    ) -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.kind = kind
        self.consumed_lsn = consumed_lsn


@dataclass(frozen=True)
class Server:
    """A PostgreSQL cluster's identity: its system identifier, and its timeline."""

    system: str
    timeline: int

    def __str__(self) -> str:
        return f"{self.system}/{self.timeline}"

    @staticmethod
    def parse(text: str) -> Server:
        """Parse the text of `str`."""
        system, _, timeline = text.partition("/")
        return Server(system, int(timeline))


# In place of a server: the lake is older than this home, and no stream of it was continued yet.
RESTORED = Server("restored", 0)


@dataclass(frozen=True)
class Slot:
    """A replication slot. Positions are WAL byte positions, None if the server has none."""

    confirmed_lsn: Lsn | None
    restart_lsn: Lsn | None
    wal_status: str
    active_pid: int | None


@dataclass(frozen=True)
class Stream:
    """The state of the source, compared with the connector's progress.

    Args:
        slot: the slot; None if it does not exist.
        server: the server that answers now; `wal_lsn` is the end of its log.
        known: the server that was captured so far; None if none is recorded.
        branched_lsn: where the server's timeline left the known one; None if it is the same, or if
            the known one is not its ancestor.
        consumed_lsn: position up to which the connector has read; None before the end of its first
            snapshot.
        beat: the count in the source's heartbeat; None if there is none.
        seen_beat: the greatest count that was observed before.
    """

    slot_name: str
    slot: Slot | None
    server: Server
    wal_lsn: Lsn
    known: Server | None
    branched_lsn: Lsn | None
    consumed_lsn: Lsn | None
    beat: int | None = None
    seen_beat: int | None = None

    @property
    def slot_begins(self) -> Lsn | None:
        """Where the slot begins if it has everything that follows the consumed position, or a later one."""
        slot = self.slot
        if slot is None or slot.wal_status == "lost" or slot.restart_lsn is None:
            return None
        begins = max(slot.restart_lsn, slot.confirmed_lsn or LOG_START)
        return begins if (self.consumed_lsn or LOG_START) <= begins <= self.wal_lsn else None


@dataclass(frozen=True)
class Beats:
    """The count in the source's heartbeat: now, and the greatest observed; None if not known."""

    now: int | None = None
    seen: int | None = None


def judge(stream: Stream, accepted: str | None = None) -> Broken | None:
    """Return why the stream cannot continue; None if it can.

    Args:
        accepted: a server that the user declares to be the successor of the one captured before.
    """
    if stream.known == RESTORED:
        return _restored(stream)
    if str(stream.server) != accepted:
        other = _other_server(stream)
        if other is not None:
            return other
    return None if stream.consumed_lsn is None else _gap(stream, stream.consumed_lsn)


def _restored(stream: Stream) -> Broken:
    """The lake comes from a backup or another home: each table is read again, whatever the slot has."""
    begins, name = stream.slot_begins, stream.slot_name
    until = f"the lake has everything up to {lsn_text(stream.consumed_lsn or LOG_START)}"
    if begins is not None:
        seen = (
            f"the replication slot `{name}` has every change from {lsn_text(begins)} on: bronze may lack "
            "changes between the two"
        )
    elif stream.slot is None:
        seen = f"the replication slot `{name}` is gone: bronze lacks the changes since"
    else:
        seen = f"the replication slot `{name}` cannot be read on: bronze lacks the changes since"
    return Broken(
        LAKE_RESTORED,
        "the lake was restored into this home, so each table is read again from the source",
        detail=f"{until}; {seen}",
        hint=RECOVER,
        consumed_lsn=stream.consumed_lsn,
    )


def _other_server(stream: Stream) -> Broken | None:
    known, server, consumed = stream.known, stream.server, stream.consumed_lsn
    if known is None or known == server:
        return None
    accept = f'if you know that it is the same data, set accept_source = "{server}" in a --profile'
    if known.system != server.system:
        way = RECOVER
        if consumed is None:  # nothing is captured yet
            way = "start again with an empty lake: `headwater down --wipe`, then `headwater up`"
        return Broken(
            SOURCE_OTHER,
            "the source is another database server than the one that was captured",
            detail=f"system identifier {server.system}; captured so far: {known.system}",
            hint=f"give the captured server's address; or, if this one took its place: {way}; "
            f"{accept}",
            consumed_lsn=consumed,
        )
    if consumed is None or (stream.branched_lsn is not None and consumed <= stream.branched_lsn):
        return None  # promoted, and it has everything that was captured
    branched = "nowhere" if stream.branched_lsn is None else lsn_text(stream.branched_lsn)
    return Broken(
        SOURCE_BRANCHED,
        "the source was restored or promoted, and may lack changes that were captured already",
        detail=f"timeline {server.timeline} left timeline {known.timeline} at {branched}, captured "
        f"up to {lsn_text(consumed)}",
        hint=f"{RECOVER}; {accept}",
        consumed_lsn=consumed,
    )


def _gap(stream: Stream, consumed: Lsn) -> Broken | None:
    slot, name = stream.slot, stream.slot_name
    until = f"captured up to {lsn_text(consumed)}"

    def broken(kind: str, message: str, detail: str, hint: str = "") -> Broken:
        return Broken(kind, message, detail=detail, hint=f"{RECOVER}{hint}", consumed_lsn=consumed)

    set_back = "the source was set back to a time before the last captured change"
    if stream.wal_lsn < consumed:
        ends = f"its log ends at {lsn_text(stream.wal_lsn)}, {until}"
        return broken(SOURCE_SET_BACK, set_back, ends)
    if stream.beat is not None and stream.beat < (stream.seen_beat or 0):
        # The log was set back, and has since grown past the captured position.
        beats = f"its heartbeat is at {stream.beat}, and was at {stream.seen_beat}; {until}"
        return broken(SOURCE_SET_BACK, set_back, beats)
    lost = "the stream has lost the changes committed since then"
    if slot is None:
        gone = f"the replication slot `{name}` is gone from the source"
        return broken(SLOT_GONE, gone, f"{until}; {lost}")
    if slot.wal_status == "lost" or slot.restart_lsn is None:
        return broken(
            SLOT_LOST,
            f"the replication slot `{name}` is lost: the server removed WAL that it needs",
            f"{until}; {lost}",
            ". A larger max_slot_wal_keep_size lets the stack be down for longer",
        )
    begins = max(slot.restart_lsn, slot.confirmed_lsn or LOG_START)
    if begins > consumed:
        return broken(
            SLOT_REMADE,
            f"the replication slot `{name}` is not the one that was read: it was dropped and made "
            "again, or advanced",
            f"it begins at {lsn_text(begins)}, {until}; the stream has lost the changes committed "
            "between the two",
        )
    return None


def read_slot(connection: Connection, name: str) -> Slot | None:
    """Read the slot of this name; None if it does not exist."""
    row = connection.execute(
        """
        SELECT (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint,
               (restart_lsn - '0/0'::pg_lsn)::bigint, coalesce(wal_status, ''), active_pid
        FROM pg_replication_slots WHERE slot_name = %s
        """,
        [name],
    ).fetchone()
    return None if row is None else Slot(*row)


def read_beat(connection: Connection, names: Names) -> int | None:
    """Read the count in the source's heartbeat; None if there is none."""
    try:
        row = connection.execute(
            sql.SQL("SELECT beat FROM {} WHERE id = 1").format(names.heartbeat_table)
        ).fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return None if row is None else int(row[0])


def read_stream(
    capture_dsn: str,
    *,
    slot_name: str,
    slot: Slot | None,
    config: Mapping[str, str],
    offsets: list[dict[str, Any]],
    beats: Beats | None = None,
) -> Stream:
    """Read the state of the source, and how far the connector has consumed it.

    Args:
        capture_dsn: the capture role's; a replication session asks the server's identity.
        slot: the slot, read before `offsets`: it only advances to positions that the offsets
        have reached already.
        config: the connector's registered configuration.
        offsets: the connector's offsets, as Connect keeps them.
        beats: the source's heartbeat.
    Raises: HeadwaterError if the source cannot be reached.
    """
    known = Server.parse(config[SERVER_KEY]) if SERVER_KEY in config else None
    branched = None
    with connect(capture_dsn, application="headwater capture", replication=True) as session:
        row = session.execute("IDENTIFY_SYSTEM").fetchone()
        assert row is not None  # the command always returns one row
        server = Server(str(row[0]), int(row[1]))
        same = known is not None and known.system == server.system
        if known is not None and same and known.timeline != server.timeline:
            history = session.execute(f"TIMELINE_HISTORY {server.timeline}").fetchone()
            branched = branching(_text(history[1]) if history else "", known.timeline)
    return Stream(
        slot_name,
        slot,
        server,
        parse_lsn(_text(row[2])),
        known,
        branched,
        consumed_lsn(offsets),
        beats.now if beats else None,
        beats.seen if beats else None,
    )


def consumed_lsn(offsets: list[dict[str, Any]]) -> Lsn | None:
    """Return the position that Debezium's offsets reach; None before the end of its first snapshot."""
    reached = [LOG_START]
    for entry in offsets:
        offset = entry.get("offset") or {}
        kind = str(offset.get("snapshot") or "").lower()
        complete = offset.get("snapshot_completed") or offset.get("last_snapshot_record")
        if kind in ("initial", "true") and not complete:
            return None
        reached += [Lsn(int(offset[k])) for k in ("lsn", "lsn_proc", "lsn_commit") if offset.get(k)]
    return max(reached) or None


def branching(history: str, timeline: int) -> Lsn | None:
    """Find where a timeline ended in the history of a later one; None if it is not an ancestor."""
    for line in history.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == str(timeline):
            return parse_lsn(words[1])
    return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
