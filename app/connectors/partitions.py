"""Finds partitions that were attached, detached or truncated, because no event shows it.

Events carry the name of the partitioned table (the root). A row `tree-<oid>` of the signal table
records the partitions of each captured root: the file of each, and whether it has had rows. A check that finds rows
added or removed without an event requests a resync of the root. An empty
partition needs no resync.

The catalog shows whether a new partition had rows before it was attached. A partition that was
created in place was attached by the transaction that created it; rows that this transaction wrote
before have a lower command number.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from app.connectors.capture_record import on_signal_table
from app.source.database import Connection
from app.source.source_tables import Names, SourceTable

_PREFIX = "tree-"
# Reading the catalog must not block a session that changes a partition.
LOCK_WAIT_MS = 200
# If two checks are no further apart, a partition that was empty and was removed between them had no rows.
CHECKS_APART_S_MAX = 30.0
_NAMED_MAX = 3
_TREES = """
WITH RECURSIVE tree AS (
    SELECT root, root AS oid, NULL::oid AS parent, NULL::text AS xid, 0::bigint AS cid
    FROM unnest(%s::oid[]) AS r (root)
    UNION ALL
    SELECT tree.root, i.inhrelid, tree.oid, i.xmin::text, i.cmin::text::bigint
    FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
    -- One that is being detached concurrently does not count; PostgreSQL 13 has no such state.
    WHERE NOT coalesce((to_jsonb(i) ->> 'inhdetachpending')::boolean, false)
)
SELECT tree.root::bigint, c.oid::bigint, tree.parent::bigint, c.relkind::text,
       c.relfilenode::bigint, tree.xid, tree.cid,
       (SELECT a.xmin::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = -1),
       n.nspname::text, c.relname::text
FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE tree.parent IS NOT NULL AND c.relkind IN ('r', 'p')
"""


@dataclass(frozen=True)
class Node:
    """A partition, or a partitioned table below the root.

    Args:
        xid, cid: transaction and command that attached it; `born`: the transaction that created it.
    """

    oid: int
    parent: int
    kind: str
    file: int
    xid: str
    cid: int
    born: str
    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True)
class Known:
    """What is recorded of a partition: its file, whether it has had rows, its name."""

    file: int
    filled: bool
    name: str


RequestResync = Callable[[Connection, SourceTable, str], None]
Tree = Mapping[int, Node]
Record = Mapping[int, Known]


class Partitions:
    """Checks the partitions of one source; `step` is one check.

    Args:
        request_resync: requests a resync of a root, with a reason.
    """

    def __init__(
        self,
        names: Names,
        request_resync: RequestResync,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = names
        self._request_resync = request_resync
        self._clock = clock
        self._checked_at: float | None = None

    def step(self, connection: Connection, tables: Sequence[SourceTable]) -> None:
        """Request a resync of each root with rows that were added or removed without an event.

        Args:
            connection: a session of the owner.
            tables: the captured tables.
        """
        roots = [table for table in tables if table.kind == "p"]
        if not roots:
            return
        now = self._clock()
        close = self._checked_at is not None and now - self._checked_at <= CHECKS_APART_S_MAX
        known = _records(connection, self._names)
        trees = read_trees(connection, [root.oid for root in roots])
        for root in roots:
            tree = trees.get(root.oid, {})
            old = known.get(root.oid)
            if old is None:
                _write(connection, self._names, root.oid, _recorded(connection, tree, {}))
                continue
            new = _recorded(connection, tree, old)
            reasons = differences(
                old,
                tree,
                lambda node, tree=tree, old=old: _has_older(connection, node, tree, old),  # type: ignore[misc]
            )
            gone = {oid: one for oid, one in old.items() if oid not in tree and not one.filled}
            reasons += _of_empty(connection, gone, sure=close)
            if reasons:
                reason = "; ".join(reasons[:_NAMED_MAX])
                reason += (
                    f" and {len(reasons) - _NAMED_MAX} more" if len(reasons) > _NAMED_MAX else ""
                )
                self._request_resync(connection, root, reason)
            if new != old:
                _write(connection, self._names, root.oid, new)
        self._checked_at = now


def note(connection: Connection, names: Names, tables: Iterable[SourceTable]) -> None:
    """Record the partitions of tables that are about to be captured."""
    known = _records(connection, names)
    roots = [table.oid for table in tables if table.kind == "p" and table.oid not in known]
    for oid, tree in read_trees(connection, roots).items():
        _write(connection, names, oid, _recorded(connection, tree, {}))


def differences(old: Record, tree: Tree, has_older: Callable[[Node], bool]) -> list[str]:
    """Describe the partitions in which rows were added or removed without an event.

    These are partitions with rows that were removed or got another file, and new partitions that
    had rows before they were attached.

    Args:
        has_older: whether a new partition has rows from before it was attached.
    """
    found = []
    for oid, known in old.items():
        node = tree.get(oid)
        if node is None and known.filled:
            found.append(f"its partition {known.name} was dropped or detached")
        elif node is not None and known.filled and node.file != known.file:
            found.append(f"its partition {node} was truncated or rewritten")
    found += [
        f"its partition {node} was attached with rows"
        for oid, node in tree.items()
        if oid not in old and node.kind == "r" and has_older(node)
    ]
    return found


def made_in_place(node: Node, tree: Tree, old: Record) -> int | None:
    """Return the attaching command of a partition that was created in place.

    Rows with a lower command number were written without an event of the root. None if the
    partition, or a parent of it, was a separate table before: then every row may be older.
    """
    command, at, xid = node.cid, node, node.xid
    while True:
        if at.born != at.xid:
            return None
        if at.xid == xid:
            command = max(command, at.cid)
        parent = tree.get(at.parent)
        if parent is None or parent.oid in old:
            return command
        at = parent


def read_trees(connection: Connection, roots: Sequence[int]) -> dict[int, dict[int, Node]]:
    """Read the partitions of each root, at all levels."""
    found: dict[int, dict[int, Node]] = {root: {} for root in roots}
    if roots:
        for root, *values in connection.execute(_TREES, [list(roots)]).fetchall():
            node = Node(*values)
            found[root][node.oid] = node
    return found


def _recorded(connection: Connection, tree: Tree, old: Record) -> Record:
    """Make the record of a tree; only partitions without recorded rows are queried."""
    leaves = [node for node in tree.values() if node.kind == "r"]
    empty = [
        n for n in leaves if not (n.oid in old and old[n.oid].filled and old[n.oid].file == n.file)
    ]
    filled = _with_rows(connection, empty)
    return {
        node.oid: Known(node.file, node not in empty or node.oid in filled, str(node))
        for node in leaves
    } | {n.oid: Known(0, False, str(n)) for n in tree.values() if n.kind != "r"}


def _with_rows(connection: Connection, nodes: Sequence[Node]) -> set[int]:
    """Return the partitions that have a row; one that cannot be read now counts as having one."""
    return {node.oid for node in nodes if _exists(connection, node, sql.SQL("true"))}


def _has_older(connection: Connection, node: Node, tree: Tree, old: Record) -> bool:
    command = made_in_place(node, tree, old)
    if command is None:
        return _exists(connection, node, sql.SQL("true"))
    own = sql.SQL("xmin::text = {} AND cmin::text::bigint < {}")
    return _exists(connection, node, own.format(sql.Literal(node.xid), sql.Literal(command)))


def _of_empty(connection: Connection, gone: Record, *, sure: bool) -> list[str]:
    """Describe partitions that were empty at the last check, and are gone, but may have had rows."""
    found = []
    for oid, known in gone.items():
        if known.file == 0:
            continue
        row = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE c.oid = %s",
            [oid],
        ).fetchone()
        node = row and Node(oid, 0, "r", 0, "", 0, "", row[0], row[1])
        if (node and _exists(connection, node, sql.SQL("true"))) or not sure:
            found.append(f"its partition {known.name} was dropped or detached")
    return found


def _exists(connection: Connection, node: Node, condition: sql.Composable) -> bool:
    """Whether a partition has such a row; True if it is locked or was dropped meanwhile."""
    query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {} WHERE {})").format(
        node.identifier, condition
    )
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = {LOCK_WAIT_MS}")
            row = connection.execute(query).fetchone()
    except (psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable):
        return True
    except psycopg.errors.QueryCanceled:
        return True  # too large to search
    return bool(row and row[0])


def _write(connection: Connection, names: Names, root: int, record: Record) -> None:
    parts = {oid: [one.file, one.filled, one.name] for oid, one in record.items()}
    data = {"message": f"partitions of table {root}", "parts": parts}
    connection.execute(
        on_signal_table(
            names,
            "INSERT INTO {signal} (id, type, data) VALUES (%s, 'log', %s)"
            " ON CONFLICT (id) DO UPDATE SET data = excluded.data",
        ),
        [f"{_PREFIX}{root}", json.dumps(data)],
    )


def _records(connection: Connection, names: Names) -> dict[int, Record]:
    rows = connection.execute(
        on_signal_table(names, "SELECT id, data FROM {signal} WHERE starts_with(id, %s)"), [_PREFIX]
    )
    return {
        int(key[len(_PREFIX) :]): {
            int(oid): Known(*values) for oid, values in json.loads(data)["parts"].items()
        }
        for key, data in rows
    }
