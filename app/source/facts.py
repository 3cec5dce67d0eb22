"""Reads everything about a source database that matters for capturing it, in one go."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeAlias

import psycopg

from app.errors import HeadwaterError
from app.source.database import Address, Connection, address_of, connect
from app.source.definition_notes import Notes, read_notes
from app.source.source_tables import OWN_SCHEMA, Names, SourceTable, source_tables
from app.source.tls import tls_problem
from spark_streaming.capture_choice import EVERYTHING, Choice

_RECORDS = "SELECT to_regclass('headwater.replica_identities') IS NOT NULL"
# If the schema does not exist yet, its creation also creates the table.
_MAY_RECORD = """
SELECT coalesce((SELECT CASE WHEN c.oid IS NULL THEN has_schema_privilege(n.oid, 'CREATE')
                             ELSE has_table_privilege(c.oid, 'INSERT')
                                  AND has_table_privilege(c.oid, 'UPDATE') END
                 FROM pg_namespace n LEFT JOIN pg_class c
                      ON c.relnamespace = n.oid AND c.relname = 'replica_identities'
                 WHERE n.nspname = 'headwater'), true)
"""
# A domain is followed to its base type (domains of domains included), an array to its element.
_COLUMNS = """
WITH RECURSIVE base AS (
    SELECT a.attrelid, a.attnum, a.atttypid AS type, a.atttypmod AS modifier,
           false AS listed, false AS domain_listed
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
      AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', %s)
    UNION ALL
    SELECT b.attrelid, b.attnum,
           CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END,
           CASE WHEN t.typtype = 'd' AND b.modifier < 0 THEN t.typtypmod
                ELSE b.modifier END,
           b.listed OR t.typtype <> 'd', b.domain_listed OR b.listed AND t.typtype = 'd'
    FROM base b JOIN pg_type t ON t.oid = b.type LEFT JOIN pg_type e ON e.oid = t.typelem
    WHERE t.typtype = 'd' OR t.typcategory = 'A' AND e.typarray = t.oid)
SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
       t.typname::text, t.typtype::text, b.modifier, b.listed,
       b.listed AND (b.domain_listed OR t.typtype NOT IN ('b', 'e') OR a.attndims > 1)
FROM base b JOIN pg_type t ON t.oid = b.type LEFT JOIN pg_type e ON e.oid = t.typelem
JOIN pg_attribute a ON (a.attrelid, a.attnum) = (b.attrelid, b.attnum)
JOIN pg_class c ON c.oid = b.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.typtype <> 'd' AND NOT (t.typcategory = 'A' AND coalesce(e.typarray = t.oid, false))
ORDER BY n.nspname, c.relname, a.attnum
"""

AsText: TypeAlias = "dict[str, tuple[str, ...]]"
Limited: TypeAlias = "dict[str, tuple[str, ...]]"


@dataclass(frozen=True)
class Role:
    """The capture role: its rights, and whether a session as this role can be opened."""

    name: str
    exists: bool = False
    may_log_in: bool = False
    may_replicate: bool = False
    superuser: bool = False
    bypasses_row_security: bool = False
    in_use: bool = False  # a session as this role is open
    login_error: str = ""
    replication_error: str = ""


@dataclass(frozen=True)
class Publication:
    """The stack's publication."""

    all_tables: bool
    publishes_all: bool
    via_root: bool
    narrowed: tuple[str, ...] = ()  # tables with only some columns or rows published


@dataclass(frozen=True)
class Slot:
    """The stack's replication slot."""

    plugin: str
    database: str
    wal_status: str
    active: bool


@dataclass(frozen=True)
class Facts:
    """A source database. Sizes are as the server prints them; counts are slots and processes."""

    address: Address
    names: Names
    version: int
    in_recovery: bool
    wal_level: str
    slots_max: int
    slots_used: int
    senders_max: int
    senders_used: int
    slot_wal_keep: str
    managed_replication_role: bool
    role: Role
    own_tables: frozenset[str]
    own_tables_writable: bool
    publication: Publication | None
    slot: Slot | None
    tables: tuple[SourceTable, ...]
    tls_problem: str = ""
    # Whether the session itself is encrypted, or does not leave the machine.
    private: bool = True
    # Roles, other than this session's and superusers, that own something in the stack's schema.
    foreign_owners: tuple[str, ...] = ()
    notes: Notes = field(default_factory=Notes)
    # Whether the source records replica identities before they are changed, and whether it can.
    records_identities: bool = True
    may_record: bool = True
    # Table → its columns that are carried as text, each with its type.
    as_text: AsText = field(default_factory=dict)
    # Kind of value that silver cannot hold → the columns (`schema.table.column`) that may have it.
    limited: Limited = field(default_factory=dict)
    intervals: tuple[str, ...] = ()
    choice: Choice = EVERYTHING


