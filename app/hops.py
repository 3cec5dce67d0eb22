"""Lists the hops of a change after the source, in order; all code that shows or times hops uses it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hop:
    """One hop.

    Args:
        name: its label in metrics, its key in JSON, its column.
        means: what has happened when a change is there, for the page.
        arrived: the same of an edited row, for the demo; "" if the demo does not observe it.
        after: the hop that has to show a change before this one is asked about it.
        in_event: the event itself has the time of this hop, so nobody waits for it.
        is_probed: the exporter's probes are awaited there.
        has_lsn: the exporter tells the WAL that it lacks.
    """

    name: str
    means: str
    arrived: str = ""
    after: str = ""
    in_event: bool = False
    is_probed: bool = False
    has_lsn: bool = False


HOPS = (
    Hop("debezium", "reads the log", in_event=True),
    Hop("kafka", "the event, on its topic", "Kafka: Debezium's event, committed",
        is_probed=True, has_lsn=True),
    Hop("bronze", "the raw event, kept for good", "bronze: the raw event, in the object store",
        is_probed=True, has_lsn=True),
    Hop("silver", "the row, merged into its Delta table", "silver: the row, committed to Delta",
        is_probed=True, has_lsn=True),
    # Trino reads what silver has: it lacks no WAL of its own.
    Hop("trino", "SQL sees the row", "Trino: the row, in a SQL answer",
        after="silver", is_probed=True),
)  # fmt: skip
BY_NAME = {hop.name: hop for hop in HOPS}
# Each after Kafka has an observer in `app/watch/observers.py`.
OBSERVED = tuple(hop.name for hop in HOPS if not hop.in_event)
PROBED = tuple(hop.name for hop in HOPS if hop.is_probed)
WITH_LSN = tuple(hop.name for hop in HOPS if hop.has_lsn)
