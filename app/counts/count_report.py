"""Opens an incident for transactions with wrong counts, and requests a resync of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.counts.tally import Miscount
from spark_streaming.contract.lsn import lsn_text
from spark_streaming.ops.incident_table import IncidentLog

KINDS = {"short": "counts_short", "surplus": "counts_surplus"}
# Requests a resync of a table (`schema.table`); the second argument is the incident's id.
RequestResync = Callable[[str, str], None]


def message(wrong: Miscount, prefix: str) -> str:
    """Describe a wrong count in one line."""
    expected = "an unknown number" if wrong.expected is None else str(wrong.expected)
    note = f" ({wrong.note})" if wrong.note else ""
    return (
        f"{wrong.kind}: transaction {wrong.xid} at LSN {lsn_text(wrong.lsn)} has"
        f" {wrong.found} events of {table_name(wrong.topic, prefix)} in bronze"
        f"; expected: {expected}{note}"
    )


def table_name(topic: str, prefix: str) -> str:
    """Return `schema.table`, as the topic names it."""
    return topic.removeprefix(f"{prefix}.")


def open_incidents(
    wrong: Sequence[Miscount], prefix: str, incidents: IncidentLog, resync: RequestResync
) -> None:
    """Open an incident for each table and kind of a slice's wrong counts, and request resyncs.

    Repeating it is harmless: an incident's key is the table and its first transaction.
    """
    groups: dict[tuple[str, str], list[Miscount]] = {}
    for one in wrong:
        groups.setdefault((one.kind, one.topic), []).append(one)
    for (kind, topic), found in groups.items():
        table = table_name(topic, prefix)
        first = min(found, key=lambda one: one.lsn)
        more = f"; {len(found) - 1} later transactions too" if len(found) > 1 else ""
        incident = incidents.open_incident(
            KINDS[kind],
            f"{table} {first.xid}:{first.lsn}",
            cause=message(first, prefix) + more,
            tables=[table],
            lsn_from=first.lsn,
            lsn_to=max(one.lsn for one in found),
        )
        resync(table, incident)
