"""Reads quarantine entries with their events from the lake."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from spark_streaming.quarantine.raw_events import place_in, with_events
from spark_streaming.storage.lake import QUARANTINE, Lake


def entries_of(lake: Lake, table: str) -> list[dict[str, Any]]:
    """A silver table's entries with their events, including resolved ones, by place."""
    found = with_events(lake, QUARANTINE, table, pc.scalar(True))
    return sorted((row for rows in found for row in rows), key=place_in)
