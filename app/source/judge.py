"""What the facts of a source database mean for capturing it: pure, one finding a thing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg import sql

from app.source.definitions import notes_finding
from app.source.facts import Facts
from app.source.findings import (
    LEFT_OUT,
    MISSING,
    NOTE,
    OK,
    Finding,
    Mend,
    by_hand,
    from_file,
    runnable,
)
from app.source.tables import Names, SourceTable
from spark_streaming.naming import collisions

VERSION_MIN, VERSION_MAX = 13, 18
_COLUMNS_NAMED_MAX = 5


def judge(facts: Facts, verifier: str) -> list[Finding]:
    """Every finding about a source, server first, then role, publication, slot and tables.

    Args:
        verifier: the capture role's password as it may be put into SQL (a SCRAM verifier).
    """
    return [
        *_server(facts),
        _slot(facts),
        *_role(facts, verifier),
        _own_schema(facts),
        *_publication(facts),
        *_tables(facts),
        *_values(facts),
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
            (Mend("-- give a host and a port: postgresql://user:password@127.0.0.1:5432/database"),),
        )  # fmt: skip
    if "," in facts.address.host:
        yield Finding(
            "address", MISSING, "several hosts, of which the connector can use only one",
            (Mend("-- give the primary's address alone"),),
        )  # fmt: skip
    if facts.tls_problem:
        yield Finding("tls", MISSING, facts.tls_problem, (Mend("-- then name it in the DSN"),))
    if facts.in_recovery:
        yield Finding(
            "primary", MISSING, "a standby: heartbeats need a server that takes writes",
            (Mend("-- give the primary's address"),),
        )  # fmt: skip
    if facts.wal_level == "logical":
        yield Finding("wal_level", OK, "logical")
    else:
        mend = by_hand("ALTER SYSTEM SET wal_level = 'logical'")
        yield Finding("wal_level", MISSING, facts.wal_level, (mend, _RESTART))
    yield _room("max_replication_slots", facts.slots_used, facts.slots_max, facts.slot is not None)
    # A slot that is in use has a sender already.
    active = facts.slot is not None and facts.slot.active
    yield _room("max_wal_senders", facts.senders_used, facts.senders_max, active)
    if facts.slot_wal_keep == "-1":
        mends = (
            by_hand("ALTER SYSTEM SET max_slot_wal_keep_size = '20GB'"),
            by_hand("SELECT pg_reload_conf()"),
        )
        observed = "no limit: a slot that nobody reads would keep WAL until the disk is full"
        yield Finding("max_slot_wal_keep_size", NOTE, observed, mends)
    else:
        yield Finding("max_slot_wal_keep_size", OK, facts.slot_wal_keep)


_RESTART = Mend("-- then restart the server: it takes effect only there")


def _room(setting: str, used: int, limit: int, ours: bool) -> Finding:
    observed = f"{used} of {limit} used"
    if ours or used < limit:
        return Finding(setting, OK, observed)
    mend = by_hand(f"ALTER SYSTEM SET {setting} = {limit + 4}")
    return Finding(setting, MISSING, f"{observed}: none is free", (mend, _RESTART))


_OWN_NAMES = Mend(
    "-- where another stack captures this server: give this one, in a --profile, its own "
    "slot_name, publication_name and capture_role"
)


def _slot(facts: Facts) -> Finding:
    slot, name = facts.slot, facts.names.slot
    check = f"slot {name}"
    if slot is None:
        return Finding(check, OK, "not there yet; the connector makes it")
    drop = by_hand(f"SELECT pg_drop_replication_slot('{name}')")
    if slot.plugin != "pgoutput" or slot.database != facts.address.database:
        observed = f"plugin {slot.plugin}, database {slot.database}: somebody else's"
        return Finding(check, MISSING, observed, (_OWN_NAMES, drop))
    if slot.wal_status == "lost":
        observed = (
            "lost: it was not read for so long that the server removed the WAL it needs; "
            "after dropping it, start with an empty lake (down --wipe)"
        )
        return Finding(check, MISSING, observed, (drop,))
    state = "in use" if slot.active else "not in use"
    return Finding(check, OK, f"{state}, WAL {slot.wal_status}")


def _role(facts: Facts, verifier: str) -> Iterator[Finding]:
    role = facts.role
    name = sql.Identifier(role.name)
    check = f"role {role.name}"
    if not role.exists:
        file = "role_managed" if facts.managed_replication_role else "role"
        create = from_file(file, role=name, password=sql.Literal(verifier))
        yield Finding(check, MISSING, "not there", tuple(create))
        return
    mends: list[Mend] = []
    problems: list[str] = []
    if not role.may_log_in:
        problems.append("may not log in")
        mends.append(runnable(sql.SQL("ALTER ROLE {} LOGIN").format(name)))
    if not role.may_replicate:
        problems.append("may not replicate")
        grant = "GRANT rds_replication TO {}" if facts.managed_replication_role else (
            "ALTER ROLE {} REPLICATION"
        )  # fmt: skip
        mends.append(runnable(sql.SQL(grant).format(name)))
    if "password" in role.login_error:
        problems.append("another password than this stack's")
        passwords = from_file("role_password", role=name, password=sql.Literal(verifier))
        if role.in_use:  # by somebody who knows the other one
            passwords = [_OWN_NAMES]
        mends += passwords
    elif role.login_error or role.replication_error:
        problems.append(role.login_error or f"no replication: {role.replication_error}")
    if problems:
        yield Finding(check, MISSING, "; ".join(problems), tuple(mends))
    elif role.superuser:
        yield Finding(check, NOTE, "a superuser, which is more than capturing needs")
    else:
        yield Finding(check, OK, "may log in and replicate, no superuser")


def _own_schema(facts: Facts) -> Finding:
    check = "schema headwater"
    absent = [name for name in facts.names.own_tables if name not in facts.own_tables]
    own = own_parts(facts.names)
    grants = from_file("schema_grants", role=sql.Identifier(facts.role.name), **own)
    if absent:
        observed = f"not there: {', '.join(absent)}"
        return Finding(check, MISSING, observed, (*from_file("schema", **own), *grants))
    if not facts.own_tables_writable:
        return Finding(check, MISSING, "the capture role may not write into it", tuple(grants))
    return Finding(check, OK, "heartbeat and signal, writable by the capture role")


def own_parts(names: Names) -> dict[str, sql.Composable]:
    """What the files of SQL call a stack's own things."""
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
        yield Finding(check, MISSING, "not there", tuple(create))
        return
    name = sql.Identifier(publication)
    if found.all_tables:
        again = (
            by_hand(f"DROP PUBLICATION {publication}"),
            *(Mend(mend.shown) for mend in create),
        )
        observed = "FOR ALL TABLES: tables without a key would refuse UPDATE and DELETE"
        yield Finding(check, MISSING, observed, again)
        return
    if not (found.publishes_all and found.via_root):
        mend = sql.SQL(
            "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate', "
            "publish_via_partition_root = true)"
        ).format(name)
        observed = "does not publish every operation, or parts in place of partitioned tables"
        yield Finding(check, MISSING, observed, (runnable(mend),))
        return
    for table in found.narrowed:
        again = (
            by_hand(f"ALTER PUBLICATION {publication} DROP TABLE {table}"),
            by_hand(f"ALTER PUBLICATION {publication} ADD TABLE {table}"),
        )
        yield Finding(check, MISSING, f"publishes only some columns or rows of {table}", again)
    count = sum(table.published for table in facts.tables)
    yield Finding(check, OK, f"names {count} of {len(facts.tables)} tables")


