"""How far a first snapshot is: what Debezium says it has read, and how much there is to read."""

from __future__ import annotations

from dataclasses import dataclass, field

import requests
from prometheus_client.parser import text_string_to_metric_families

from app.settings import Settings
from app.source.database import address_of, connect
from app.source.tables import Names, source_tables

ASK_TIMEOUT_S = 3.0
APPLICATION = "headwater status"
_PREFIX = "debezium_snapshot_"

# The catalog only: whatever asks for a table's size waits for who locks the table. A partitioned
# table has the rows of its parts. Unknown (NULL) where one was never analyzed; before Postgres 14
# that reads 0.
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
    """A first snapshot as Debezium's metrics tell it.

    Args:
        running: whether it reads now.
        seconds: how long it has been reading, or did.
        rows: table (`schema.name`) → rows read, of the tables that it has begun; Debezium counts
            anew every 10 s and at each table's end.
    """

    running: bool = False
    seconds: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)


def reading_of(text: str) -> Reading:
    """The snapshot in the worker's metrics (Prometheus' text format)."""
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


def ask(metrics_url: str) -> Reading | None:
    """What the worker at this address says; None where nobody answers."""
    session = requests.Session()
    session.trust_env = False  # loopback is never behind a proxy
    try:
        answer = session.get(metrics_url, timeout=ASK_TIMEOUT_S)
        answer.raise_for_status()
        return reading_of(answer.text)
    except (requests.RequestException, ValueError, KeyError):
        return None


def estimated_rows(settings: Settings) -> dict[tuple[str, str], int | None]:
    """Captured table (schema, name) → about how many rows it has; None where nothing is known.

    From `pg_class.reltuples`: no table is read.
    Raises: HeadwaterError where the source cannot be reached, psycopg.Error where it refuses.
    """
    role, names = address_of(settings.capture_dsn).user, Names.of(settings)
    with connect(settings.source_dsn, application=APPLICATION) as connection:
        found = source_tables(connection, role, names.publication)
        tables = [table for table in found if table.published]
        oids = [table.oid for table in tables]
        rows = connection.execute(_ESTIMATES, [oids, oids]).fetchall()
        known = {int(oid): None if count is None else int(count) for oid, count in rows}
    return {(table.schema, table.name): known.get(table.oid) for table in tables}
