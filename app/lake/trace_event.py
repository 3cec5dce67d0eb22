"""What a traced event says, also where it is none that silver could read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from spark_streaming.events import RawEvent
from spark_streaming.position import parse_sequence


def document_of(event: RawEvent) -> Mapping[str, Any]:
    """An event's value, parsed; empty for a tombstone, and for what is no JSON object."""
    try:
        found = orjson.loads(event.value) if event.value else {}
    except orjson.JSONDecodeError:
        return {}  # it is in quarantine, and told so
    return found if isinstance(found, dict) else {}


def op_of(event: RawEvent) -> str:
    """c, u, d, r or t, as Debezium names them; "" where the event tells none."""
    found = document_of(event).get("op")
    return found if isinstance(found, str) else ""


def lsn_of(event: RawEvent) -> int | None:
    """The LSN that silver keeps of an event; None where it tells none."""
    source = document_of(event).get("source")
    if not isinstance(source, dict):
        return None
    found = source.get("lsn")
    if found is None and source.get("sequence"):
        # An incremental snapshot's rows have the stream's position.
        try:
            found = parse_sequence(source["sequence"])[1]
        except (ValueError, TypeError):
            return None
    return found if isinstance(found, int) else None


def is_truncate(event: RawEvent) -> bool:
    """Whether an event empties the table; it is every row's."""
    return event.key is None and op_of(event) == "t"