def read_facts(
    connection: Connection,
    source_dsn: str,
    capture_dsn: str,
    names: Names,
    choice: Choice = EVERYTHING,
) -> Facts:
    """Read everything that capturing needs; changes nothing.

    Args:
        connection: a session of the tables' owner.
        names: the names of the stack's own objects in the source.
        choice: the tables and columns that the profile chooses.
        capture_dsn: the capture role's DSN; an ordinary and a replication session are tried with
            it.
    """
    role = address_of(capture_dsn).user
    own = _own_tables(connection, role, names)
    as_text, limited, intervals = _columns(connection, choice)
    return Facts(
        address=address_of(source_dsn),
        names=names,
        version=connection.info.server_version,
        in_recovery=bool(_scalar(connection, "SELECT pg_is_in_recovery()")),
        wal_level=str(_scalar(connection, "SELECT current_setting('wal_level')")),
        slots_max=int(_scalar(connection, "SELECT current_setting('max_replication_slots')")),
        slots_used=int(_scalar(connection, "SELECT count(*) FROM pg_replication_slots")),
        senders_max=int(_scalar(connection, "SELECT current_setting('max_wal_senders')")),
        senders_used=int(_scalar(connection, "SELECT count(*) FROM pg_stat_replication")),
        slot_wal_keep=str(_scalar(connection, "SELECT current_setting('max_slot_wal_keep_size')")),
        managed_replication_role=bool(
            _scalar(connection, "SELECT count(*) FROM pg_roles WHERE rolname = 'rds_replication'")
        ),
        role=_role(connection, role, capture_dsn),
        own_tables=frozenset(own),
        own_tables_writable=bool(own) and all(own.values()),
        publication=_publication(connection, names.publication),
        slot=_slot(connection, names.slot),
        tables=tuple(source_tables(connection, role, names.publication, choice)),
        choice=choice,
        tls_problem=tls_problem(capture_dsn),
        private=_is_private(connection, address_of(source_dsn)),
        foreign_owners=_foreign_owners(connection),
        notes=read_notes(connection, role),
        records_identities=bool(_scalar(connection, _RECORDS)),
        may_record=bool(_scalar(connection, _MAY_RECORD)),
        as_text=as_text,
        limited=limited,
        intervals=intervals,
    )


def _scalar(connection: Connection, query: str) -> str | int:
    row = connection.execute(query).fetchone()
    assert row is not None  # each of these queries always returns one row
    found: str | int = row[0]
    return found


def _is_private(connection: Connection, address: Address) -> bool:
    if address.host.startswith("/") or address.host == "localhost":
        return True
    with suppress(ValueError):
        if ip_address(address.host).is_loopback:
            return True
    return bool(connection.pgconn.ssl_in_use)


def _foreign_owners(connection: Connection) -> tuple[str, ...]:
    rows = connection.execute(
        """
        SELECT DISTINCT r.rolname
        FROM (SELECT nspowner AS owner FROM pg_namespace WHERE nspname = %(schema)s
              UNION SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = %(schema)s
              UNION SELECT p.proowner FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                    WHERE n.nspname = %(schema)s) AS found
        JOIN pg_roles r ON r.oid = found.owner
        WHERE NOT r.rolsuper AND r.rolname <> current_user
        ORDER BY 1
        """,
        {"schema": OWN_SCHEMA},
    )
    return tuple(name for (name,) in rows)


def _own_tables(connection: Connection, role: str, names: Names) -> dict[str, bool]:
    rows = connection.execute(
        """
        SELECT c.relname, coalesce((SELECT bool_and(has_table_privilege(r.oid, c.oid, p))
                                    AND has_schema_privilege(r.oid, n.oid, 'USAGE')
                          FROM pg_roles r, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) p
                          WHERE r.rolname = %s GROUP BY r.oid), false)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname = ANY(%s)
        """,
        [role, OWN_SCHEMA, list(names.own_tables)],
    )
    return {name: bool(writable) for name, writable in rows}


