"""Finds tables that may differ because the stream missed changes, and says what is done about it."""

from __future__ import annotations

from collections.abc import Mapping

from spark_streaming.ops.incident_rows import OPEN, TABLES_MAX, Incident
from spark_streaming.ops.incident_table import IncidentLog
from spark_streaming.storage.lake import Lake


def rereads(lake: Lake, names: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return a message for each table that an open incident of kind `gap` concerns.

    Args:
        names: silver's name → schema and table in the source.
    Raises: DeltaError, OSError if the store does not answer.
    """
    log = IncidentLog(lake)
    log.refresh()
    return {
        name: _message(one)
        for one in log.incidents(state=OPEN, kind="gap")
        for name, place in names.items()
        if _concerns(one, ".".join(place))
    }


def _concerns(gap: Incident, table: str) -> bool:
    """Check whether a gap concerns a table. A list that was cut may have had any table."""
    return not gap.tables or len(gap.tables) > TABLES_MAX or table in gap.tables


def _message(gap: Incident) -> str:
    since = f"{gap.opened_at:%Y-%m-%d %H:%M:%S} UTC"
    if gap.lsn_to is None:
        return (
            f"the stream from the source is broken since {since}, so silver misses changes\n"
            "  hint: ./headwater recover"
        )
    return (
        f"the stream missed changes ({since}); the table is being read again and may differ until then\n"
        f"  hint: verify it again when the incident {gap.id} in ops.incidents is closed"
    )
