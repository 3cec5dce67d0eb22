"""The source's own notes of its tables' definitions: an event trigger, where it may be had.

With it silver follows each version of a table apart; without it, several changes that come between
two looks at the catalog are followed as one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from psycopg import sql

from app.source.database import Connection
from app.source.findings import NOTE, OK, SQL_FOLDER, Finding, Mend, from_file
from spark_streaming.catalog import TEXT_FORMS, describing

CHECK = "definitions"


@dataclass(frozen=True)
class Notes:
    """Whether the source notes definitions.

    Args:
        digest: of the function that notes them, as it was made; empty: there is none, or it does
            not run.
        readable: by the capture role.
        may_make: the owner's session may make event triggers.
    """

    digest: str = ""
    readable: bool = False
    may_make: bool = False

    @property
    def is_right(self) -> bool:
        return self.digest == _digest() and self.readable


def read_notes(connection: Connection, role: str) -> Notes:
    """Look at the event trigger; changes nothing.

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
    assert row is not None  # it reads no table: one row
    return Notes(*row)


def notes_finding(notes: Notes, role: str) -> Finding:
    """How the notes stand. They are an improvement: without them nothing is missing."""
    if notes.is_right:
        return Finding(CHECK, OK, "each change of a table is noted as it is made")
    mends = tuple(from_file("definitions", role=sql.Identifier(role), **_parts()))
    observed = (
        "not noted as they change: of several changes of a table within some seconds silver sees "
        "the last only"
    )
    if not notes.may_make:
        observed += "; to note them takes a superuser, who makes event triggers"
        mends = tuple(Mend(mend.shown) for mend in mends)
    return Finding(CHECK, NOTE, observed, mends)


def _parts() -> dict[str, sql.Composable]:
    columns, key = describing("changed.table_oid", "changed.identity_of")
    forms = " ".join(
        f"SET {name} = {value}" if name == "search_path" else f"SET {name} = '{value}'"
        for name, value in TEXT_FORMS.items()
    )
    return {
        # All are this repository's own texts, not anybody's input.
        "forms": sql.SQL(forms),
        "described_columns": sql.SQL(columns),
        "described_key": sql.SQL(key),
        "digest": sql.Literal(_digest()),
    }


def _digest() -> str:
    """Changes with whatever the function is made of."""
    texts = [(SQL_FOLDER / "definitions.sql").read_text(), *describing("", ""), str(TEXT_FORMS)]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]
