"""For `status`: tables of the source that are not captured, and a slot that nobody reads."""

from __future__ import annotations

from psycopg import sql

from app.environment.settings import Settings
from app.health.problem import Problem, one_line
from app.source.database import Connection, address_of, connect
from app.source.source_tables import Names, SourceTable, source_tables
from spark_streaming.capture_choice import Choice

# The connector beats every five seconds; so two missing beats mean a failure.
BEAT_WITHIN_S = 12.0
_STREAM = sql.SQL("""
SELECT EXTRACT(epoch FROM clock_timestamp() - (SELECT max(beaten_at) FROM {heartbeat}))::float8,
       slot.active, slot.slot_name IS NOT NULL, coalesce(slot.wal_status, ''),
       pg_wal_lsn_diff(pg_current_wal_lsn(), slot.confirmed_flush_lsn)::float8
FROM (SELECT) one LEFT JOIN pg_replication_slots slot ON slot.slot_name = %s
""")


def source_problems(settings: Settings) -> list[Problem]:
    """Return the problems that keep rows out of the lake, as far as the source shows them.

    Raises: HeadwaterError if the source cannot be reached, psycopg.Error if it refuses.
    """
    names, role = Names.of(settings), address_of(settings.capture_dsn).user
    with connect(settings.capture_dsn, application="headwater status") as connection:
        choice = Choice.of(settings.profile)
        tables = source_tables(connection, role, names.publication, choice)
        found = [trouble for table in tables if (trouble := not_captured(table, settings))]
        stream = unread_stream(connection, names)
    return [stream, *found] if stream else found


def not_captured(table: SourceTable, settings: Settings) -> Problem | None:
    """Return why a table is not captured; None if it is, need not be, or `left_out` reports it."""
    if table.published or table.twins or not table.chosen:
        return None
    part, never = f"table {table}", table.uncapturable()
    if never:
        return Problem(part, "left out", one_line(never))
    problem = table.identity_problem()
    if problem:
        return Problem(part, "not captured", problem, f"{table.identity_fix().as_string(None)};")
    if settings.profile.may_apply:
        cause = "it is not in the publication; `capture` adds it within seconds"
        return Problem(part, "not captured", cause, "`./headwater logs capture`")
    publish = table.publish(Names.of(settings).publication).as_string(None)
    return Problem(part, "not captured", "it is not in the publication", f"{publish};")


def unread_stream(connection: Connection, names: Names) -> Problem | None:
    """Return the problem of a slot that is gone or lost, or whose reader sends no heartbeat."""
    query = _STREAM.format(heartbeat=names.heartbeat_table)
    row = connection.execute(query, [names.slot]).fetchone()
    assert row is not None
    beat_s, active, exists, wal_status, behind = row
    part, logs = f"slot {names.slot}", "`./headwater logs capture`"
    if not exists:
        return Problem(part, "gone", "the source has no such replication slot", logs)
    if wal_status == "lost":
        return Problem(part, "lost", "the source has removed WAL that the slot needs", logs)
    if beat_s is None or beat_s <= BEAT_WITHIN_S:
        return None  # no heartbeat yet: the first snapshot is running
    reader = "the connector reads it" if active else "nobody reads it"
    cause = f"no heartbeat for {beat_s:.0f} s, and {reader}; {behind or 0:,.0f} bytes of WAL wait"
    return Problem(part, "not read", cause, "`./headwater logs connect`")
