"""Removes Headwater's objects from a source database: `headwater detach`.

`plan` is pure: it makes steps from the traces (`traces.py`), in the order that Postgres needs:
1. the replication slot, which holds back WAL;
2. the event trigger, so that the next steps are not recorded;
3. the publication;
4. replica identities that `--apply` set, once no publication of Headwater's has their tables;
5. the tables of the schema `headwater`, and the schema;
6. the capture role's rights, and the role.
Each step is one transaction. A step that did not end is planned again by the next run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from app.errors import HeadwaterError
from app.source.database import Connection
from app.source.source_tables import OWN_SCHEMA
from app.source.traces import (
    DEFAULT_ROLE,
    EVENT_TRIGGER,
    FUNCTION,
    SHARED_TABLES,
    IdentityTrace,
    RoleTrace,
    SchemaTrace,
    Traces,
)

# The session that read the slot may take a moment to end after `down`.
RELEASED_S = 10.0
_POLL_S = 0.5
_LISTED_MAX = 20
_WORDS = {"d": "DEFAULT", "f": "FULL", "n": "NOTHING"}
# Kinds of steps whose failure or order matters to other steps.
SLOT, PUBLICATION, IDENTITY, SCHEMA, OTHER = "slot", "publication", "identity", "schema", ""


@dataclass(frozen=True)
class Step:
    """One thing to remove.

    Args:
        what: a description, in one line.
        statements: statements that run in one transaction.
        allowed: whether the session whose rights were read may run them.
        kind: orders the steps. A replica identity is restored only after the publication is gone, because
            otherwise an UPDATE could fail. The schema stays while it holds the record of identities to
            restore.
    """

    what: str
    statements: tuple[sql.Composed, ...]
    allowed: bool = True
    kind: str = OTHER

    @property
    def text(self) -> str:
        """The statements, as psql takes them."""
        return "\n".join(f"{one.as_string(None)};" for one in self.statements)


@dataclass(frozen=True)
class Plan:
    """The steps, the kept objects and the reasons; `in_use` names a session that still uses the source."""

    steps: tuple[Step, ...]
    kept: tuple[str, ...]
    in_use: str = ""

    def block(self, *, allowed: bool) -> str:
        """Return the SQL of the steps that the session may run, or of the others."""
        return block([step for step in self.steps if step.allowed == allowed])


def block(steps: Sequence[Step]) -> str:
    """Return the SQL of steps, each after a comment that says what it removes."""
    # A name may contain a line break, which would end the comment.
    return "\n".join(f"-- {' '.join(step.what.split())}\n{step.text}" for step in steps)


def plan(traces: Traces) -> Plan:
    """Plan the steps that remove the traces, in order."""
    steps: list[Step] = []
    kept: list[str] = []
    _slot(traces, steps, kept)
    schema = traces.schema
    if schema and schema.function and not schema.of_other_stacks:
        drop = sql.SQL("DROP FUNCTION {} CASCADE").format(sql.Identifier(OWN_SCHEMA, FUNCTION))
        steps.append(Step(f"the function of the event trigger {EVENT_TRIGGER}, which goes with it", (drop,), schema.mine))  # fmt: skip
    if traces.publication_mine is not None:
        name = traces.names.publication
        drop = sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(name))
        steps.append(Step(f"the publication {name}", (drop,), traces.publication_mine, PUBLICATION))
    for one in traces.identities or ():
        _identity(one, steps, kept, unpublished=traces.publication_mine is not False)
    _full(traces, kept)
    if schema:
        unrestored = traces.unreadable or any(_waits(one) for one in traces.identities or ())
        _schema(traces, schema, steps, kept, unrestored=unrestored)
    if traces.role:
        _role(traces, traces.role, steps, kept)
    return Plan(tuple(steps), tuple(kept), _in_use(traces))


def _slot(traces: Traces, steps: list[Step], kept: list[str]) -> None:
    slot, name = traces.slot, traces.names.slot
    if slot is None:
        return
    if slot.plugin != "pgoutput" or slot.database != traces.session.database:
        of = f"database {slot.database}, plugin {slot.plugin}" if slot.plugin else "physical"
        kept.append(f"replication slot {name}: not Headwater's of this database ({of})")
        return
    drop = sql.SQL("SELECT pg_drop_replication_slot({})").format(sql.Literal(name))
    what = f"the replication slot {name}, which holds back {slot.kept_bytes / 1e6:,.1f} MB of WAL"
    steps.append(Step(what, (drop,), traces.session.may_drop_slots, SLOT))


def _waits(one: IdentityTrace) -> bool:
    """Whether a table is restored only later, so that its record must be kept."""
    return one.now == one.set_to and bool(one.published)


def _identity(one: IdentityTrace, steps: list[Step], kept: list[str], *, unpublished: bool) -> None:
    table = sql.Identifier(one.schema, one.name)
    shown = table.as_string(None)
    if one.now != one.set_to:
        return  # the table is gone, or has got another identity since
    if one.published:
        kept.append(
            f"table {shown}: its replica identity {_WORDS[one.set_to]}, because "
            f"{', '.join(one.published)} publishes it too; it was {_was(one)}"
        )
        return
    if one.was == "i" and not one.index_there:
        kept.append(
            f"table {shown}: its replica identity, because the index {one.was_index} is gone"
        )
        return
    was = sql.SQL("USING INDEX {}").format(sql.Identifier(one.was_index))
    if one.was in _WORDS:
        was = sql.Composed([sql.SQL(_WORDS[one.was])])
    alter = sql.SQL("ALTER TABLE {} REPLICA IDENTITY {}").format(table, was)
    what = f"the replica identity of {shown}, which Headwater set to {_WORDS[one.set_to]}"
    steps.append(Step(what, (alter,), one.mine and unpublished, IDENTITY))


def _was(one: IdentityTrace) -> str:
    return _WORDS.get(one.was) or f"by the index {one.was_index}"


def _full(traces: Traces, kept: list[str]) -> None:
    """Keep replica identity FULL if there is no record of the earlier one."""
    if traces.unreadable:
        kept.append(
            f"replica identities: {traces.session.role} may not read headwater.replica_identities, "
            "the record of the previous ones; run this with a superuser's DSN"
        )
        return
    if not traces.full:
        return
    named = ", ".join(traces.full[:_LISTED_MAX])
    more = f" and {len(traces.full) - _LISTED_MAX} more" if len(traces.full) > _LISTED_MAX else ""
    kept.append(
        f"replica identity FULL without a record of the previous one: {named}{more}. You may have set "
        "it, or an earlier version of Headwater, which kept no record. To undo one, once "
        f"no publication names it: ALTER TABLE {traces.full[0]} REPLICA IDENTITY DEFAULT;"
    )


def _schema(
    traces: Traces, schema: SchemaTrace, steps: list[Step], kept: list[str], *, unrestored: bool
) -> None:
    tables = list(schema.tables)
    if schema.of_other_stacks:
        tables = [name for name in tables if name not in SHARED_TABLES]
        others = ", ".join(schema.of_other_stacks)
        kept.append(f"schema {OWN_SCHEMA}: tables of another stack are in it: {others}")
    elif schema.of_others:
        kept.append(f"schema {OWN_SCHEMA}: not Headwater's: {', '.join(schema.of_others)}")
    if unrestored and "replica_identities" in tables:
        tables.remove("replica_identities")
        kept.append(f"schema {OWN_SCHEMA}: its table replica_identities records the previous ones")
    statements: list[sql.Composed] = []
    if tables:
        names = sql.SQL(", ").join(sql.Identifier(OWN_SCHEMA, name) for name in tables)
        statements.append(sql.SQL("DROP TABLE {}").format(names))
    whole = not schema.of_other_stacks and not schema.of_others and not unrestored
    if whole:
        statements.append(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(OWN_SCHEMA)))
    if not statements:
        return
    # The record is among the tables: a role that cannot restore the identities must not drop it.
    restored = all(step.allowed for step in steps if step.kind == IDENTITY)
    what = f"the schema {OWN_SCHEMA} with its tables" if whole else "the stack's own tables"
    steps.append(Step(what, tuple(statements), schema.mine and restored, SCHEMA))


def _role(traces: Traces, role: RoleTrace, steps: list[Step], kept: list[str]) -> None:
    name = sql.Identifier(role.name)
    session = traces.session
    if role.superuser or role.name == session.role or not _made_for_it(role):
        why = "a superuser" if role.superuser else "this session's own"
        if not role.superuser and role.name != session.role:
            why = "it does not have the mark of a role made for Headwater"
        kept.append(f"role {role.name}: {why}; its rights stay as they are")
        return
    if role.owns:
        owned = ", ".join(role.owns[:_LISTED_MAX])
        kept.append(f"role {role.name}: it owns {owned}; give that to another role first")
        return
    drop = sql.SQL("DROP ROLE {}").format(name)
    drop_rights = sql.SQL("DROP OWNED BY {}").format(name)  # rights only: it owns nothing
    has_rights = bool(role.grants or role.other_rights)
    whole: tuple[sql.Composed, ...] = (*((drop_rights,) if has_rights else ()), drop)
    if role.elsewhere:
        kept.append(
            f"role {role.name}: it has rights in {', '.join(role.elsewhere)} too; run detach there"
        )
        whole = whole[:-1]
    if session.superuser:
        if whole:
            steps.append(Step(f"the rights of {role.name}, and the role", whole))
        return
    mine = [one for one in role.grants if one.mine]
    for kind in ("TABLE", "SCHEMA"):
        revoked = [
            sql.Identifier(*filter(None, (g.schema, g.name))) for g in mine if g.kind == kind
        ]
        if revoked:
            revoke = sql.SQL("REVOKE ALL ON {} {} FROM {}").format(
                sql.SQL(kind), sql.SQL(", ").join(revoked), name
            )
            steps.append(Step(f"its rights on each {kind.lower()}", (revoke,)))
    if len(mine) == len(role.grants) and not role.other_rights:
        whole = (drop,) if not role.elsewhere else ()
    if whole:
        alone = whole == (drop,) and session.may_drop_roles
        steps.append(Step(f"the role {role.name}", whole, alone))


def _made_for_it(role: RoleTrace) -> bool:
    # Versions without the mark created the role under this name, and another role is unlikely to have it.
    return role.marked or role.name == DEFAULT_ROLE


def _in_use(traces: Traces) -> str:
    if traces.slot is not None and traces.slot.reader:
        return f"the replication slot {traces.names.slot} is read by {traces.slot.reader}"
    role = traces.role
    if role is not None and role.sessions and role.name != traces.session.role:
        return f"sessions of the role {role.name} are open: {'; '.join(role.sessions[:3])}"
    return ""


def await_release(read: Callable[[], Traces], within_s: float = RELEASED_S) -> Traces:
    """Wait until no session uses the objects to remove; return the traces then.

    Raises: HeadwaterError that names the session, if it does not end.
    """
    limit = time.monotonic() + within_s
    while True:
        traces = read()
        reader = _in_use(traces)
        if not reader:
            return traces
        if time.monotonic() > limit:
            raise in_use(reader)
        time.sleep(_POLL_S)


def in_use(reader: str) -> HeadwaterError:
    """Make the error for a source that a stack still uses."""
    return HeadwaterError(
        "a stack still uses this source, so nothing was removed",
        detail=reader,
        hint="stop it where it runs (./headwater down), then run this again",
    )


def carry_out(
    connection: Connection,
    steps: Sequence[Step],
    *,
    drop_slot: Callable[[Step], None] | None,
    report: Callable[[str], None],
) -> list[tuple[Step, str]]:
    """Run the steps that the session may run; a step that fails does not stop the next.

    Args:
        drop_slot: drops the slot if this session may not; None if nothing else can.
    Returns: the steps that did not run, each with the reason; "" if the session has no right to.
    """
    left: list[tuple[Step, str]] = []
    for step in steps:
        failed = {one.kind for one, _ in left}
        if step.kind == IDENTITY and PUBLICATION in failed:
            left.append((step, "the publication still needs it"))
        elif step.kind == SCHEMA and IDENTITY in failed:
            left.append((step, "it holds the record of identities that are not restored yet"))
        elif (why := _run(connection, step, drop_slot)) is not None:
            left.append((step, why))
        else:
            report(f"{'restored' if step.kind == IDENTITY else 'removed'}: {step.what}")
    return left


def _run(
    connection: Connection, step: Step, drop_slot: Callable[[Step], None] | None
) -> str | None:
    """Run a step; return None, or why it did not run ("" if the session has no right to)."""
    try:
        if step.allowed:
            with connection.transaction():
                for statement in step.statements:
                    connection.execute(statement)
        elif step.kind == SLOT and drop_slot is not None:
            drop_slot(step)
        else:
            return ""
    except (psycopg.Error, HeadwaterError) as error:
        return str(error).strip()
    return None
