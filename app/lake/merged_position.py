"""How far the lake's tables are merged, and from which topics, by the ledger alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from deltalake.exceptions import TableNotFoundError

from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.events.position import HighWater
from spark_streaming.ops.ledger import offsets_of
from spark_streaming.storage.lake import LEDGER, Lake

# Bronze may be behind silver by its flush interval, or by a stopped partition that is retried.
BEHIND = timedelta(seconds=60)
_COLUMNS = ["table_name", "merged_at", "complete_lsn", "offsets", "high_water"]


@dataclass(frozen=True)
class MergedPosition:
    """The positions of a lake.

    Args:
        certain_lsn: the lake has all events up to here, bronze included.
        highest_lsn: the highest position that is merged into any table.
        prefixes: the prefixes of the topics that the events came from; empty for a new lake.
    """

    certain_lsn: Lsn
    highest_lsn: Lsn
    prefixes: frozenset[str]


def merged_position(lake: Lake) -> MergedPosition:
    """Read the positions of a lake; without a ledger nothing is merged."""
    try:
        table = lake.table(LEDGER)
    except TableNotFoundError:
        return MergedPosition(LOG_START, LOG_START, frozenset())
    rows = table.to_pyarrow_dataset().to_table(columns=_COLUMNS).to_pylist()
    whole = [row for row in rows if row["complete_lsn"] is not None and not row["table_name"]]
    last = max((row["merged_at"] for row in whole), default=None)
    early = [row["complete_lsn"] for row in whole if last and row["merged_at"] <= last - BEHIND]
    every = [row["complete_lsn"] for row in whole]
    certain = max(early, default=min(every, default=LOG_START))
    merged = [HighWater.from_json(row["high_water"] or "{}").greatest_commit_lsn for row in rows]
    topics = {topic for row in rows for topic in offsets_of(row["offsets"])}
    return MergedPosition(
        Lsn(certain),
        Lsn(max([*every, *merged], default=LOG_START)),
        frozenset(topic.partition(".")[0] for topic in topics),
    )
