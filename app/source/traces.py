"""Reads the traces of Headwater in a source database; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from app.source.database import Connection
from app.source.source_tables import OWN_SCHEMA, Names

ROLE_MARK = "made for Headwater"  # the comment that debezium/sql/role.sql puts on the role
DEFAULT_ROLE = "headwater_capture"
EVENT_TRIGGER, FUNCTION = "headwater_definitions", "note_definition"
SHARED_TABLES = ("definitions", "replica_identities")


@dataclass(frozen=True)
class Session:
    """The role of this session, and its rights."""

    role: str
    database: str
    superuser: bool
    may_drop_slots: bool
    may_drop_roles: bool


@dataclass(frozen=True)
class SlotTrace:
    """The replication slot; it holds back `kept_bytes` of WAL, and `reader` is its session."""

    plugin: str
    database: str
    kept_bytes: int
    reader: str


@dataclass(frozen=True)
class IdentityTrace:
    """A replica identity that Headwater set, and the table as it is now.

    Args:
        was, was_index, set_to: as recorded (letters of pg_class.relreplident).
        now: the letter now; empty if the table is gone.
        index_there: whether `was_index` is still an index of the table.
        published: other publications that publish the table.
        mine: whether this session may change the table.
    """

    schema: str
    name: str
    was: str
    was_index: str
    set_to: str
    now: str
    index_there: bool
    published: tuple[str, ...]
    mine: bool


@dataclass(frozen=True)
class Grant:
    """A table or schema on which the capture role has privileges."""

    kind: str  # TABLE or SCHEMA
    schema: str
    name: str
    mine: bool


@dataclass(frozen=True)
class RoleTrace:
    """The capture role.

    Args:
        marked: made by Headwater's own SQL.
        owns: objects of this database that belong to it.
        elsewhere: other databases of the server where it has rights or objects.
        grants: tables and schemas outside `headwater` on which it has rights.
        other_rights: how many other objects (database, function, default privileges) give it
            rights.
        sessions: open sessions as this role.
    """

    name: str
    marked: bool
    superuser: bool
    owns: tuple[str, ...]
    elsewhere: tuple[str, ...]
    grants: tuple[Grant, ...]
    other_rights: int
    sessions: tuple[str, ...]


@dataclass(frozen=True)
class SchemaTrace:
    """The schema `headwater`.

    Args:
        tables: existing tables of this stack, and those that all stacks share.
        function: whether the event trigger's function exists.
        of_other_stacks: tables of other stacks.
        of_others: objects that are not Headwater's. mine: whether this session may drop it with its content.
    """

    tables: tuple[str, ...]
    function: bool
    of_other_stacks: tuple[str, ...]
    of_others: tuple[str, ...]
    mine: bool


@dataclass(frozen=True)
class Traces:
    """Everything that Headwater has left; None means that an object does not exist.

    Args:
        publication_mine: whether this session may drop the publication; None if there is none.
        identities: recorded changes; None if this source keeps no record.
        unreadable: whether there is a record that this session may not read.
        full: published tables without a key whose identity is FULL and is not recorded.
    """

    session: Session
    names: Names
    slot: SlotTrace | None
    publication_mine: bool | None
    schema: SchemaTrace | None
    identities: tuple[IdentityTrace, ...] | None
    full: tuple[str, ...]
    role: RoleTrace | None
    unreadable: bool = False


def read_traces(connection: Connection, names: Names, role: str) -> Traces:
    """Read everything that one stack has left in this database.

    Args:
        connection: a session of the role that is to remove it.
        names, role: the names of the stack's own objects, and of its capture role.
    """
    publication = connection.execute(
        "SELECT pg_has_role(pubowner, 'USAGE') FROM pg_publication WHERE pubname = %s",
        [names.publication],
    ).fetchone()
    schema = _schema(connection, names)
    there = schema is not None and "replica_identities" in schema.tables
    recorded = there and _readable(connection)
    identities = _identities(connection, names) if recorded else None
    return Traces(
        session=_session(connection),
        names=names,
        slot=_slot(connection, names.slot),
        publication_mine=None if publication is None else bool(publication[0]),
        schema=schema,
        identities=identities,
        full=_full(connection, names, recorded=recorded),
        role=_role(connection, role),
        unreadable=there and not recorded,
    )


def _readable(connection: Connection) -> bool:
    row = connection.execute(
        "SELECT has_schema_privilege('headwater', 'USAGE') "
        "AND has_table_privilege('headwater.replica_identities', 'SELECT')"
    ).fetchone()
    return bool(row and row[0])


def _session(connection: Connection) -> Session:
    row = connection.execute(
        """
        SELECT r.rolname::text, current_database()::text, r.rolsuper,
               r.rolsuper OR r.rolreplication
                   OR EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'rds_replication'
                              AND pg_has_role(r.oid, g.oid, 'MEMBER')),
               r.rolsuper OR r.rolcreaterole
        FROM pg_roles r WHERE r.rolname = current_user
        """
    ).fetchone()
    assert row is not None  # every role sees itself
    return Session(*row)


def _slot(connection: Connection, name: str) -> SlotTrace | None:
    row = connection.execute(
        """
        SELECT coalesce(s.plugin, ''), coalesce(s.database, ''),
               coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::bigint,
               CASE WHEN s.active THEN concat_ws(', ', 'process ' || s.active_pid,
                    'role ' || a.usename, nullif(a.application_name, ''), 'from ' || a.client_addr)
                    ELSE '' END
        FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid
        WHERE s.slot_name = %s
        """,
        [name],
    ).fetchone()
    return None if row is None else SlotTrace(*row)


def _schema(connection: Connection, names: Names) -> SchemaTrace | None:
    row = connection.execute(
        "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = %s", [OWN_SCHEMA]
    ).fetchone()
    if row is None:
        return None
    found = connection.execute(
        """
        SELECT c.relname::text, c.relkind IN ('r', 'p') FROM pg_class c
        WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
          -- Without the sequence of an identity column, which is dropped with its table.
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                          AND d.objid = c.oid AND d.deptype IN ('a', 'i'))
        UNION ALL
        SELECT p.proname || '()', false FROM pg_proc p
        WHERE p.pronamespace = %(schema)s::regnamespace
        UNION ALL
        SELECT t.typname::text, false FROM pg_type t
        WHERE t.typnamespace = %(schema)s::regnamespace AND t.typtype IN ('d', 'e', 'r', 'c')
          AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
        ORDER BY 1
        """,
        {"schema": OWN_SCHEMA},
    ).fetchall()
    tables = [name for name, is_table in found if is_table]
    function = f"{FUNCTION}()"
    ours = [name for name in tables if name in (*names.own_tables, *SHARED_TABLES)]
    stacks = [name for name in tables if name not in ours and _of_a_stack(name)]
    rest = [name for name, _ in found if name not in (*ours, *stacks, function)]
    there = (function, False) in found
    return SchemaTrace(tuple(ours), there, tuple(stacks), tuple(rest), bool(row[0]))


def _of_a_stack(table: str) -> bool:
    return table.partition("_")[0] in ("heartbeat", "signal")


def _identities(connection: Connection, names: Names) -> tuple[IdentityTrace, ...]:
    # A table is found by its oid, or, in a database restored from a dump, by its name.
    rows = connection.execute(
        """
        SELECT coalesce(t.nspname, k.schema_name)::text, coalesce(t.relname, k.table_name)::text,
               k.was, coalesce(k.was_index, ''), k.set_to, coalesce(t.relreplident::text, ''),
               EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                       WHERE i.indrelid = t.oid AND x.relname = k.was_index),
               ARRAY(SELECT p.pubname::text FROM pg_publication_tables p
                     WHERE p.schemaname = t.nspname AND p.tablename = t.relname
                       AND p.pubname <> %s ORDER BY 1),
               coalesce(pg_has_role(t.relowner, 'USAGE'), false)
        FROM headwater.replica_identities k
        LEFT JOIN LATERAL (
            SELECT c.oid, n.nspname, c.relname, c.relreplident, c.relowner
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p') AND (c.oid = k.oid
                  OR (n.nspname = k.schema_name AND c.relname = k.table_name))
            ORDER BY c.oid = k.oid DESC LIMIT 1) t ON true
        ORDER BY 1, 2
        """,
        [names.publication],
    ).fetchall()
    return tuple(
        IdentityTrace(
            schema=row[0], name=row[1], was=row[2], was_index=row[3], set_to=row[4], now=row[5],
            index_there=row[6], published=tuple(row[7]), mine=row[8],
        )
        for row in rows
    )  # fmt: skip


def _full(connection: Connection, names: Names, *, recorded: bool) -> tuple[str, ...]:
    record = "headwater.replica_identities" if recorded else "(SELECT 0::oid AS oid)"
    rows = connection.execute(
        sql.SQL(
            """
            SELECT format('%%I.%%I', n.nspname, c.relname)
            FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
            JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE p.pubname = %s AND c.relreplident = 'f' AND n.nspname <> %s
              AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
              AND c.oid NOT IN (SELECT oid FROM {} k)
            ORDER BY 1
            """
        ).format(sql.SQL(record)),
        [names.publication, OWN_SCHEMA],
    )
    return tuple(name for (name,) in rows)


def _role(connection: Connection, name: str) -> RoleTrace | None:
    row = connection.execute(
        """
        SELECT oid, rolsuper, coalesce(shobj_description(oid, 'pg_authid') = %s, false)
        FROM pg_roles WHERE rolname = %s
        """,
        [ROLE_MARK, name],
    ).fetchone()
    if row is None:
        return None
    oid, superuser, marked = row
    # The role's rights and objects in all databases; deptype: a = privileges, o = owner.
    depends = connection.execute(
        """
        SELECT d.deptype::text, d.classid::regclass::text, coalesce(b.datname::text, ''),
               d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())),
               CASE WHEN d.dbid = 0 OR b.datname = current_database()
                    THEN pg_describe_object(d.classid, d.objid, 0) ELSE '' END,
               coalesce(cn.nspname, n.nspname)::text, c.relname::text,
               coalesce(pg_has_role(coalesce(c.relowner, n.nspowner), 'USAGE'), false)
        FROM pg_shdepend d LEFT JOIN pg_database b ON b.oid = d.dbid
        LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
        LEFT JOIN pg_namespace cn ON cn.oid = c.relnamespace
        LEFT JOIN pg_namespace n ON d.classid = 'pg_namespace'::regclass AND n.oid = d.objid
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = %s
        """,
        [oid],
    ).fetchall()
    owns, elsewhere, grants, other = set(), set(), set(), 0
    for kind, catalog, database, here, described, schema, table, mine in depends:
        if not here:
            elsewhere.add(database)
        elif kind == "o":
            owns.add(described)
        elif schema == OWN_SCHEMA:
            continue  # it is dropped with the schema
        elif catalog in ("pg_class", "pg_namespace") and schema:
            grants.add(Grant("TABLE" if table else "SCHEMA", schema, table or "", bool(mine)))
        else:
            other += 1
    sessions = connection.execute(
        """
        SELECT concat_ws(', ', 'process ' || pid, nullif(application_name, ''),
                         'from ' || client_addr, 'database ' || datname)
        FROM pg_stat_activity WHERE usename = %s AND pid <> pg_backend_pid() ORDER BY pid
        """,
        [name],
    ).fetchall()
    return RoleTrace(
        name,
        bool(marked),
        bool(superuser),
        tuple(sorted(owns)),
        tuple(sorted(elsewhere)),
        tuple(sorted(grants, key=lambda one: (one.kind, one.schema, one.name))),
        other,
        tuple(one for (one,) in sessions),
    )
