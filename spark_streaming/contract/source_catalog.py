"""Reads contracts from the source's catalog."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
from psycopg.rows import dict_row

from spark_streaming.capture_choice import EVERYTHING, Choice
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.kinds import ARRAY, TEXT_AS_IS
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.names import INTERNAL_SCHEMA, silver_columns, topic_of
from spark_streaming.contract.postgres_text import TEXT_SETTINGS
from spark_streaming.contract.types import Column, kind_of

_IDENTITIES = {"d": "default", "f": "full", "i": "index", "n": "nothing"}

# Types and defaults are read as text; the search path decides which names are qualified.
TEXT_FORMS = {"search_path": "pg_catalog, pg_temp", **TEXT_SETTINGS}
_SEARCH_PATH = (
    "select current_setting('search_path') as path, set_config('search_path', %s, true) as now"
)
_SET_FORMS = (
    "select set_config(name, value, true) from unnest(%s::text[], %s::text[]) f (name, value)"
)

_TABLES = """
select n.nspname, c.relname
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence = 'p'
  and n.nspname not in ('information_schema', %(internal)s) and n.nspname !~ '^pg_'
order by 1, 2
"""

_TABLE = """
select c.oid::bigint, c.relreplident::text as identity
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = %(schema)s and c.relname = %(table)s and c.relkind in ('r', 'p')
"""

# Follow a domain to its base type; the innermost modifier that is set counts.
_COLUMNS = """
with recursive base (attnum, type, modifier) as (
    select attnum, atttypid, atttypmod from pg_attribute
    where attrelid = %(oid)s and attnum > 0 and not attisdropped
  union all
    select b.attnum, t.typbasetype,
           case when b.modifier >= 0 then b.modifier else t.typtypmod end
    from base b join pg_type t on t.oid = b.type where t.typtype = 'd'
)
select a.attname as name,
       regexp_replace(format_type(a.atttypid, a.atttypmod), '^public[.]', '') as pg_type,
       not a.attnotnull as nullable, a.attgenerated <> '' as generated,
       a.attstorage <> 'p' as toastable, a.attndims as dimensions, b.modifier,
       -- A partitioned table's older rows are in its partitions, and so is their default.
       case when a.atthasmissing then (a.attmissingval::text::text[])[1] else (
           select (m.attmissingval::text::text[])[1]
           from pg_partition_tree(%(oid)s::oid) p join pg_attribute m on m.attrelid = p.relid
           where m.attname = a.attname and m.atthasmissing limit 1) end as missing_value,
       t.typname::text as type, t.typtype::text as type_kind,
       -- False for int2vector and oidvector, which print as plain lists of numbers.
       t.typcategory = 'A' and coalesce(e.typarray = t.oid, false) as is_array,
       e.typname::text as element, e.typtype::text as element_kind, a.attnum::int, a.xmin::text::bigint as xid,
       -- An added column's default is kept in the catalog, unless it differs for each row.
       case when a.attidentity <> '' then 'generated as identity'
            when a.atthasdef and a.attgenerated = '' and not a.atthasmissing
            then (select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d
                  where d.adrelid = a.attrelid and d.adnum = a.attnum) end as filled_by,
       array(select l.enumlabel::text from pg_enum l where l.enumtypid in (t.oid, e.oid)
             order by l.enumsortorder) as labels
from pg_attribute a
join base b on b.attnum = a.attnum
join pg_type t on t.oid = b.type and t.typtype <> 'd'
left join pg_type e on e.oid = t.typelem
where a.attrelid = %(oid)s
order by a.attnum
"""

# The newest transaction that touched columns or indexes; by age, since the counter wraps around.
_XID = """
select m.xmin::text::bigint as xid from (
    select xmin from pg_attribute where attrelid = %(oid)s and attnum > 0
  union all
    select xmin from pg_index where indrelid = %(oid)s
) m order by age(m.xmin) limit 1
"""

# A deferrable index cannot identify rows: while its check is deferred, keys may be duplicates.
_KEY = """
select a.attname
from pg_index i
cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
where i.indrelid = %(oid)s and k.place <= i.indnkeyatts and i.indisvalid and i.indimmediate
  and case when %(identity)s = 'i' then i.indisreplident else i.indisprimary end
order by k.place
"""


# Definitions as the source's own event trigger noted them (see debezium/sql/definitions.sql).
_NOTES_ARE_THERE = """
select coalesce(has_table_privilege(to_regclass('headwater.definitions'), 'select'), false)
"""
_NOTED = """
select lsn, xid, oid::bigint, identity, columns, key from headwater.definitions
where schema_name = %(schema)s and table_name = %(table)s and lsn > %(after)s
order by lsn, id
"""
_NOTED_UP_TO = """
select coalesce(max(lsn), 0) from headwater.definitions
where schema_name = %(schema)s and table_name = %(table)s
"""


def definition_queries(table: str, identity: str) -> tuple[str, str]:
    """Return the queries for a table's columns and for its key, for the source's event trigger.

    Args:
        table, identity: SQL expressions for the table's oid and its `relreplident`.
    """
    columns = _COLUMNS.replace("%(oid)s", table)
    key = _KEY.replace("%(oid)s", table).replace("%(identity)s", identity)
    return columns.strip(), key.strip()


def records_definitions(conn: psycopg.Connection[Any]) -> bool:
    """Whether the source records each definition of a table, and this role may read the records."""
    [(there,)] = _plain(conn.execute(_NOTES_ARE_THERE))
    return bool(there)


def list_tables(conn: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Return the source's ordinary and partitioned tables as (schema, table), sorted.

    Left out: partitions (their parent stands for them), temporary, unlogged and foreign tables,
    system schemas, and INTERNAL_SCHEMA.
    """
    with conn.transaction(), conn.cursor() as cursor:
        cursor.execute(_TABLES, {"internal": INTERNAL_SCHEMA})
        return [(str(row[0]), str(row[1])) for row in _plain(cursor)]


