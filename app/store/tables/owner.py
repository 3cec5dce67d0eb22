"""Makes the role that owns the demo store, as which its rows are edited.

The role is neither a superuser nor in another role, so Postgres refuses it everything outside of the database:
programs and files of the server, other servers, other roles, extensions, replication.
"""

from __future__ import annotations

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from app.errors import HeadwaterError
from app.store.tables.schema import TABLE_NAMES
from spark_streaming.storage.connections import TCP_LIMITS

CONNECT_TIMEOUT_S = 10
LOCK_TIMEOUT_S = 10
# Two makers at once would both see "not there yet"; the key is arbitrary but fixed.
_ADVISORY_KEY = 0x6865_6164_0002
# The pipeline's own schema does not belong to the store.
_SCHEMAS = """
select nspname from pg_namespace where nspname not in ('headwater', 'information_schema')
  and nspname !~ '^pg_' order by nspname
"""
# The store's tables and types of an earlier version, which the superuser made.
_TABLES = """
select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
  and relowner = current_user::regrole and (relname = any(%s) or relname ~ '^bench_[0-9]+$')
"""
_TYPES = """
select typname from pg_type where typnamespace = 'public'::regnamespace and typtype = 'e'
  and typowner = current_user::regrole
"""
_ATTRIBUTES = sql.SQL(
    "login nosuperuser nocreatedb nocreaterole noreplication nobypassrls noinherit"
    " connection limit 30 password {}"
)
_ROWS = sql.SQL("select, insert, update, delete")


def ensure_owner(superuser_dsn: str, owner_dsn: str) -> None:
    """Make the role of `owner_dsn` if it is missing, and give it the store and its rights.

    It owns the store's tables and may make others in `public`; it may write the rows of the superuser's present and
    future tables, except in the schema `headwater`. Nothing changes if the role can log in and has its rights. Both
    DSNs hold passwords.
    Raises: HeadwaterError if the superuser cannot connect or is refused.
    """
    if _is_owner(owner_dsn):
        return
    wanted = conninfo_to_dict(owner_dsn)
    role = sql.Identifier(str(wanted["user"]))
    try:
        with _session(superuser_dsn) as connection, connection.transaction():
            connection.execute("select pg_advisory_xact_lock(%s)", [_ADVISORY_KEY])
            there = connection.execute(
                "select 1 from pg_roles where rolname = %s", [wanted["user"]]
            ).fetchone()
            verb = sql.SQL("alter role {} {}" if there else "create role {} {}")
            password = sql.Literal(str(wanted["password"]))
            connection.execute(verb.format(role, _ATTRIBUTES.format(password)))
            _grant(connection, role)
            _hand_over(connection, role)
    except psycopg.Error as error:
        said = str(error).strip().splitlines()[0] if error.sqlstate else "no session"
        raise HeadwaterError(
            "the role that owns the demo store could not be made",
            detail=said,
            hint="see whether it runs: ./headwater status postgres",
        ) from None  # its text may hold the password


def _is_owner(dsn: str) -> bool:
    try:
        with _session(dsn) as connection:
            row = connection.execute("select has_schema_privilege('public', 'create')").fetchone()
    except psycopg.OperationalError:
        return False
    return bool(row and row[0])


def _grant(connection: psycopg.Connection[tuple[object, ...]], role: sql.Identifier) -> None:
    for (name,) in connection.execute(_SCHEMAS).fetchall():
        schema = sql.Identifier(str(name))
        for right, kind in ((_ROWS, "tables"), (sql.SQL("usage, select"), "sequences")):
            connection.execute(
                sql.SQL("grant {} on all {} in schema {} to {}").format(
                    right, sql.SQL(kind), schema, role
                )
            )
        connection.execute(sql.SQL("grant usage on schema {} to {}").format(schema, role))
    connection.execute(sql.SQL("grant create on schema public to {}").format(role))
    for right, kind in ((_ROWS, "tables"), (sql.SQL("usage, select"), "sequences")):
        connection.execute(
            sql.SQL("alter default privileges grant {} on {} to {}").format(
                right, sql.SQL(kind), role
            )
        )
    # A message in the log could pass for one of the stack's own marks.
    for kind in ("text", "bytea"):
        connection.execute(
            f"revoke execute on function pg_catalog.pg_logical_emit_message(boolean, text, {kind})"
            " from public"
        )


def _hand_over(connection: psycopg.Connection[tuple[object, ...]], role: sql.Identifier) -> None:
    found = [("table", str(name)) for (name,) in connection.execute(_TABLES, [list(TABLE_NAMES)])]
    found += [("type", str(name)) for (name,) in connection.execute(_TYPES)]
    for kind, name in found:
        connection.execute(
            sql.SQL("alter {} {} owner to {}").format(
                sql.SQL(kind), sql.Identifier("public", name), role
            )
        )


def _session(dsn: str) -> psycopg.Connection[tuple[object, ...]]:
    connection: psycopg.Connection[tuple[object, ...]] = psycopg.connect(
        dsn,
        autocommit=True,
        application_name="headwater-store",
        **{**TCP_LIMITS, "connect_timeout": CONNECT_TIMEOUT_S},
        # No object of another schema by its bare name: this session may be a superuser's.
        options=f"-c search_path=pg_catalog -c lock_timeout={LOCK_TIMEOUT_S}s",
    )
    return connection
