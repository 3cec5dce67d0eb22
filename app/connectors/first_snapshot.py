"""Reads the progress of a first snapshot: rows read by Debezium, and estimates of all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import requests
from prometheus_client.parser import text_string_to_metric_families

from app.environment.loopback import direct_session
from app.environment.settings import Settings
from app.source.database import Connection, address_of, connect
from app.source.source_tables import Names, source_tables

READ_TIMEOUT_S = 3.0
APPLICATION = "headwater status"
_PREFIX = "debezium_snapshot_"

# From the catalog only: asking for a table's size would wait for its locks. A partitioned table has
# the rows of its partitions, and NULL if one was never analyzed, which before Postgres 14 reads as
# 0.
_ESTIMATES = """
WITH RECURSIVE tree AS (
    SELECT unnest(%s::oid[]) AS root, unnest(%s::oid[]) AS oid
    UNION ALL
    SELECT tree.root, i.inhrelid FROM tree
    JOIN pg_class parent ON parent.oid = tree.oid AND parent.relkind = 'p'
    JOIN pg_inherits i ON i.inhparent = tree.oid
), part AS (
    SELECT tree.root, CASE
        WHEN c.reltuples > 0 THEN c.reltuples
        WHEN c.reltuples = 0 AND current_setting('server_version_num')::int >= 140000 THEN 0
    END AS rows
    FROM tree JOIN pg_class c ON c.oid = tree.oid AND c.relkind = 'r'
)
SELECT root::bigint, CASE WHEN bool_and(rows IS NOT NULL) THEN sum(rows)::bigint END
FROM part GROUP BY root
"""


@dataclass(frozen=True)
class Reading:
    """A first snapshot, by Debezium's metrics.

    Args:
        running: whether it is under way.
        seconds: its duration so far, or its whole duration if it has ended.
        rows: table (`schema.name`) → rows read, for each table that was begun; Debezium updates
            them every 10 s and at each table's end.
    """

    running: bool = False
    seconds: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)


def reading_of(text: str) -> Reading:
    """Parse the snapshot's state from the worker's metrics (Prometheus' text format)."""
    values: dict[str, float] = {}
    rows: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        if not family.name.startswith(_PREFIX):
            continue
        for sample in family.samples:
            name = sample.name.removeprefix(_PREFIX)
            if name == "rows_read":
                rows[sample.labels["table"]] = int(sample.value)
            else:
                values[name] = sample.value
    return Reading(
        running=values.get("snapshotrunning", 0) > 0,
        seconds=values.get("snapshotdurationinseconds", 0.0),
        rows=rows,
    )


def ask(*metrics_urls: str) -> Reading | None:
    """Read the snapshot's state from the metrics of the worker that runs, or ran, the snapshot.

    None if nothing answers.
    """
    found = [reading for url in metrics_urls if (reading := _ask(url)) is not None]
    begun = [reading for reading in found if reading.running or reading.rows]
    return next(iter([*begun, *found]), None)


def _ask(metrics_url: str) -> Reading | None:
    session = direct_session()
    try:
        answer = session.get(metrics_url, timeout=READ_TIMEOUT_S)
        answer.raise_for_status()
        return reading_of(answer.text)
    except (requests.RequestException, ValueError, KeyError):
        return None


def estimated_rows(settings: Settings) -> dict[tuple[str, str], int | None]:
    """Estimate the rows of each captured table (schema, name); None if nothing is known.

    The estimate is `pg_class.reltuples`: no table is read.
    Raises: HeadwaterError if the source cannot be reached, psycopg.Error if it refuses.
    """
    role, names = address_of(settings.capture_dsn).user, Names.of(settings)
    with connect(settings.source_dsn, application=APPLICATION) as connection:
        found = source_tables(connection, role, names.publication)
        tables = [table for table in found if table.published]
        known = estimates(connection, [table.oid for table in tables])
    return {(table.schema, table.name): known.get(table.oid) for table in tables}


def estimates(connection: Connection, oids: Sequence[int]) -> dict[int, int | None]:
    """Estimate the rows of tables, by oid; None without statistics."""
    rows = connection.execute(_ESTIMATES, [list(oids), list(oids)]).fetchall()
    return {int(oid): None if count is None else int(count) for oid, count in rows}
