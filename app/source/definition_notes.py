"""The source's own record of its tables' definitions, which an event trigger writes.

With the record silver follows each version of a table separately; without it, silver follows
several changes between two reads of the catalog as one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from psycopg import sql

from app.source.database import Connection
from app.source.findings import NOTE, OK, SQL_FOLDER, Finding, Fix, from_file
from spark_streaming.contract.source_catalog import TEXT_FORMS, definition_queries

CHECK = "definitions"


@dataclass(frozen=True)
class Notes:
    """Whether the source records definitions.

    Args:
        digest: the digest of the installed function; empty if there is none, or it is disabled.
        readable: whether the capture role may read the record.
        may_make: whether the owner's session may create event triggers.
    """

    digest: str = ""
    readable: bool = False
    may_make: bool = False

    @property
    def is_right(self) -> bool:
        return self.digest == _digest() and self.readable


def read_notes(connection: Connection, role: str) -> Notes:
    """Read the state of the event trigger; changes nothing.

    Args:
        role: the capture role's name.
    """
    row = connection.execute(
        """
        SELECT coalesce((SELECT obj_description(t.evtfoid, 'pg_proc') FROM pg_event_trigger t
                         WHERE t.evtname = 'headwater_definitions' AND t.evtenabled <> 'D'), ''),
               coalesce((SELECT has_table_privilege(r.oid, c.oid, 'SELECT')
                                AND has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
                         FROM pg_roles r, pg_class c
                         WHERE r.rolname = %s AND c.oid = to_regclass('headwater.definitions')),
                        false),
               EXISTS (SELECT FROM pg_roles r WHERE r.rolname = current_user AND (r.rolsuper
                       OR EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'rds_superuser'
                                  AND pg_has_role(r.oid, g.oid, 'MEMBER'))))
        """,
        [role],
    ).fetchone()
    assert row is not None  # the query reads no table and always returns one row
    return Notes(*row)


def record_all_definitions(connection: Connection) -> None:
    """Record each table's definition again at the log's end, if the source records definitions.

    A source that was set back has records at positions that now belong to other changes. The
    tables' present definitions must come after all of them.
    """
    there = connection.execute("SELECT to_regclass('headwater.definitions') IS NOT NULL").fetchone()
    if not there or not there[0]:
        return
    with connection.transaction():
        connection.execute(
            """
            INSERT INTO headwater.definitions
                (schema_name, table_name, oid, lsn, xid, identity, columns, key)
            SELECT DISTINCT ON (d.schema_name, d.table_name) d.schema_name, d.table_name, d.oid,
                   pg_current_wal_insert_lsn() - '0/0'::pg_lsn, txid_current() & 4294967295,
                   d.identity, d.columns, d.key
            FROM headwater.definitions d
            JOIN pg_class c ON c.oid = d.oid AND c.relname = d.table_name
            JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = d.schema_name
            ORDER BY d.schema_name, d.table_name, d.id DESC
            """
        )


def notes_finding(notes: Notes, role: str) -> Finding:
    """Judge the record. It is optional: capturing works without it."""
    if notes.is_right:
        return Finding(CHECK, OK, "each change of a table is recorded when it is made")
    fixes = tuple(from_file("definitions", role=sql.Identifier(role), **_parts()))
    observed = (
        "changes of a table are not recorded when they are made: of several changes within some "
        "seconds silver sees only the last"
    )
    if not notes.may_make:
        observed += "; recording them takes a superuser, who may create event triggers"
        fixes = tuple(Fix(fix.shown) for fix in fixes)
    purpose = "an event trigger, with its function and table, that records each change of a table"
    return Finding(CHECK, NOTE, observed, fixes, purpose)


def _parts() -> dict[str, sql.Composable]:
    columns, key = definition_queries("changed.table_oid", "changed.identity_of")
    forms = " ".join(
        f"SET {name} = {value}" if name == "search_path" else f"SET {name} = '{value}'"
        for name, value in TEXT_FORMS.items()
    )
    return {
        # All of these are texts of this repository, not input.
        "forms": sql.SQL(forms),
        "described_columns": sql.SQL(columns),
        "described_key": sql.SQL(key),
        "digest": sql.Literal(_digest()),
    }


def _digest() -> str:
    """Return a digest of all texts that make up the function."""
    texts = [
        (SQL_FOLDER / "definitions.sql").read_text(),
        *definition_queries("", ""),
        str(TEXT_FORMS),
    ]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]
