"""Finds tables whose names the lake or Kafka cannot distinguish."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from app.source.database import Connection
from app.source.source_tables import SourceTable
from spark_streaming.contract.names import Collision, collisions

NOT_CHOSEN = "the profile does not choose it (table_include, table_exclude)"


def shared_names(tables: Iterable[SourceTable]) -> dict[SourceTable, Collision]:
    """Return the tables whose name clashes with another table's, each with the clash.

    A captured table keeps its name; among other tables the oldest does. A table that is not chosen
    takes no name.
    """
    order = sorted(tables, key=lambda table: (not table.published, table.oid))
    by_name = {(t.schema, t.name): t for t in order if t.chosen and not t.uncapturable()}
    return {by_name[found.table]: found for found in collisions(by_name)}


def to_exclude(tables: Sequence[SourceTable]) -> list[SourceTable]:
    """Return the tables that the connector must not read, because it would stop for all tables.

    It stops at columns whose names differ in case only, and if Kafka refuses a topic. A captured
    table with such columns is not among them, because its changes would be lost. A published table
    that the profile does not choose is among them.
    """
    shared = shared_names(tables)
    return [
        table
        for table in tables
        if (table.twins and not table.published)
        or (table in shared and shared[table].in_kafka)
        or (table.published and not table.chosen)
    ]


def not_captured(table: SourceTable, found: Collision | None, publication: str) -> str:
    """Describe why a table is not captured that could be, with the statement that changes it."""
    if found is not None:
        return f"{table} is not captured: it {found.reason}"
    problem = table.identity_problem()
    fix = table.identity_fix() if problem else table.publish(publication)
    reason = problem or "it is not in the publication"
    return f"{table} is not captured: {reason}\n  hint: {fix.as_string(None)};"


def withdraw(
    connection: Connection, publication: str, tables: Sequence[SourceTable]
) -> list[SourceTable]:
    """Remove some tables from the publication, and return them.

    They are the tables whose topic belongs to another table, and those that the profile does not
    choose.
    """
    shared = shared_names(tables)
    reasons = {
        table: f"it {found.reason}"
        for table, found in shared.items()
        if table.published and found.in_kafka
    } | {table: NOT_CHOSEN for table in tables if table.published and not table.chosen}
    for table, reason in reasons.items():
        connection.execute(table.unpublish(publication))
        print(
            f"{table} was taken out of the publication: {reason}",
            file=sys.stderr,
            flush=True,
        )
    return list(reasons)
