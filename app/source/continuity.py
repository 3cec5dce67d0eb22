"""Whether the stream can go on where it ended: on the same server, from a slot that held it all.

The connector's configuration remembers the server (`SERVER_KEY`): it lives and dies with the
connector's offsets. A restored source would bring back whatever the source itself remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import HeadwaterError
from app.source.database import Connection, connect
from spark_streaming.position import lsn_text

SERVER_KEY = "headwater.source.server"
_AGAIN = "start again with an empty lake: `headwater down --wipe`, then `headwater up`"


class Broken(HeadwaterError):
    """What was committed in the source is lost to the stream, or was never in it."""


@dataclass(frozen=True)
class Server:
    """A PostgreSQL cluster's identity: its system identifier, and its timeline."""

    system: str
    timeline: int

    def __str__(self) -> str:
        return f"{self.system}/{self.timeline}"

    @staticmethod
    def parse(text: str) -> Server:
        """The server that `str` wrote."""
        system, _, timeline = text.partition("/")
        return Server(system, int(timeline))


@dataclass(frozen=True)
class Slot:
    """A replication slot. Positions are WAL byte positions, None where the server names none."""

    confirmed_lsn: int | None
    restart_lsn: int | None
    wal_status: str
    active_pid: int | None


@dataclass(frozen=True)
class Stream:
    """How source and connector stand to each other.

    Args:
        slot_name: the slot's.
        slot: None where there is none.
        server: the one that answers now; `wal_lsn` is how far its log goes.
        known: the one that was captured so far; None where nobody remembers.
        branched_lsn: where the server's timeline left the known one; None where it is the same,
            or where the known one is no ancestor of it.
        consumed_lsn: how far the connector came; None while its first snapshot is not complete.
    """

    slot_name: str
    slot: Slot | None
    server: Server
    wal_lsn: int
    known: Server | None
    branched_lsn: int | None
    consumed_lsn: int | None


def judge(stream: Stream, accepted: str | None = None) -> Broken | None:
    """Why the stream cannot go on; None where it can.

    Args:
        accepted: a server that the user vouches for, whatever was captured before.
    """
    if str(stream.server) != accepted:
        other = _other_server(stream)
        if other is not None:
            return other
    return None if stream.consumed_lsn is None else _gap(stream, stream.consumed_lsn)


def _other_server(stream: Stream) -> Broken | None:
    known, server, consumed = stream.known, stream.server, stream.consumed_lsn
    if known is None or known == server:
        return None
    accept = f'where you know better, set accept_source = "{server}" in a --profile'
    if known.system != server.system:
        return Broken(
            "the source is another database server than the one that was captured",
            detail=f"system identifier {server.system}; captured so far: {known.system}",
            hint=f"give the captured server's address, or {_AGAIN}; {accept}",
        )
    if consumed is None or (stream.branched_lsn is not None and consumed <= stream.branched_lsn):
        return None  # promoted, with all in it that was captured
    branched = "nowhere" if stream.branched_lsn is None else lsn_text(stream.branched_lsn)
    return Broken(
        "the source was restored or promoted, and may lack what was captured already",
        detail=f"timeline {server.timeline} left timeline {known.timeline} at {branched}, captured "
        f"up to {lsn_text(consumed)}",
        hint=f"{_AGAIN}; {accept}",
    )


def _gap(stream: Stream, consumed: int) -> Broken | None:
    slot, name = stream.slot, stream.slot_name
    if stream.wal_lsn < consumed:
        return Broken(
            "the source was set back to an earlier time than what was captured",
            detail=f"its log ends at {lsn_text(stream.wal_lsn)}, captured up to "
            f"{lsn_text(consumed)}",
            hint=_AGAIN,
        )
    lost = "what was committed since is lost to the lake"
    if slot is None:
        return Broken(
            f"the replication slot `{name}` is gone from the source",
            detail=f"captured up to {lsn_text(consumed)}; {lost}",
            hint=_AGAIN,
        )
    if slot.wal_status == "lost" or slot.restart_lsn is None:
        return Broken(
            f"the replication slot `{name}` is lost: the server removed WAL that it needs",
            detail=f"captured up to {lsn_text(consumed)}; {lost}",
            hint=f"SELECT pg_drop_replication_slot('{name}'); then {_AGAIN}. A larger "
            "max_slot_wal_keep_size lets the stack be down for longer",
        )
    begins = max(slot.restart_lsn, slot.confirmed_lsn or 0)
    if begins > consumed:
        return Broken(
            f"the replication slot `{name}` is not the one that was read: it was dropped and made "
            "again, or moved on",
            detail=f"it begins at {lsn_text(begins)}, captured up to {lsn_text(consumed)}; what "
            "was committed between the two is lost to the lake",
            hint=_AGAIN,
        )
    return None


def read_slot(connection: Connection, name: str) -> Slot | None:
    """The slot of this name; None where there is none."""
    row = connection.execute(
        """
        SELECT (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint,
               (restart_lsn - '0/0'::pg_lsn)::bigint, coalesce(wal_status, ''), active_pid
        FROM pg_replication_slots WHERE slot_name = %s
        """,
        [name],
    ).fetchone()
    return None if row is None else Slot(*row)


def read_stream(
    capture_dsn: str,
    *,
    slot_name: str,
    slot: Slot | None,
    config: Mapping[str, str],
    offsets: list[dict[str, Any]],
) -> Stream:
    """How the source stands to what the connector has consumed.

    Args:
        capture_dsn: of the capture role; a replication session tells who the server is.
        slot: read before `offsets`: a slot is only moved to where the offsets are already.
        config: the connector's, as registered.
        offsets: the connector's, as Connect keeps them.
    Raises: HeadwaterError where the source cannot be reached.
    """
    known = Server.parse(config[SERVER_KEY]) if SERVER_KEY in config else None
    branched = None
    with connect(capture_dsn, application="headwater capture", replication=True) as session:
        row = session.execute("IDENTIFY_SYSTEM").fetchone()
        assert row is not None  # the command always gives one row
        server = Server(str(row[0]), int(row[1]))
        if known is not None and known.timeline != server.timeline:
            history = session.execute(f"TIMELINE_HISTORY {server.timeline}").fetchone()
            branched = branching(_text(history[1]) if history else "", known.timeline)
    return Stream(
        slot_name, slot, server, lsn_of(_text(row[2])), known, branched, consumed_lsn(offsets)
    )


def consumed_lsn(offsets: list[dict[str, Any]]) -> int | None:
    """How far Debezium's offsets reach; None before the end of the first snapshot."""
    reached = [0]
    for entry in offsets:
        offset = entry.get("offset") or {}
        kind = str(offset.get("snapshot") or "").lower()
        complete = offset.get("snapshot_completed") or offset.get("last_snapshot_record")
        if kind in ("initial", "true") and not complete:
            return None
        reached += [int(offset[k]) for k in ("lsn", "lsn_proc", "lsn_commit") if offset.get(k)]
    return max(reached) or None


def branching(history: str, timeline: int) -> int | None:
    """Where a timeline ended, by the history of a later one; None where it is no ancestor."""
    for line in history.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == str(timeline):
            return lsn_of(words[1])
    return None


def lsn_of(text: str) -> int:
    """The byte position that `16/B374D848` names."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
