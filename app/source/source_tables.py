"""Lists the source's tables, and says which of them can be captured."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from app.environment.settings import Settings
from app.source.database import Connection
from spark_streaming.capture_choice import EVERYTHING, Choice
from spark_streaming.contract.names import differ_in_case

OWN_SCHEMA = "headwater"
_PLAIN_NAME = re.compile(r"\w+\.\w+")

# One row for each table that a user may want to capture, in all schemas except the server's and the
# pipeline's own. Tables of extensions are left out. So are partitions, because their events have
# the name of the partitioned table.
_TABLES = """
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relreplident::text,
       -- A deferrable key does not identify rows: the server does not count it as a key here.
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary
               AND i.indimmediate),
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary
               AND i.indisreplident),
       EXISTS (SELECT FROM pg_publication_rel pr JOIN pg_publication p ON p.oid = pr.prpubid
               WHERE pr.prrelid = c.oid AND p.pubname = %(publication)s),
       coalesce((SELECT has_table_privilege(r.oid, c.oid, 'SELECT')
                        AND has_schema_privilege(r.oid, n.oid, 'USAGE')
                 FROM pg_roles r WHERE r.rolname = %(role)s), false),
       c.relrowsecurity,
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid
             AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''
             ORDER BY a.attnum),
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = c.oid),
       -- The server may not be able to lower names that are not ASCII: see `differ_in_case`.
       ARRAY(SELECT t.name FROM (
                 SELECT a.attname::text AS name, a.attnum,
                        count(*) OVER (PARTITION BY lower(a.attname::text)) AS same
                 FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) t
             WHERE t.same > 1 OR t.name !~ '^[ -~]*$' ORDER BY t.attnum),
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid
             AND a.attnum > 0 AND a.atttypid = 'refcursor'::regtype ORDER BY a.attnum),
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid
             AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a
                 ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
             WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', %(own_schema)s)
  AND n.nspname NOT LIKE 'pg\\_toast%%' AND c.relpersistence <> 't'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname, c.relname
