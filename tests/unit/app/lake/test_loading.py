"""`up` and `status` report a first snapshot: its tables, its progress, and the time left."""

from __future__ import annotations

import io
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from app.cli.status.snapshot_progress import Load, Loading, follow, loading
from app.connectors.first_snapshot import Reading, reading_of
from app.environment.settings import load
from app.lake.silver_loading import Merged, summed
from app.printing import Steps

# From a real worker, without the lines that are not used.
METRICS = """
# HELP debezium_snapshot_snapshotrunning Attribute exposed for management debezium.postgres
# TYPE debezium_snapshot_snapshotrunning gauge
debezium_snapshot_snapshotrunning 1.0
debezium_snapshot_remainingtablecount 2.0
debezium_snapshot_snapshotdurationinseconds 40.0
# TYPE debezium_snapshot_rows_read gauge
debezium_snapshot_rows_read{table="public.orders"} 120000.0
debezium_snapshot_rows_read{table="Odd schema.a.b"} 3.0
kafka_connect_worker_task_count 2.0
"""
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
ORDERS, LATER = ("public", "orders"), ("public", "later")


def ledger(*entries: tuple[int, str, int], state: str = "running") -> Merged:
    """Rows from (seconds after the start, table, events), each in a separate batch."""
    return summed(
        {
            "query_id": "q",
            "batch_id": number,
            "table_name": table,
            "merged_at": START + timedelta(seconds=seconds),
            "rows_in": rows,
            "state": state,
            "refusal": None,
        }
        for number, (seconds, table, rows) in enumerate(entries)
    )


def reading(rows: int, *, running: bool = True) -> Reading:
    return Reading(running=running, seconds=10.0, rows={"public.orders": rows})


def test_the_workers_metrics_tell_the_rows_of_each_table() -> None:
    found = reading_of(METRICS)
    assert found == Reading(True, 40.0, {"public.orders": 120_000, "Odd schema.a.b": 3})
    assert reading_of("") == Reading()


def test_a_table_is_told_with_what_was_read_and_merged_and_the_time_left() -> None:
    taken = ledger((10, "orders", 100), (20, "orders", 200), (30, "orders", 300))
    found = loading(reading(1_000), {ORDERS: 4_000, LATER: 600}, taken)
    assert found is not None
    assert [one.text() for one in found.tables] == [
        "public.orders: 1,000 of about 4,000 rows read (25 %), 600 merged",
        "public.later: waits for its turn, about 600 rows",
    ]
    # 500 events in 20 s since the end of the first batch; 4,000 - 600 and 600 are left.
    assert found.to_go_s == (4_000 - 600 + 600) / 25
    assert found.text() == "first snapshot: 2 tables are still being loaded, about 2m 40s to go"


def test_a_table_of_unknown_size_has_no_share_and_no_time() -> None:
    found = loading(reading(1_000), {ORDERS: None}, ledger((1, "orders", 10), (2, "orders", 10)))
    assert found is not None
    assert found.to_go_s is None
    assert found.tables[0].text() == "public.orders: 1,000 rows read, 20 merged"
    assert found.text() == "first snapshot: 1 table is still being loaded"


def test_the_share_is_not_whole_while_more_may_come() -> None:
    assert Load("public.orders", "loading", 5_000, 4_000, 0).percent == 99


def test_a_table_goes_on_loading_until_silver_has_what_was_read() -> None:
    read = reading(1_000, running=False)
    assert loading(read, {}, ledger((1, "orders", 999))) is not None
    assert loading(read, {}, ledger((1, "orders", 400), (2, "orders", 600))) is None


def test_without_silver_only_the_reading_is_told() -> None:
    assert loading(reading(10, running=False), {}, Merged(), with_silver=False) is None
    found = loading(reading(10), {ORDERS: 100}, Merged(), with_silver=False)
    assert found is not None
    assert found.to_go_s == 90.0


def test_a_table_that_silver_has_stopped_is_not_waited_for() -> None:
    stopped = ledger((1, "orders", 0), state="stopped")
    found = loading(reading(10), {ORDERS: 100}, stopped)
    assert found is not None
    assert found.tables[0].text().endswith("0 merged, stopped in silver")
    assert loading(reading(10, running=False), {}, stopped) is None


def test_a_snapshot_of_one_new_table_leaves_the_loaded_ones_out() -> None:
    taken = ledger((1, "later", 50))
    found = loading(reading(10), {ORDERS: 100, LATER: 60}, taken)
    assert found is not None
    assert [one.table for one in found.tables] == ["public.orders"]


def test_the_pipelines_own_tables_are_nobodys_rows() -> None:
    assert loading(Reading(rows={"headwater.signal": 3}), {}, Merged()) is None


def test_up_says_what_is_left_and_how_to_watch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = Loading([Load("public.orders", "loading", 10, 100, 0)] * 30, 60.0)
    monkeypatch.setattr("app.cli.status.snapshot_progress.observe", lambda *_, **__: left)
    monkeypatch.setattr("app.cli.status.snapshot_progress.FOLLOW_S", 0.0)
    out = io.StringIO()
    follow(load(tmp_path), Steps(out), with_silver=True)
    lines = out.getvalue().splitlines()
    assert lines[0] == "first snapshot: 30 tables are still being loaded, about 1m 0s to go"
    assert lines[1] == "  public.orders: 10 of about 100 rows read (10 %), 0 merged"
    assert lines[-2:] == [
        "  and 10 more",
        "until then queries see what has been merged; watch it: ./headwater status",
    ]


def test_where_it_cannot_be_found_out_up_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(settings: object, with_silver: bool) -> None:
        raise OSError("the store is away")

    monkeypatch.setattr("app.cli.status.snapshot_progress.observe", refused)
    out = io.StringIO()
    follow(load(tmp_path), Steps(out), with_silver=True)
    assert out.getvalue() == "how far the first snapshot is, is not known: the store is away\n"
