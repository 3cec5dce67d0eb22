"""The objects of a database without its rows, to compare before and after an action that must leave no trace."""

from __future__ import annotations

from typing import Any

import psycopg

# Name → a query for all objects of one kind, without identifiers that the server assigns.
QUERIES = {
    "schemas": """
        SELECT n.nspname, pg_get_userbyid(n.nspowner), {acl_n} FROM pg_namespace n
        WHERE n.nspname !~ '^pg_(toast|temp)'""",
    "relations": """
        SELECT n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relreplident::text,
               (SELECT i.indexrelid::regclass::text FROM pg_index i
                WHERE i.indrelid = c.oid AND i.indisreplident),
               pg_get_userbyid(c.relowner), c.relrowsecurity, {acl_c}
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'""",
    "columns": """
        SELECT a.attrelid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod),
               a.attnotnull, a.attacl::text
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE a.attnum > 0 AND NOT a.attisdropped AND n.nspname !~ '^pg_'
          AND n.nspname <> 'information_schema'""",
    "functions": """
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'""",
    "event triggers": "SELECT evtname, evtenabled::text FROM pg_event_trigger",
    "publications": "SELECT pubname, puballtables FROM pg_publication",
    "published": "SELECT pubname, schemaname, tablename FROM pg_publication_tables",
    "slots": "SELECT slot_name, plugin, database FROM pg_replication_slots",
    "roles": """
        SELECT rolname, rolsuper, rolcreaterole, rolcanlogin, rolreplication, rolbypassrls
        FROM pg_roles WHERE rolname !~ '^pg_'""",
    "members": "SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members",
    "default privileges": """
        SELECT defaclrole::regrole::text, defaclnamespace::regnamespace::text, defaclacl::text
        FROM pg_default_acl""",
    "comments": "SELECT classoid::regclass::text, description FROM pg_shdescription",
    "databases": """
        SELECT d.datname, pg_get_userbyid(d.datdba), {acl_d} FROM pg_database d
        WHERE d.datname = current_database()""",
}
# Privileges in one form, whether they are implicit defaults or explicit.
_ACL = """(SELECT array_agg(x ORDER BY x) FROM (
    SELECT concat_ws(' ', x.grantee::regrole::text, x.privilege_type, x.is_grantable) AS x
    FROM aclexplode(coalesce({acl}, acldefault('{kind}', {owner}))) x) y)::text"""
_FORMS = {
    "acl_n": _ACL.format(acl="n.nspacl", kind="n", owner="n.nspowner"),
    "acl_c": _ACL.format(acl="c.relacl", kind="r", owner="c.relowner"),
    "acl_d": _ACL.format(acl="d.datacl", kind="d", owner="d.datdba"),
}


def catalog_of(dsn: str) -> dict[str, set[tuple[Any, ...]]]:
    """Kind → one row for each object in this database (roles and slots: of its server)."""
    with psycopg.connect(dsn) as connection:
        return {
            name: set(connection.execute(query.format(**_FORMS).encode()).fetchall())
            for name, query in QUERIES.items()
        }