def _tables(facts: Facts) -> Iterator[Finding]:
    refused = refused_names(facts.tables)
    for table in facts.tables:
        if table in refused:
            yield Finding(f"table {table}", LEFT_OUT, refused[table])
        else:
            yield _table(facts, table)


def refused_names(tables: Sequence[SourceTable]) -> dict[SourceTable, str]:
    """The tables whose silver table would be an earlier one's, each with the reason."""
    by_name = {(t.schema, t.name): t for t in tables if not t.uncapturable()}
    return {
        by_name[later]: f"would share its silver table with {'.'.join(earlier)}: rename one of them"
        for later, earlier in collisions(by_name)
    }


def _table(facts: Facts, table: SourceTable) -> Finding:
    check = f"table {table}"
    never = table.uncapturable()
    if never and table.published:
        mend = runnable(table.unpublish(facts.names.publication))
        return Finding(check, MISSING, never, (mend,))
    if never:
        return Finding(check, LEFT_OUT, never)
    mends: list[Mend] = []
    problem = table.identity_problem()
    if problem:
        mends.append(runnable(table.identity_fix()))
    if table.row_security and not facts.role.bypasses_row_security:
        problem = problem or "row-level security would hide rows from the capture role's snapshot"
        role = sql.Identifier(facts.role.name)
        mends.append(runnable(sql.SQL("ALTER ROLE {} BYPASSRLS").format(role)))
    if not table.readable:
        mends += [runnable(statement) for statement in table.grant(facts.role.name)]
    if not table.published and facts.slot is None:
        mends.append(runnable(table.publish(facts.names.publication)))
    elif not table.published:
        # Its earlier rows must be snapshotted too, which the running stack sees to (capture.py).
        mends.append(Mend("-- the running stack takes it in, where it was started with --apply"))
    if problem:
        # Published as it is, it would stop the connector or the application: that must be mended.
        return Finding(check, MISSING if table.published else LEFT_OUT, problem, tuple(mends))
    if table.published and not table.readable:
        return Finding(
            check, MISSING, "published, but the capture role may not read it", tuple(mends)
        )
    if not table.published:
        return Finding(check, LEFT_OUT, "not in the publication", tuple(mends))
    return _carried(facts, table)


def _carried(facts: Facts, table: SourceTable) -> Finding:
    remarks = []
    if table.generated:  # a publication may send stored ones since 18; the lake does without
        names = ", ".join(table.generated)
        remarks.append(f"left out, for generated columns are not in the log: {names}")
    as_text = facts.as_text.get(str(table), ())
    if as_text:
        remarks.append(f"carried as text: {', '.join(as_text)}")
    if not table.has_key:
        remarks.append("no key: kept as a bag of rows")
    return Finding(f"table {table}", NOTE if remarks else OK, "; ".join(remarks) or "captured")


def _values(facts: Facts) -> Iterator[Finding]:
    """One note for all columns that could hold what silver cannot."""
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
        "a row with one of these goes to ops.quarantine, with the value as it came, unless the "
        'column\'s contract file says `type = "text"` '
        f"(docs/types.md). {'. '.join(kinds)}",
    )