def _role(connection: Connection, name: str, capture_dsn: str) -> Role:
    row = connection.execute(
        """
        SELECT rolcanlogin, rolsuper, rolbypassrls,
               rolreplication OR rolsuper OR EXISTS (
                   SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                   WHERE m.member = r.oid AND g.rolname = 'rds_replication'),
               EXISTS (SELECT FROM pg_stat_activity a WHERE a.usesysid = r.oid)
        FROM pg_roles r WHERE rolname = %s
        """,
        [name],
    ).fetchone()
    if row is None:
        return Role(name)
    log_in, superuser, bypass, replicate, in_use = row
    login_error = _session_error(capture_dsn, replication=False) if log_in else ""
    replication_error = ""
    if log_in and replicate and not login_error:
        replication_error = _session_error(capture_dsn, replication=True)
    return Role(
        name=name,
        exists=True,
        may_log_in=log_in,
        may_replicate=replicate,
        superuser=superuser,
        bypasses_row_security=bypass or superuser,
        in_use=in_use,
        login_error=login_error,
        replication_error=replication_error,
    )


def _session_error(dsn: str, *, replication: bool) -> str:
    try:
        with connect(dsn, application="headwater preflight", replication=replication) as session:
            session.execute("IDENTIFY_SYSTEM" if replication else "SELECT 1")
    except HeadwaterError as error:
        return error.detail or error.message
    except psycopg.Error as error:
        return str(error)
    return ""


def _publication(connection: Connection, publication: str) -> Publication | None:
    row = connection.execute(
        """
        SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot
        FROM pg_publication WHERE pubname = %s
        """,
        [publication],
    ).fetchone()
    if row is None:
        return None
    narrowed: tuple[str, ...] = ()
    if connection.info.server_version >= 150_000:
        rows = connection.execute(
            """
            SELECT pr.prrelid::regclass::text
            FROM pg_publication_rel pr JOIN pg_publication p ON p.oid = pr.prpubid
            WHERE p.pubname = %s AND (pr.prattrs IS NOT NULL OR pr.prqual IS NOT NULL)
            """,
            [publication],
        )
        narrowed = tuple(name for (name,) in rows)
    return Publication(bool(row[0]), bool(row[1]), bool(row[2]), narrowed)


def _slot(connection: Connection, name: str) -> Slot | None:
    row = connection.execute(
        """
        SELECT coalesce(plugin, ''), coalesce(database, ''), coalesce(wal_status, ''), active
        FROM pg_replication_slots WHERE slot_name = %s
        """,
        [name],
    ).fetchone()
    return None if row is None else Slot(*row)


def _columns(connection: Connection, choice: Choice) -> tuple[AsText, Limited, tuple[str, ...]]:
    """Find three groups of columns.

    They are those carried as text, those whose type silver cannot hold in full, and intervals.
    """
    from spark_streaming.contract.kinds import TEXT_AS_IS, kind_named, list_of
    from spark_streaming.contract.types import kind_of

    rows = connection.execute(_COLUMNS, [OWN_SCHEMA])
    as_text: dict[str, list[str]] = {}
    limited: dict[str, list[str]] = {}
    intervals: list[str] = []
    for schema, name, column, shown, typname, typtype, typmod, listed, never_a_list in rows:
        if not choice.has(schema, name) or choice.left_out(schema, name, [column]):
            continue
        table = f"{schema}.{name}"
        kind = kind_of(typname, typtype, typmod)[0]
        carried = list_of(kind_named(kind)) if listed else kind_named(kind)
        if typname == "interval" and not listed:
            intervals.append(f"{table}.{column}")
        if kind == TEXT_AS_IS or never_a_list:
            as_text.setdefault(table, []).append(f"{column} ({shown})")
        elif beyond := carried.unsupported:
            limited.setdefault(beyond, []).append(f"{table}.{column}")
    return (
        {table: tuple(columns) for table, columns in as_text.items()},
        {beyond: tuple(columns) for beyond, columns in limited.items()},
        tuple(intervals),
    )
