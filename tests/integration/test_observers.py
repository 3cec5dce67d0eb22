"""The observers that look for a change in bronze, silver and Trino; with a real store and a real Trino."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest

from app.lake.lakehouse import Lakehouse
from app.lake.table_follower import COMMITS_MAX
from app.query.trino_connection import connect
from app.watch.flow import Change, Pending
from app.watch.observers import ANEW_S, Bronze, Silver, Trino, query_of
from spark_streaming.contract.lsn import Lsn
from spark_streaming.ops.ledger import Ledger, LedgerRow
from spark_streaming.reading.bronze_names import BLOCK_OFFSETS
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

WITHIN_S = 90.0
EVENTS = 10  # of a table in each batch
FILES_MIN = 12  # of a ledger that was not compacted yet


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with fresh_stack() as fresh:
        fresh.up("--only", "tables")
        yield fresh


@pytest.fixture(scope="module")
def ledger(stack: Stack) -> Ledger:
    return Ledger(Lakehouse(stack.settings).lake, "query", {})


class Batches:
    """Batches of one table, each with EVENTS more events than the previous one."""

    def __init__(self, ledger: Ledger, table: str) -> None:
        self._ledger = ledger
        self.table = table
        self.offset = 0

    def merge(self, at: datetime | None = None) -> None:
        """Add a batch that ended `at`."""
        self.offset += EVENTS
        batch = (self._ledger.handle().transaction_version("headwater:query:ledger") or 0) + 1
        row = LedgerRow(
            "query",
            batch,
            self.table,
            delta_version=batch,
            offsets={f"hw.public.{self.table}": {0: self.offset}},
            merged_at=at or datetime.now(timezone.utc),
        )
        self._ledger.append([row], batch)

    def change(self, offset: int) -> Change:
        """The event at `offset`, which an observer has just seen in Kafka."""
        now = time.time()
        return Change(f"hw.public.{self.table}", 0, offset, self.table, "u", "", Lsn(7), now, now)


def waiting(pending: Pending, hop: str) -> list[int]:
    return [change.offset for change in pending.waiting(hop)]


def test_bronze_has_a_change_with_the_object_that_holds_it_in_whichever_block_of_offsets(
    stack: Stack,
) -> None:
    files = Lakehouse(stack.settings).bronze_files()
    folder = "hw.public.landed/partition=0"

    def put(first: int, last: int) -> str:
        path = f"{folder}/block={first // BLOCK_OFFSETS:016d}/{first:020d}.jsonl.gz"
        lines = "".join(f'{{"offset":{offset}}}\n' for offset in range(first, last + 1))
        files.create_dir(path.rsplit("/", 1)[0], recursive=True)
        with files.open_output_stream(path, compression=None) as stream:
            stream.write(gzip.compress(lines.encode()))
        return path

    places: dict[int, str] = {}
    pending = Pending(lambda one, hop: places.update({one.offset: one.where.get(hop, "")}))
    batches = Batches(Ledger(Lakehouse(stack.settings).lake, "", {}), "landed")
    for offset in (3, 5, 9_995, 10_003, 10_010, 35_000):
        pending.add(batches.change(offset))
    bronze = Bronze(stack.settings, pending)
    bronze.poll()
    assert waiting(pending, "bronze") == [3, 5, 9_995, 10_003, 10_010, 35_000]
    first = put(0, 4)
    bronze.poll()
    assert (places[3], waiting(pending, "bronze")[0]) == (first, 5)
    second, across = put(5, 9_990), put(9_991, 10_004)
    bronze.poll()
    assert [places[offset] for offset in (5, 9_995, 10_003)] == [second, across, across]
    assert waiting(pending, "bronze") == [10_010, 35_000]
    bronze.poll()
    pending.add(batches.change(10_007))
    following = put(10_006, 10_008), put(10_010, 10_010)  # a marker is between them
    bronze.poll()
    assert (places[10_007], places[10_010]) == following
    assert waiting(pending, "bronze") == [35_000]
    late = Bronze(stack.settings, pending)  # of another process, which has not seen these
    pending.add(batches.change(4))
    late.poll()
    assert (places[4], waiting(pending, "bronze")) == (first, [35_000])


def test_silver_has_a_change_with_its_batch_and_not_before_whatever_becomes_of_the_ledger(
    stack: Stack, ledger: Ledger
) -> None:
    batches = Batches(ledger, "followed")
    pending = Pending(lambda change, hop: None)
    for offset in (0, 10, 20, 30, 40, 9_999):
        pending.add(batches.change(offset))
    silver = Silver(stack.settings, pending)
    silver.poll()
    assert waiting(pending, "silver") == [0, 10, 20, 30, 40, 9_999]
    batches.merge()
    silver.poll()
    assert waiting(pending, "silver") == [10, 20, 30, 40, 9_999]
    ledger.compact(datetime.now(timezone.utc))
    silver.poll()
    batches.merge()
    ledger.handle().create_checkpoint()
    silver.poll()
    assert waiting(pending, "silver") == [20, 30, 40, 9_999]
    silver._changed_at -= ANEW_S + 1  # as if nothing had waited for silver meanwhile
    batches.merge()
    silver.poll()
    assert waiting(pending, "silver") == [30, 40, 9_999]
    for _ in range(COMMITS_MAX + 2):  # more commits than are followed one by one
        batches.merge()
    silver.poll()
    assert waiting(pending, "silver") == [9_999]


def test_trino_is_said_to_have_what_its_own_answer_has_and_nothing_else(
    stack: Stack, ledger: Ledger
) -> None:
    batches, other = Batches(ledger, "asked"), Batches(ledger, "asked_too")
    # Trino has milliseconds: however it rounds, a batch is found by its own time.
    base = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=5)
    batches.merge(base + timedelta(microseconds=123_999))
    other.merge(base + timedelta(microseconds=223_400))
    until(
        lambda: stack.query("SELECT 1 FROM ops.ledger LIMIT 1"),
        within_s=WITHIN_S,
        what="the ledger in Trino",
    )
    seen: list[tuple[str, int, str]] = []
    pending = Pending(lambda one, hop: seen.append((one.table, one.offset, one.where.get(hop, ""))))
    for change in (batches.change(0), other.change(0), batches.change(10)):
        pending.add(change)
    silver = Silver(stack.settings, pending)
    silver.poll()
    # A wrong observation of silver is not repeated for Trino.
    ahead = other.change(10)
    ahead.merged_at = base
    pending.add(ahead)
    pending.mark(ahead, "silver", "batch 0")
    seen.clear()
    with closing(Trino(stack.settings, pending)) as trino:
        trino.poll()
        assert [(table, offset) for table, offset, _ in seen] == [("asked", 0), ("asked_too", 0)]
        assert all(f"version {where.split()[1].strip(',')}" in where for *_, where in seen)
        batches.merge()
        silver.poll()
        trino.poll()
        assert seen[-1][:2] == ("asked", 10)
        assert waiting(pending, "trino") == [10], "of the other table, which has had no batch more"


def test_trino_opens_only_the_files_of_the_batches_in_question(
    stack: Stack, ledger: Ledger
) -> None:
    batches = Batches(ledger, "pruned")
    began = datetime.now(timezone.utc) + timedelta(minutes=1)  # after all earlier batches
    for second in range(FILES_MIN):
        batches.merge(began + timedelta(seconds=second))
    newest = batches.change(batches.offset - 1)
    newest.merged_at = Lakehouse(stack.settings).ledger()["pruned"].merged_at
    with closing(connect(stack.settings.trino_url)) as connection:
        cursor = connection.cursor()
        cursor.execute(query_of([newest]))
        [row] = cursor.fetchall()
        assert row[0] == "pruned"
        assert (cursor.stats or {})["totalSplits"] < FILES_MIN
