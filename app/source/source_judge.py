"""Turns the facts about a source database into findings; pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from app.source.definition_notes import notes_finding
from app.source.facts import Facts
from app.source.findings import (
    LEFT_OUT,
    MISSING,
    NOTE,
    OK,
    Finding,
    Fix,
    by_hand,
    from_file,
    runnable,
)
from app.source.shared_names import NOT_CHOSEN, shared_names
from app.source.source_tables import Names, SourceTable
from spark_streaming.contract.names import Collision

VERSION_MIN, VERSION_MAX = 13, 18
INFINITE_INTERVALS = 170_000
_COLUMNS_NAMED_MAX = 5


def judge(facts: Facts, verifier: str) -> list[Finding]:
    """Return every finding about a source: the server first, then slot, role, publication, tables.

    Args:
        verifier: the SCRAM verifier of the capture role's password; SQL may show it.
    """
    if facts.foreign_owners:  # no statement may run in a schema that another role has prepared
        return [*_server(facts), _own_schema(facts)]
    return [
        *_server(facts),
        _slot(facts),
        *_role(facts, verifier),
        _own_schema(facts),
        *_publication(facts),
        *_tables(facts),
        *_values(facts),
        *_infinite_intervals(facts),
        notes_finding(facts.notes, facts.role.name),
    ]


def _server(facts: Facts) -> Iterator[Finding]:
    major = facts.version // 10_000
    status = OK if VERSION_MIN <= major <= VERSION_MAX else NOTE if major > VERSION_MAX else MISSING
    yield Finding(
        "version", status, f"PostgreSQL {major}; {VERSION_MIN} to {VERSION_MAX} are supported"
    )
    if facts.address.host.startswith("/"):
        yield Finding(
            "address", MISSING, "a socket file, which the connector cannot use",
            (Fix("-- give a host and a port: postgresql://user:password@127.0.0.1:5432/database"),),
        )  # fmt: skip
    if "," in facts.address.host:
        yield Finding(
            "address", MISSING, "several hosts, of which the connector can use only one",
            (Fix("-- give the primary's address alone"),),
        )  # fmt: skip
    if not facts.private:
        yield Finding(
            "encryption", NOTE, "none: others can read passwords and rows on the network",
            (Fix("-- if the server speaks TLS: add ?sslmode=verify-full&sslrootcert=FILE to the DSN"),),
        )  # fmt: skip
    if facts.tls_problem:
        yield Finding("tls", MISSING, facts.tls_problem, (Fix("-- then name it in the DSN"),))
    if facts.in_recovery:
        yield Finding(
            "primary", MISSING, "a standby: heartbeats need a server that accepts writes",
            (Fix("-- give the primary's address"),),
        )  # fmt: skip
    if facts.wal_level == "logical":
        yield Finding("wal_level", OK, "logical")
    else:
        fix = by_hand("ALTER SYSTEM SET wal_level = 'logical'")
        yield Finding("wal_level", MISSING, facts.wal_level, (fix, _RESTART))
    yield _room("max_replication_slots", facts.slots_used, facts.slots_max, facts.slot is not None)
    # A slot that is in use has a sender already.
    active = facts.slot is not None and facts.slot.active
    yield _room("max_wal_senders", facts.senders_used, facts.senders_max, active)
    if facts.slot_wal_keep == "-1":
        fixes = (
            by_hand("ALTER SYSTEM SET max_slot_wal_keep_size = '20GB'"),
            by_hand("SELECT pg_reload_conf()"),
        )
        observed = "no limit: a slot that nobody reads would keep WAL until the disk is full"
        yield Finding("max_slot_wal_keep_size", NOTE, observed, fixes)
    else:
        yield Finding("max_slot_wal_keep_size", OK, facts.slot_wal_keep)


_RESTART = Fix("-- then restart the server: it takes effect only there")


def _room(setting: str, used: int, limit: int, ours: bool) -> Finding:
    observed = f"{used} of {limit} used"
    if ours or used < limit:
        return Finding(setting, OK, observed)
    fix = by_hand(f"ALTER SYSTEM SET {setting} = {limit + 4}")
    return Finding(setting, MISSING, f"{observed}: none is free", (fix, _RESTART))


_OWN_NAMES = Fix(
    "-- if another stack captures this server: give this stack, in a --profile, its own "
    "slot_name, publication_name and capture_role"
)


def _slot(facts: Facts) -> Finding:
    slot, name = facts.slot, facts.names.slot
    check = f"slot {name}"
    if slot is None:
        return Finding(check, OK, "it does not exist yet; the connector makes it")
    drop = by_hand(f"SELECT pg_drop_replication_slot('{name}')")
    if slot.plugin != "pgoutput" or slot.database != facts.address.database:
        observed = f"plugin {slot.plugin}, database {slot.database}: it belongs to somebody else"
        return Finding(check, MISSING, observed, (_OWN_NAMES, drop))
    if slot.wal_status == "lost":
        observed = (
            "lost: it was not read for a long time, so the server removed the WAL that it needs; "
            "`headwater recover` makes a new one, and reads the tables again"
        )
        return Finding(check, NOTE, observed)
    state = "in use" if slot.active else "not in use"
    return Finding(check, OK, f"{state}, WAL {slot.wal_status}")


def _role(facts: Facts, verifier: str) -> Iterator[Finding]:
    role = facts.role
    name = sql.Identifier(role.name)
    check = f"role {role.name}"
    if not role.exists:
        file = "role_managed" if facts.managed_replication_role else "role"
        create = from_file(file, role=name, password=sql.Literal(verifier))
        yield Finding(check, MISSING, "not there", tuple(create), "make the role that captures")
        return
    fixes: list[Fix] = []
    problems: list[str] = []
    if not role.may_log_in:
        problems.append("may not log in")
        fixes.append(runnable(sql.SQL("ALTER ROLE {} LOGIN").format(name)))
    if not role.may_replicate:
        problems.append("may not replicate")
        grant = "GRANT rds_replication TO {}" if facts.managed_replication_role else (
            "ALTER ROLE {} REPLICATION"
        )  # fmt: skip
        fixes.append(runnable(sql.SQL(grant).format(name)))
    if "password" in role.login_error:
        problems.append("its password is not this stack's")
        passwords = from_file("role_password", role=name, password=sql.Literal(verifier))
        if role.in_use:  # by somebody who knows the other password
            passwords = [_OWN_NAMES]
        fixes += passwords
    elif role.login_error or role.replication_error:
        problems.append(role.login_error or f"no replication: {role.replication_error}")
    if problems:
        yield Finding(check, MISSING, "; ".join(problems), tuple(fixes))
    elif role.superuser:
        yield Finding(check, NOTE, "it is a superuser, which is more than capturing needs")
    else:
        yield Finding(check, OK, "it may log in and replicate, and is not a superuser")


def _own_schema(facts: Facts) -> Finding:
    check = "schema headwater"
    if facts.foreign_owners:
        # Its owner could have put a trigger or function there that runs with this session's rights.
        observed = f"it, or a part of it, belongs to {', '.join(facts.foreign_owners)}, who is not a superuser"
        look = Fix("-- see what is in it, then: ALTER SCHEMA headwater OWNER TO, or DROP SCHEMA")
        return Finding(check, MISSING, observed, (look,))
    absent = [name for name in facts.names.own_tables if name not in facts.own_tables]
    own = own_parts(facts.names)
    grants = from_file("schema_grants", role=sql.Identifier(facts.role.name), **own)
    if absent:
        observed = f"not there: {', '.join(absent)}"
        made = (*from_file("schema", **own), *from_file("identities"))
        purpose = "make it, with its small tables, and let the capture role write them"
        return Finding(check, MISSING, observed, (*made, *grants), purpose)
    if not facts.own_tables_writable:
        return Finding(check, MISSING, "the capture role may not write into it", tuple(grants))
    if not facts.records_identities and facts.may_record:  # made by an earlier version
        observed = "it has no table that records replica identities before they are changed"
        made = tuple(from_file("identities"))
        return Finding(check, NOTE, observed, made, "make that table")
    return Finding(check, OK, "heartbeat and signal, writable by the capture role")


def own_parts(names: Names) -> dict[str, sql.Composable]:
    """Return the stack's own objects under the names that the SQL files have for them."""
    return {
        "publication": sql.Identifier(names.publication),
        "heartbeat": names.heartbeat_table,
        "signal": names.signal_table,
    }