def read_contract(
    conn: psycopg.Connection[Any],
    schema: str,
    table: str,
    version: int = 1,
    choice: Choice = EVERYTHING,
) -> Contract | None:
    """Return a table's contract from the source's catalog as it is now; None if there is no table.

    Args:
        schema, table: the names in the source, or those in a topic's name (see `names.topic_of`).
        choice: says which of the table's columns are captured; the others are left out.
    Raises: psycopg.Error if the catalog cannot be read.
    """
    with conn.transaction(), conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_SET_FORMS, [list(TEXT_SETTINGS), list(TEXT_SETTINGS.values())])
        found = cursor.execute(_TABLE, {"schema": schema, "table": table}).fetchone()
        if found is None:
            named = _named_in_topic(conn, schema, table)
            if named is None:
                return None
            schema, table = named
            found = cursor.execute(_TABLE, {"schema": schema, "table": table}).fetchone()
        if found is None:
            return None
        # The path decides whether a type's name is qualified; it is restored for later statements.
        before = cursor.execute(_SEARCH_PATH, [TEXT_FORMS["search_path"]]).fetchone()
        described = cursor.execute(_COLUMNS, {"oid": found["oid"]}).fetchall()
        cursor.execute(_SEARCH_PATH, [before["path"] if before else ""])
        key = cursor.execute(_KEY, {"oid": found["oid"], "identity": found["identity"]}).fetchall()
        newest = cursor.execute(_XID, {"oid": found["oid"]}).fetchone()
        noted = None
        if records_definitions(conn):
            [(noted,)] = _plain(conn.execute(_NOTED_UP_TO, {"schema": schema, "table": table}))
    keyed = [row["attname"] for row in key]
    contract = _contract((schema, table), found, described, keyed, choice)
    return replace(
        contract, version=version, xid=newest["xid"] if newest else None, noted_lsn=noted
    )


def recorded_contracts(
    conn: psycopg.Connection[Any],
    schema: str,
    table: str,
    after_lsn: Lsn,
    choice: Choice = EVERYTHING,
) -> list[Contract]:
    """Return each recorded definition that a table got after a log position, in order.

    Each has its exact place in the log (`begins_at_lsn`), because it was recorded while the table
    was locked. Empty if the source does not record definitions.
    """
    if not records_definitions(conn):
        return []
    with conn.cursor(row_factory=dict_row) as cursor:
        asked = {"schema": schema, "table": table, "after": after_lsn}
        rows = cursor.execute(_NOTED, asked).fetchall()
    return [
        replace(
            _contract((schema, table), row, row["columns"], row["key"], choice),
            xid=row["xid"],
            begins_at_lsn=row["lsn"],
            noted_lsn=row["lsn"],
        )
        for row in rows
    ]


def _contract(
    names: tuple[str, str],
    found: dict[str, Any],
    described: list[dict[str, Any]],
    key: list[str],
    choice: Choice,
) -> Contract:
    excluded = set(choice.left_out(*names, (row["name"] for row in described))) - set(key)
    left_out = [row for row in described if row["generated"] or row["name"] in excluded]
    carried = [row for row in described if row not in left_out]
    in_silver = silver_columns(row["name"] for row in carried)
    columns = tuple(_column(row, name) for row, name in zip(carried, in_silver, strict=True))
    by_source = {column.source_name: column.name for column in columns}
    return Contract(
        schema=names[0],
        table=names[1],
        columns=columns,
        key=tuple(by_source[name] for name in key),
        replica_identity=_IDENTITIES[found["identity"]],
        left_out=tuple(row["name"] for row in left_out),
        left_out_at=tuple((row["attnum"], row["pg_type"], row["nullable"]) for row in left_out),
        oid=found["oid"],
    )


def _named_in_topic(
    conn: psycopg.Connection[Any], schema: str, table: str
) -> tuple[str, str] | None:
    """Return the table whose topic has this name, if there is exactly one."""
    topic = topic_of("x", schema, table)
    found = [names for names in list_tables(conn) if topic_of("x", *names) == topic]
    return found[0] if len(found) == 1 else None


def _column(row: dict[str, Any], name: str) -> Column:
    element: str | None = None
    base_type = row["type"]
    if row["is_array"]:
        element, precision, scale = kind_of(row["element"], row["element_kind"], row["modifier"])
        base_type = row["element"]
        # A list has one dimension, and only elements that have a kind of their own.
        kind = ARRAY
        if element == TEXT_AS_IS or row["element_kind"] not in ("b", "e") or row["dimensions"] > 1:
            kind, element, precision, scale = TEXT_AS_IS, None, None, None
    else:
        kind, precision, scale = kind_of(row["type"], row["type_kind"], row["modifier"])
    return Column(
        name=name,
        pg_type=row["pg_type"],
        kind=kind,
        nullable=row["nullable"],
        precision=precision,
        scale=scale,
        element=element,
        toastable=row["toastable"],
        missing_value=row["missing_value"],
        source=row["name"] if row["name"] != name else None,
        base_type=base_type,
        attnum=row["attnum"],
        labels=tuple(row["labels"]),
        filled_by=row["filled_by"],
        xid=row["xid"],
    )


def _plain(cursor: psycopg.Cursor[Any]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) if isinstance(row, dict) else row for row in cursor]
