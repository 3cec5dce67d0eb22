"""Quarantine: events that broke their contract, whole, with the reason, for a later replay."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake import write_deltalake as write_delta
from deltalake.exceptions import TableNotFoundError

from spark_streaming.engines.protocol import TIMESTAMP
from spark_streaming.events import Reject
from spark_streaming.lake import QUARANTINE, Lake

SCHEMA = pa.schema(
    [
        ("table_name", pa.string()),
        ("key", pa.string()),
        ("reason", pa.string()),
        ("rule", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("event_timestamp", TIMESTAMP),
        ("raw_key", pa.binary()),
        ("raw_value", pa.binary()),
        ("raw_headers", pa.string()),
        ("quarantined_at", TIMESTAMP),
    ]
)
_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class Quarantine:
    """The quarantine table in the lake; one writer."""

    def __init__(self, lake: Lake, query_id: str, properties: dict[str, str | None]) -> None:
        self._lake = lake
        self._app_id = f"headwater:{query_id}:quarantine"
        self._properties = properties

    def ensure(self) -> DeltaTable:
        """The table; made where there is none, so that SQL finds it before the first bad row."""
        try:
            return self._lake.table(QUARANTINE)
        except TableNotFoundError:
            return DeltaTable.create(
                self._lake.url(QUARANTINE),
                schema=SCHEMA,
                mode="ignore",
                configuration=self._properties,
                storage_options=self._lake.storage_options(),
            )

    def put(self, rejects: dict[str, Sequence[Reject]], version: int) -> None:
        """Write a batch's rejects (by silver table) in one commit; of a repeated batch only what
        is not there yet: a table that failed before its rejects were known may have some now."""
        table = self.ensure()
        recorded = table.transaction_version(self._app_id)
        if recorded is not None and recorded >= version:
            for name, some in rejects.items():
                self.put_missing(name, some)
            return
        _append(
            table, rejects, CommitProperties(app_transactions=[Transaction(self._app_id, version)])
        )

    def put_missing(self, table_name: str, rejects: Sequence[Reject]) -> None:
        """Write those of one table's rejects whose events are not there yet, in one commit."""
        table = self.ensure()
        offsets = [reject.event.offset for reject in rejects]
        held = table.to_pyarrow_dataset().to_table(
            columns=["topic", "partition", "offset"],
            filter=(pc.field("table_name").cast(pa.string()) == table_name)
            & (pc.field("offset") >= min(offsets))
            & (pc.field("offset") <= max(offsets)),
        )
        there = set(zip(*(column.to_pylist() for column in held.columns), strict=True))
        new = [
            r for r in rejects if (r.event.topic, r.event.partition, r.event.offset) not in there
        ]
        if new:
            _append(table, {table_name: new}, None)


def _append(
    table: DeltaTable,
    rejects: Mapping[str, Sequence[Reject]],
    properties: CommitProperties | None,
) -> None:
    now = datetime.now(timezone.utc)
    rows = [_row(name, reject, now) for name, some in rejects.items() for reject in some]
    write_delta(
        table,
        pa.Table.from_pylist(rows, schema=SCHEMA),
        mode="append",
        commit_properties=properties,
        post_commithook_properties=_HOOKS,
    )


def _row(table: str, reject: Reject, now: datetime) -> dict[str, object]:
    event = reject.event
    headers = [[name, value.decode("utf-8", "replace")] for name, value in event.headers]
    return {
        "table_name": table,
        "key": reject.key,
        "reason": reject.reason,
        "rule": reject.rule,
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "event_timestamp": datetime.fromtimestamp(event.timestamp_ms / 1000, timezone.utc),
        "raw_key": event.key,
        "raw_value": event.value,
        "raw_headers": json.dumps(headers),
        "quarantined_at": now,
    }
