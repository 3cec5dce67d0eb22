"""The job of peer `bare-loop`: consume, keep the newest event of each key, merge, commit the offsets.

Started by `kafka_fed`, by the interpreter that has confluent-kafka.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from confluent_kafka import Consumer
from deltalake import DeltaTable

from tests.bench.peers.delta_tables import SCHEMA, make_tables

RECORDS_MAX = 20_000
WAIT_S = 0.2
DELETED = pa.field("deleted", pa.bool_())


def main(options: dict[str, Any]) -> None:
    topics: dict[str, str] = options["topics"]
    lake = Path(options["lake"])
    make_tables(lake, list(topics.values()), {})
    tables = {topic: DeltaTable(str(lake / name)) for topic, name in topics.items()}
    consumer = Consumer(
        {
            "bootstrap.servers": options["kafka"],
            "group.id": "bare-loop",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
        }
    )
    consumer.subscribe(list(topics))
    while True:
        newest: dict[str, dict[int, dict[str, Any] | None]] = {topic: {} for topic in topics}
        messages = consumer.consume(RECORDS_MAX, timeout=WAIT_S)
        for message in messages:
            if message.error():
                raise RuntimeError(str(message.error()))
            value = message.value()
            if value is not None:  # a tombstone follows each delete
                event = orjson.loads(value)
                row = event["after"]
                newest[message.topic()][(row or event["before"])["id"]] = row
        for topic, rows in newest.items():
            if rows:
                merge(tables[topic], rows)
        if messages:
            consumer.commit(asynchronous=False)


def merge(table: DeltaTable, rows: dict[int, dict[str, Any] | None]) -> None:
    """Merge the newest row of each key; None is a delete."""
    given = [{"id": key, **values(row)} for key, row in rows.items()]
    changes = pa.Table.from_pylist(given, schema=SCHEMA.append(DELETED))
    columns = {name: f"s.{name}" for name in SCHEMA.names}
    (
        table.merge(changes, "t.id = s.id", source_alias="s", target_alias="t")
        .when_matched_delete("s.deleted")
        .when_matched_update(columns)
        .when_not_matched_insert(columns, "NOT s.deleted")
        .execute()
    )


def values(row: dict[str, Any] | None) -> dict[str, Any]:
    """A row's values beside the key."""
    if row is None:
        return {"deleted": True}
    return {
        "v": row["v"],
        "note": row["note"],
        "body": row["body"],
        "price": row["price"] and Decimal(row["price"]),
        "updated_at": datetime.fromisoformat(row["updated_at"].replace("Z", "+00:00")),
        "deleted": False,
    }


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
