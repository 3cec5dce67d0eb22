"""Checks the source's catalog with each batch for tables that changed.

A check costs one round trip on a connection that stays open, and reads one digest for each table.
It follows the reading of the batch's events, so it shows the definitions of these events or later
ones.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg

from spark_streaming.capture_choice import EVERYTHING, Choice
from spark_streaming.contract.contract_store import CatalogUnreachableError
from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.contract.names import differ_in_case
from spark_streaming.contract.source_catalog import records_definitions
from spark_streaming.storage.connections import TCP_LIMITS, answer_within

log = logging.getLogger(__name__)
Table = tuple[str, str]
Answer = TypeVar("Answer")
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 10_000
# Batches wait for the check, and a server process that hangs ignores its own timeouts.
ANSWER_S = 15.0
# If the source did not answer, it is asked again only after this time, not with every batch.
RETRY_S = 10.0

_SETTINGS = """
select set_config('statement_timeout', %s, false),
       set_config('default_transaction_read_only', 'on', false),
       set_config('default_transaction_isolation', 'read committed', false)
"""
# An event cannot be later than the end of the log. `_BEFORE` reads the least end that is certain,
# `_AFTER` the greatest that is possible.
_BEFORE = """
select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end
        - '0/0'::pg_lsn)::bigint
"""
_AFTER = """
select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
        else pg_current_wal_insert_lsn() end - '0/0'::pg_lsn)::bigint
"""
_STAMPS = """
select n.nspname::text, c.relname::text, md5(concat_ws('|', c.oid, c.relreplident,
  (select string_agg(concat_ws(',', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull,
                               a.attgenerated, a.attstorage, a.attndims, a.atthasmissing,
                               (select string_agg(l.enumlabel, '/' order by l.enumsortorder)
                                from pg_enum l where l.enumtypid in (t.oid, t.typelem))),
                     ';' order by a.attnum)
   from pg_attribute a join pg_type t on t.oid = a.atttypid
   where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  (select string_agg(concat_ws(',', i.indexrelid, i.indkey, i.indisprimary, i.indisreplident,
                               i.indisvalid, i.indimmediate), ';' order by i.indexrelid)
   from pg_index i where i.indrelid = c.oid and i.indisunique){noted}))
from unnest(%(schemas)s::text[], %(tables)s::text[]) as w (schema, name)
join pg_namespace n on n.nspname = w.schema
join pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind in ('r', 'p')
"""
# Tables whose columns Debezium cannot distinguish, so the capture leaves them out. Names that are
# not ASCII are compared here, because the server may not be able to lower them.
_TWINS = """
select schema, name, array_agg(attname order by attnum) from (
    select n.nspname::text as schema, c.relname::text as name, a.attname::text as attname, a.attnum,
           count(*) over (partition by c.oid, lower(a.attname::text)) as same
    from pg_attribute a join pg_class c on c.oid = a.attrelid
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence = 'p'
      and n.nspname not in ('information_schema', 'headwater') and n.nspname !~ '^pg_'
      and a.attnum > 0 and not a.attisdropped
      and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass
                      and d.objid = c.oid and d.deptype = 'e')
) columns where same > 1 or attname !~ '^[ -~]*$' group by schema, name
"""
# All tables, in the order in which they were created.
_ALL = """
select n.nspname::text, c.relname::text
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence = 'p'
  and n.nspname not in ('information_schema', 'headwater') and n.nspname !~ '^pg_'
  and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass
                  and d.objid = c.oid and d.deptype = 'e')
order by c.oid
"""
_PUBLISHED = """
select n.nspname::text, c.relname::text
from pg_publication p join pg_publication_rel r on r.prpubid = p.oid
join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace
where p.pubname = %s and n.nspname <> 'headwater' order by c.oid
"""
# `COMMENT ON` a table (column 0) and its columns; "" is the table's own.
_COMMENTS = """
select n.nspname::text, c.relname::text, coalesce(a.attname::text, ''), d.description
from pg_description d join pg_class c on c.oid = d.objoid
join pg_namespace n on n.oid = c.relnamespace
left join pg_attribute a on a.attrelid = c.oid and a.attnum = d.objsubid and d.objsubid > 0
where d.classoid = 'pg_class'::regclass and c.relkind in ('r', 'p') and not c.relispartition
  and n.nspname not in ('information_schema', 'headwater') and n.nspname !~ '^pg_'
