"""Makes events in the connector's form for tests."""

from __future__ import annotations

import json
from typing import Any

from spark_streaming.events.event import RawEvent

TOPIC = "hw.public.films"
MS = 1_700_000_000_000


def event(
    op: str,
    *,
    lsn: int = 100,
    key: dict[str, Any] | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    commit: int | None = 50,
    order: int | None = 1,
    offset: int | None = None,
    partition: int = 0,
    snapshot: str | None = None,
    headers: dict[str, Any] | None = None,
    **source: Any,
) -> RawEvent:
    """One event; by default its offset is its LSN; its commit time is `MS` + LSN ms."""
    sequence = json.dumps([None if commit is None else str(commit), str(lsn)])
    document = {
        "op": op,
        "before": before,
        "after": after,
        "source": {
            "lsn": lsn,
            "sequence": sequence.replace(" ", ""),
            "ts_us": (MS + lsn) * 1000,
            "snapshot": snapshot,
            **source,
        },
        "transaction": None if order is None else {"total_order": order},
    }
    return raw(
        json.dumps(document).encode(),
        offset=lsn if offset is None else offset,
        partition=partition,
        key=None if key is None else json.dumps(key).encode(),
        headers=[(f"__debezium.{k}", json.dumps(v).encode()) for k, v in (headers or {}).items()],
    )


def change_event(
    schema: str, table: str, op: str, lsn: int, offset: int, row: dict[str, Any]
) -> RawEvent:
    """A streamed change of a row with key `id`, in the topic of `schema.table`."""
    made = event(
        op,
        lsn=lsn,
        key={"id": row["id"]},
        before=row if op == "d" else None,
        after=None if op == "d" else row,
        commit=lsn - 1,
        offset=offset,
        snapshot="false",
        schema=schema,
        table=table,
        ts_us=lsn,
    )
    return made._replace(topic=f"hw.{schema}.{table}", timestamp_ms=0)


def raw(
    value: bytes | None,
    *,
    offset: int = 0,
    partition: int = 0,
    key: bytes | None = None,
    headers: list[tuple[str, bytes]] | None = None,
) -> RawEvent:
    """A record with this value, valid or not."""
    return RawEvent(TOPIC, partition, offset, MS, key, value, headers or [])