def _publication(facts: Facts) -> Iterator[Finding]:
    found = facts.publication
    publication = facts.names.publication
    check = f"publication {publication}"
    create = from_file("publication", **own_parts(facts.names))
    if found is None:
        yield Finding(
            check, MISSING, "not there", tuple(create), "make it; tables are added by name"
        )
        return
    name = sql.Identifier(publication)
    if found.all_tables:
        again = (
            by_hand(f"DROP PUBLICATION {publication}"),
            *(Fix(fix.shown) for fix in create),
        )
        observed = "it is FOR ALL TABLES: tables without a key would refuse UPDATE and DELETE"
        yield Finding(check, MISSING, observed, again)
        return
    if not (found.publishes_all and found.via_root):
        fix = sql.SQL(
            "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate', "
            "publish_via_partition_root = true)"
        ).format(name)
        observed = (
            "it does not publish every operation, or publishes partitions under their own names"
        )
        yield Finding(check, MISSING, observed, (runnable(fix),))
        return
    for table in found.narrowed:
        again = (
            by_hand(f"ALTER PUBLICATION {publication} DROP TABLE {table}"),
            by_hand(f"ALTER PUBLICATION {publication} ADD TABLE {table}"),
        )
        yield Finding(check, MISSING, f"it publishes only some columns or rows of {table}", again)
    count = sum(table.published for table in facts.tables)
    yield Finding(check, OK, f"names {count} of {len(facts.tables)} tables")


