"""How often each rule was broken: `ops/expectations`, one row for each batch, table and rule."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake import write_deltalake as write_delta
from deltalake.exceptions import TableNotFoundError

from spark_streaming.storage.lake import EXPECTATIONS, Lake
from spark_streaming.tables.engine_protocol import TIMESTAMP

SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("batch_id", pa.int64()),
        ("table_name", pa.string()),
        ("rule", pa.string()),
        ("action", pa.string()),
        ("rows_broken", pa.int64()),
        ("rows_in", pa.int64()),
        ("found_at", TIMESTAMP),
    ]
)
KEPT = timedelta(days=30)
_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


@dataclass(frozen=True)
class Breach:
    """One rule that rows of one batch broke. `rows_in`: events of the table in the batch."""

    table_name: str
    rule: str
    action: str
    rows_broken: int
    rows_in: int


class Breaches:
    """The table in the lake; one writer. Only batches in which a rule is broken write to it."""

    path = EXPECTATIONS

    def __init__(self, lake: Lake, query_id: str, properties: dict[str, str | None]) -> None:
        self._lake = lake
        self._query_id = query_id
        self._app_id = f"headwater:{query_id}:expectations"
        self._properties = properties
        # Batches and maintenance hold it while they write.
        self.lock = threading.Lock()

    def ensure(self) -> DeltaTable:
        """The table; made if there is none, so that SQL finds it before the first breach."""
        try:
            return self._lake.table(EXPECTATIONS)
        except TableNotFoundError:
            return DeltaTable.create(
                self._lake.url(EXPECTATIONS),
                schema=SCHEMA,
                mode="ignore",
                configuration=self._properties,
                storage_options=self._lake.storage_options(),
            )

    def put(self, breaches: Sequence[Breach], batch_id: int | None) -> None:
        """Write a batch's breaches in one commit; a repeated batch is skipped.

        batch_id: None for a table that is catching up; a repetition is then counted twice.
        """
        if not breaches:
            return
        table = self.ensure()
        recorded = table.transaction_version(self._app_id)
        if batch_id is not None and recorded is not None and recorded >= batch_id:
            return
        named = None
        if batch_id is not None:
            named = CommitProperties(app_transactions=[Transaction(self._app_id, batch_id)])
        now = datetime.now(timezone.utc)
        common = {"query_id": self._query_id, "batch_id": batch_id, "found_at": now}
        rows = [{**asdict(breach), **common} for breach in breaches]
        with self.lock:
            write_delta(
                table,
                pa.Table.from_pylist(rows, schema=SCHEMA),
                mode="append",
                commit_properties=named,
                post_commithook_properties=_HOOKS,
            )

    def prune(self) -> None:
        """Remove rows older than KEPT."""
        limit = (datetime.now(timezone.utc) - KEPT).isoformat()
        self.ensure().delete(f"found_at < '{limit}'", post_commithook_properties=_HOOKS)
