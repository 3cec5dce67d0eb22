"""Lists the captured tables, and the tables that a verification cannot compare, with reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg
from deltalake.exceptions import TableNotFoundError

from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from app.verify.verdict import DROPPED, NOT_CAPTURED, Verdict
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.names import Collision, collisions
from spark_streaming.storage.connections import TCP_LIMITS
from spark_streaming.tables.ownership import mark, noted_source

SourceName = tuple[str, str]
_PUBLISHED = """
SELECT n.nspname::text, c.relname::text
FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = %s AND n.nspname <> 'headwater' ORDER BY c.oid
"""
_THERE = """
SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p')
"""


def captured_tables(settings: Settings) -> dict[str, SourceName]:
    """Return the publication's tables without Headwater's own: silver's name → (schema, table).

    If two would share a silver table, the result has only the one whose rows it holds.
    """
    names = Lakehouse(settings).names
    return {names.of(*name): name for name in _published(settings)[0]}


def in_silver(names: Mapping[str, SourceName], given: Sequence[str]) -> list[str]:
    """Translate table names of silver or the source to silver's; unknown names stay.

    Args:
        names: the result of `captured_tables`.
    """
    by_source = {".".join(source): name for name, source in names.items()}
    by_source |= {table: name for name, (schema, table) in names.items() if schema == "public"}
    return [name if name in names else by_source.get(name, name) for name in given]


def uncompared(settings: Settings, names: Mapping[str, SourceName]) -> list[Verdict]:
    """Return verdicts of the tables that cannot be compared, in the order of their names.

    These are published tables that silver refuses because their name collides with another's, and
    silver's tables whose source table was dropped or is not captured any more.

    Args:
        names: the tables that are compared, the result of `captured_tables`.
    """
    refused = [
        Verdict(".".join(collision.table), refused=collision.reason)
        for collision in _published(settings)[1]
    ]
    lake = Lakehouse(settings)
    compared = {".".join(name) for name in names.values()}
    orphans = [
        name
        for name in ContractStore(lake.lake, settings.capture_dsn).tables()
        if ".".join(name) not in compared
    ]
    gone = []
    if orphans:
        with _session(settings) as connection:
            there = {f"{schema}.{table}" for schema, table in connection.execute(_THERE)}
        for name in orphans:
            version = _version(lake, name)
            if version is not None and lake.names.of(*name) not in names:
                word = NOT_CAPTURED if ".".join(name) in there else DROPPED
                gone.append(Verdict(lake.names.of(*name), version=version, uncompared=word))
    return sorted([*refused, *gone], key=lambda verdict: verdict.table)


def nothing_to_compare(settings: Settings) -> HeadwaterError:
    """Return the error of a verification without tables, which would prove nothing."""
    return HeadwaterError(
        "there is nothing to compare: no table is captured",
        detail=f"the publication `{settings.profile.publication_name}` names none",
        hint="`./headwater preflight` lists the source's tables and says why each is left out",
    )


def _published(settings: Settings) -> tuple[list[SourceName], list[Collision]]:
    """Return the published tables with a silver table of their own, and the collisions."""
    with _session(settings) as connection:
        rows = connection.execute(_PUBLISHED, [settings.profile.publication_name])
        published = [(str(schema), str(table)) for schema, table in rows]
    lake = Lakehouse(settings)
    if collisions(published, lake.names.of):
        published.sort(key=lambda name: not _owns(lake, name))
    colliding = collisions(published, lake.names.of)
    later = {collision.table for collision in colliding}
    return [name for name in published if name not in later], colliding


def _owns(lake: Lakehouse, name: SourceName) -> bool:
    try:
        return noted_source(lake.silver(lake.names.of(*name)).metadata()) == mark(*name)
    except TableNotFoundError:
        return False


def _version(lake: Lakehouse, name: SourceName) -> int | None:
    """Return the version of the silver table with this source table's rows; None if none has."""
    try:
        table = lake.silver(lake.names.of(*name))
    except TableNotFoundError:
        return None
    ours = noted_source(table.metadata()) in (None, mark(*name))
    return int(table.version()) if ours else None


def _session(settings: Settings) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(settings.capture_dsn, **TCP_LIMITS)