"""


@dataclass(frozen=True)
class Names:
    """The names of a stack's own objects in the source; two stacks in one source share none.

    Args:
        heartbeat, signal: its two tables in the schema `headwater`, which all stacks use.
    """

    slot: str = "headwater"
    publication: str = "headwater"
    heartbeat: str = "heartbeat"
    signal: str = "signal"

    @staticmethod
    def of(settings: Settings) -> Names:
        """Return the names of a stack with these settings."""
        return Names(
            slot=settings.profile.slot_name,
            publication=settings.profile.publication_name,
            heartbeat=settings.profile.own_table("heartbeat"),
            signal=settings.profile.own_table("signal"),
        )

    @property
    def own_tables(self) -> tuple[str, str]:
        return self.heartbeat, self.signal

    @property
    def heartbeat_table(self) -> sql.Identifier:
        return sql.Identifier(OWN_SCHEMA, self.heartbeat)

    @property
    def signal_table(self) -> sql.Identifier:
        return sql.Identifier(OWN_SCHEMA, self.signal)


@dataclass(frozen=True)
class SourceTable:
    """One table of the source.

    Args:
        oid: distinguishes a table from a previous one of the same name.
        kind: r (plain), p (partitioned), f (foreign).
        persistence: p (permanent), u (unlogged).
        identity: replica identity: d (default), f (full), i (index), n (nothing).
        has_key: whether it has a primary key.
        identity_is_key: whether an identity by index uses the primary key's index.
        published: whether the stack's publication names it.
        readable: whether the capture role may read it.
        row_security: whether row-level security is on.
        generated: its stored generated columns.
        twins: groups of its columns whose names differ in case only.
        inherited: whether tables inherit from it (a partitioned table's parts do not count).
        cursors: its columns of type refcursor.
        columns: all its columns; `key`: those of its primary key.
        chosen: whether the profile chooses it.
        excluded: its columns that the profile leaves out.
    """

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    identity: str
    has_key: bool
    identity_is_key: bool
    published: bool
    readable: bool
    row_security: bool
    generated: tuple[str, ...]
    inherited: bool = False
    twins: tuple[str, ...] = ()
    cursors: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    chosen: bool = True
    excluded: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def uncapturable(self) -> str | None:
        """Return why no setting makes this table capturable; None if it can be captured."""
        if self.kind == "f":
            return "a foreign table: its changes are not in this server's log"
        if self.persistence == "u":
            return "an unlogged table: its changes are not in the log"
        if self.twins:
            return (
                f"columns whose names differ in case only ({'; '.join(self.twins)}): the connector "
                "would stop at them; rename one"
            )
        if self.cursors:
            return (
                f"columns of type refcursor ({', '.join(self.cursors)}): a snapshot would open cursors "
                "by their values, and stop for all tables; make them text"
            )
        if self.inherited and not self.plain:
            return (
                "tables inherit from it, and its name has other characters than letters, digits and _: "
                "the connector cannot be told to read only its own rows"
            )
        if self.excluded_key:
            return (
                f"column_exclude leaves out {', '.join(self.excluded_key)} of its key: without it "
                "changes do not name their rows"
            )
        return None

    @property
    def excluded_key(self) -> tuple[str, ...]:
        return tuple(name for name in self.key if name in self.excluded)

    @property
    def plain(self) -> bool:
        """Whether Debezium can parse its name in every setting that takes names."""
        return _PLAIN_NAME.fullmatch(str(self)) is not None

    def own_rows(self) -> str | None:
        """Return the query for its own rows alone; None if no table inherits from it."""
        if not self.inherited:
            return None
        return sql.SQL("SELECT * FROM ONLY {}").format(self.identifier).as_string(None)

    def identity_problem(self) -> str | None:
        """Return why updates and deletes do not name the row they change; None if they do."""
        if self.identity == "n":
            return "replica identity NOTHING: updates and deletes do not say which row they change"
        if self.identity == "i" and not self.identity_is_key:
            return (
                "replica identity by an index that is not the primary key's: "
                "deletes do not carry the row's key"
            )
        if self.identity == "d" and not self.has_key:
            return (
                "it has no primary key, and its replica identity is not FULL: once it is published, "
                "the application's own UPDATE and DELETE would fail"
            )
        return None

    def identity_fix(self) -> sql.Composed:
        """Return the statement that fixes `identity_problem`."""
        identity = sql.SQL("DEFAULT" if self.has_key else "FULL")
        return sql.SQL("ALTER TABLE {} REPLICA IDENTITY {}").format(self.identifier, identity)

    def identity_parts(self) -> dict[str, sql.Composable]:
        """Return the parts of `identity.sql`, which records the change and makes it."""
        return {
            "table": self.identifier,
            "table_text": sql.Literal(self.identifier.as_string(None)),
            "identity": sql.SQL("DEFAULT" if self.has_key else "FULL"),
            "identity_letter": sql.Literal("d" if self.has_key else "f"),
        }

    def publish(self, publication: str) -> sql.Composed:
        """Return the statement that adds it to a publication."""
        # ONLY, because the children of an inheritance tree are separate tables.
        return sql.SQL("ALTER PUBLICATION {} ADD TABLE {} {}").format(
            sql.Identifier(publication),
            sql.SQL("ONLY" if self.kind == "r" else ""),
            self.identifier,
        )

    def unpublish(self, publication: str) -> sql.Composed:
        """Return the statement that removes it from a publication."""
        return sql.SQL("ALTER PUBLICATION {} DROP TABLE {} {}").format(
            sql.Identifier(publication),
            sql.SQL("ONLY" if self.kind == "r" else ""),
            self.identifier,
        )

    def grant(self, role: str) -> list[sql.Composed]:
        """Return the statements that let the capture role read it."""
        name = sql.Identifier(role)
        return [
            sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(self.schema), name),
            sql.SQL("GRANT SELECT ON TABLE {} TO {}").format(self.identifier, name),
        ]


def source_tables(
    connection: Connection, role: str, publication: str, choice: Choice = EVERYTHING
) -> list[SourceTable]:
    """Read all tables that a user may want to capture, ordered by schema and name.

    Args:
        role: the capture role, which decides `readable`.
        publication: the stack's publication, which decides `published`.
        choice: the profile's, which decides `chosen` and `excluded`.
    """
    values = {"publication": publication, "role": role, "own_schema": OWN_SCHEMA}
    rows = connection.execute(_TABLES, values).fetchall()
    return [_table(row, choice) for row in rows]


def _table(row: tuple[Any, ...], choice: Choice) -> SourceTable:
    *head, generated, inherited, names, cursors, columns, key = row
    _, schema, name, *_ = head
    lists = (tuple(differ_in_case(names)), tuple(cursors), tuple(columns), tuple(key))
    chosen = (choice.has(schema, name), choice.left_out(schema, name, columns))
    return SourceTable(*(*head, tuple(generated), inherited, *lists, *chosen))