def _tables(facts: Facts) -> Iterator[Finding]:
    shared = shared_names(facts.tables)
    for table in facts.tables:
        if not table.chosen:
            yield _not_chosen(facts, table)
        elif table in shared:
            yield _shared(facts, table, shared[table])
        else:
            yield _table(facts, table)


def _not_chosen(facts: Facts, table: SourceTable) -> Finding:
    """Judge a table that is not chosen: publishing it would only hold back the server's log."""
    check = f"table {table}"
    if not table.published:
        return Finding(check, LEFT_OUT, NOT_CHOSEN)
    fix = runnable(table.unpublish(facts.names.publication))
    return Finding(check, MISSING, f"published, but {NOT_CHOSEN}", (fix,))


def _shared(facts: Facts, table: SourceTable, found: Collision) -> Finding:
    check = f"table {table}"
    fixes = []
    if table.published and found.in_kafka:
        fixes = [runnable(table.unpublish(facts.names.publication))]
    return Finding(check, LEFT_OUT, found.reason, tuple(fixes))


def _table(facts: Facts, table: SourceTable) -> Finding:
    check = f"table {table}"
    never = table.uncapturable()
    if never and table.published:
        fix = runnable(table.unpublish(facts.names.publication))
        return Finding(check, MISSING, never, (fix,))
    if never:
        return Finding(check, LEFT_OUT, never)
    fixes: list[Fix] = []
    problem = table.identity_problem()
    if problem:
        fixes.append(_identity(facts, table))
    if table.row_security and not facts.role.bypasses_row_security:
        problem = problem or "row-level security would hide rows from the capture role's snapshot"
        role = sql.Identifier(facts.role.name)
        fixes.append(runnable(sql.SQL("ALTER ROLE {} BYPASSRLS").format(role)))
    if not table.readable:
        fixes += [runnable(statement) for statement in table.grant(facts.role.name)]
    if not table.published and facts.slot is None:
        fixes.append(runnable(table.publish(facts.names.publication)))
    elif not table.published:
        # Its existing rows need a snapshot, too; the running stack makes it (`app/capture`).
        fixes.append(Fix("-- the running stack adds it, if it was started with --apply"))
    if problem:
        # Published as it is, it would stop the connector or the application.
        return Finding(check, MISSING if table.published else LEFT_OUT, problem, tuple(fixes))
    if table.published and not table.readable:
        return Finding(
            check, MISSING, "published, but the capture role may not read it", tuple(fixes)
        )
    if not table.published:
        return Finding(check, LEFT_OUT, "not in the publication", tuple(fixes))
    return _carried(facts, table)


def _identity(facts: Facts, table: SourceTable) -> Fix:
    """Change a replica identity, and record the previous one if the source has a table for that."""
    shown = runnable(table.identity_fix())
    if not facts.may_record:
        return shown
    steps = from_file("identity", **table.identity_parts())
    return Fix(shown.shown, sql.SQL(";\n").join([step.run for step in steps if step.run]))


def _carried(facts: Facts, table: SourceTable) -> Finding:
    remarks = []
    if table.excluded:
        remarks.append(f"left out by column_exclude: {', '.join(table.excluded)}")
    if table.generated:  # a publication may send stored ones since 18; the lake does without
        names = ", ".join(table.generated)
        remarks.append(f"left out, because generated columns are not in the log: {names}")
    as_text = facts.as_text.get(str(table), ())
    if as_text:
        remarks.append(f"carried as text: {', '.join(as_text)}")
    if not table.has_key:
        remarks.append("no key: equal rows are kept as copies")
    return Finding(f"table {table}", NOTE if remarks else OK, "; ".join(remarks) or "captured")


def _values(facts: Facts) -> Iterator[Finding]:
    """Make one note for all columns that may have values which silver cannot hold."""
    if not facts.limited:
        return
    kinds = []
    for beyond, columns in sorted(facts.limited.items()):
        named = ", ".join(columns[:_COLUMNS_NAMED_MAX])
        more = len(columns) - _COLUMNS_NAMED_MAX
        kinds.append(f"{beyond}: in {named}" + (f" and {more} more" if more > 0 else ""))
    yield Finding(
        "values beyond silver's types",
        NOTE,
        "a row with one of these goes to ops.quarantine with its unchanged event, unless the "
        'column\'s contract file says `type = "text"` '
        f"(docs/types.md). {'. '.join(kinds)}",
    )


def _infinite_intervals(facts: Facts) -> Iterator[Finding]:
    """Note interval columns: since Postgres 17 they may be infinite, which the driver reads as 0."""
    if facts.version < INFINITE_INTERVALS or not facts.intervals:
        return
    named = ", ".join(facts.intervals[:_COLUMNS_NAMED_MAX])
    more = len(facts.intervals) - _COLUMNS_NAMED_MAX
    yield Finding(
        "infinite intervals",
        NOTE,
        "`infinity` and `-infinity` reach the lake as 00:00:00, like a real zero; "
        f"`headwater verify` names such rows: {named}" + (f" and {more} more" if more > 0 else ""),
    )