"""
# With the newest record, even a definition that was changed back at once is seen.
_AND_NOTED = """,
  (select max(d.id) from headwater.definitions d
   where d.schema_name = n.nspname and d.table_name = c.relname)"""
_PLAIN_STAMPS = _STAMPS.format(noted="")
_NOTED_STAMPS = _STAMPS.format(noted=_AND_NOTED)


@dataclass(frozen=True)
class CatalogCheck:
    """What one check of the catalog showed.

    Args:
        after_lsn: everything committed up to here was visible.
        by_lsn: everything that was visible was committed by this position.
        stamps: a digest of each existing table, which differs if the table changed.
    """

    after_lsn: Lsn
    by_lsn: Lsn
    stamps: Mapping[Table, str]


class CatalogWatch:
    """One connection to the source's catalog. Safe for use by several threads.

    `choice`: tables outside it are not listed as ones that could be captured.
    """

    def __init__(
        self,
        dsn: str,
        clock: Callable[[], float] = time.monotonic,
        choice: Choice = EVERYTHING,
    ) -> None:
        self._choice = choice
        self._dsn = dsn
        self._clock = clock
        self._connection: psycopg.Connection[Any] | None = None
        self._failed_at = -RETRY_S
        self._failure = ""
        self._stamps = _PLAIN_STAMPS
        self._lock = threading.Lock()

    def check(self, tables: Iterable[Table]) -> CatalogCheck:
        """Check some tables. Raises: CatalogUnreachableError, at once if a check just failed."""
        wanted = sorted(set(tables))
        return self._asked(lambda: self._check(wanted))

    def colliding_columns(self) -> dict[Table, str]:
        """The tables with columns whose names differ in case only, each with those names.

        Raises: CatalogUnreachableError, as `check`.
        """
        rows = self._asked(lambda: self._connected().execute(_TWINS).fetchall())
        found = {
            (schema, table): differ_in_case(names)
            for schema, table, names in rows
            if self._choice.has(schema, table)
        }
        return {table: "; ".join(names) for table, names in found.items() if names}

    def tables(self) -> list[Table]:
        """All tables of the source that could be captured, the oldest first.

        Raises: CatalogUnreachableError, as `check`.
        """
        rows = self._asked(lambda: self._connected().execute(_ALL).fetchall())
        return [(schema, table) for schema, table in rows if self._choice.has(schema, table)]

    def comments(self) -> dict[Table, dict[str, str]]:
        """The source's comments, as `read_comments` returns them.

        Raises: CatalogUnreachableError, as `check`.
        """
        return self._asked(lambda: read_comments(self._connected()))

    def published(self, publication: str) -> list[Table]:
        """The tables that a publication names, the oldest first.

        Raises: CatalogUnreachableError, as `check`.
        """
        rows = self._asked(lambda: self._connected().execute(_PUBLISHED, [publication]).fetchall())
        return [(schema, table) for schema, table in rows]

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        with self._lock:
            if self._clock() - self._failed_at < RETRY_S:
                raise CatalogUnreachableError(self._failure)
            try:
                try:
                    return self._answer(ask)
                except psycopg.OperationalError:
                    self.close()  # the connection may have been cut since the last check
                    return self._answer(ask)
            except psycopg.Error as error:
                self.close()
                self._failed_at = self._clock()
                self._failure = (
                    "the source's catalog could not be read\n"
                    f"  detail: {type(error).__name__}: {str(error).strip()}\n"
                    "  hint: HEADWATER_CAPTURE_DSN must reach the source"
                )
                raise CatalogUnreachableError(self._failure) from error

    def _answer(self, ask: Callable[[], Answer]) -> Answer:
        with answer_within(self._connected(), ANSWER_S):
            return ask()

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._dsn,
                **{**TCP_LIMITS, "connect_timeout": CONNECT_TIMEOUT_S},
                autocommit=True,
                application_name="headwater silver",
            )
            self._connection.execute(_SETTINGS, [str(STATEMENT_TIMEOUT_MS)])
            self._stamps = _NOTED_STAMPS if records_definitions(self._connection) else _PLAIN_STAMPS
        return self._connection

    def _check(self, wanted: list[Table]) -> CatalogCheck:
        connection = self._connected()
        with connection.pipeline():
            # Three statements; each sees the rows that are committed when it runs.
            before = connection.execute(_BEFORE)
            stamps = connection.execute(self._stamps, _named(wanted))
            after = connection.execute(_AFTER)
        return CatalogCheck(
            _lsn(before),
            _lsn(after),
            _by_table(stamps),
        )

    def close(self) -> None:
        """End the connection; the next check opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _lsn(cursor: psycopg.Cursor[Any]) -> Lsn:
    row = cursor.fetchone()
    return Lsn(int(row[0])) if row is not None and row[0] is not None else LOG_START


def read_comments(connection: psycopg.Connection[Any]) -> dict[Table, dict[str, str]]:
    """The source's `COMMENT ON`: table → column (`""` is the table's own) → text."""
    found: dict[Table, dict[str, str]] = {}
    for schema, table, column, text in connection.execute(_COMMENTS).fetchall():
        found.setdefault((schema, table), {})[column] = text
    return found


def table_stamps(connection: psycopg.Connection[Any], tables: Iterable[Table]) -> dict[Table, str]:
    """A digest of each of these tables that exists; it differs if the table's shape changed."""
    return _by_table(connection.execute(_PLAIN_STAMPS, _named(tables)))


def _named(tables: Iterable[Table]) -> dict[str, list[str]]:
    wanted = list(tables)
    return {"schemas": [s for s, _ in wanted], "tables": [t for _, t in wanted]}


def _by_table(stamps: psycopg.Cursor[Any]) -> dict[Table, str]:
    return {(schema, table): stamp for schema, table, stamp in stamps.fetchall()}
