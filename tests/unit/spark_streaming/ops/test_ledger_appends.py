"""Each batch is in the ledger once, whoever else appends to it and whatever becomes of the confirmation."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import obstore
import pytest

from spark_streaming.ops.ledger import Ledger, LedgerRow
from spark_streaming.storage.lake import LEDGER
from spark_streaming.tables.silver_table import TableOptions
from tests.support.disk_lake import DiskLake


def ledger_of(lake: DiskLake, query: str) -> Ledger:
    return Ledger(lake, query, TableOptions().properties())


def append(ledger: Ledger, query: str, batch: int) -> None:
    ledger.append([LedgerRow(query, batch, "orders"), LedgerRow(query, batch, "")], batch)


def batches(lake: DiskLake) -> list[tuple[str, int]]:
    """Query and batch of the rows of whole batches, as another process reads them."""
    found = lake.table(LEDGER).to_pyarrow_table().to_pylist()
    return sorted((row["query_id"], row["batch_id"]) for row in found if row["table_name"] == "")


def test_jobs_that_append_by_turns_lose_no_batch(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    ledgers = {query: ledger_of(lake, query) for query in ("one", "two")}
    for batch in range(4):
        for query, ledger in ledgers.items():
            append(ledger, query, batch)
            append(ledger, query, batch)  # repeated after a crash
        if batch == 2:
            ledgers["one"].compact(datetime(2020, 1, 1, tzinfo=timezone.utc))
    assert batches(lake) == [(query, batch) for query in ("one", "two") for batch in range(4)]


def test_maintenance_sees_the_newest_batch(tmp_path: Path) -> None:
    ledger = ledger_of(DiskLake(tmp_path), "one")
    for batch in range(3):
        append(ledger, "one", batch)
    assert ledger.handle().transaction_version("headwater:one:ledger") == 2


def test_a_batch_whose_confirmation_was_lost_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, put = DiskLake(tmp_path), obstore.put
    ledger = ledger_of(lake, "one")
    append(ledger, "one", 0)

    def put_and_fail(store: Any, path: str, *content: Any, **options: Any) -> None:
        put(store, path, *content, **options)
        if path.startswith("_delta_log/"):
            raise OSError("no answer")

    def put_twice(store: Any, path: str, *content: Any, **options: Any) -> None:
        put(store, path, *content, **options)
        if path.startswith("_delta_log/"):
            put(store, path, *content, **options)  # as a client does that had no answer

    for batch, fails in ((1, put_and_fail), (2, put_twice)):
        with monkeypatch.context() as patched:
            patched.setattr(obstore, "put", fails)
            try:
                append(ledger, "one", batch)
            except OSError:
                assert batch == 1
        append(ledger, "one", batch)
    assert batches(lake) == [("one", batch) for batch in range(3)]
