"""Reads the content of a traced event, even if silver could not decode it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import RawEvent
from spark_streaming.events.position import parse_sequence
from spark_streaming.events.resync_events import is_resync_end


def document_of(event: RawEvent) -> Mapping[str, Any]:
    """Parse an event's value; empty for a tombstone and for anything but a JSON object."""
    try:
        document = orjson.loads(event.value) if event.value else {}
    except orjson.JSONDecodeError:
        return {}  # the event is in quarantine, and is shown as such
    return document if isinstance(document, dict) else {}


def op_of(event: RawEvent) -> str:
    """Return c, u, d, r or t, as Debezium names them; "" if the event has none."""
    op = document_of(event).get("op")
    return op if isinstance(op, str) else ""


def lsn_of(event: RawEvent) -> Lsn | None:
    """Return the LSN that silver keeps of an event; None if it has none."""
    source = document_of(event).get("source")
    if not isinstance(source, dict):
        return None
    lsn = source.get("lsn")
    if lsn is None and source.get("sequence"):
        # An incremental snapshot's rows have the stream's position.
        try:
            lsn = parse_sequence(source["sequence"])[1]
        except (ValueError, TypeError):
            return None
    return Lsn(lsn) if isinstance(lsn, int) else None


def is_of_all_rows(event: RawEvent) -> bool:
    """Check whether an event removes rows of any key: a TRUNCATE, or the end of a resync."""
    return event.key is None and (op_of(event) == "t" or is_resync_end(event))
