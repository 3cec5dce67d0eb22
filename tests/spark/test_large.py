"""A large part that executors fold has the same effect on silver as one folded by the driver."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from spark_streaming.events.event import RawEvent
from spark_streaming.fold import keyed_in_parts as large
from spark_streaming.job_settings import SilverSettings
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engines.arrow_merge import ArrowEngine
from tests.spark.backlog_job import Table
from tests.unit.debezium_events import event, raw
from tests.unit.model import BAG, KEYED, Source, split

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LARGE = {"spark_merge_rows_min": 1}
SLICED = {"merge_engine": "delta-rs", "small_batch_offsets_max": 3}
DRIVER = {"merge_engine": "delta-rs"}


class Cut(BaseException):
    """Simulates the death of the process, without any clean-up."""


def _cut(*_: object, **__: object) -> None:
    raise Cut


@pytest.fixture
def films(lake: Lake) -> Table:
    return Table(lake, KEYED)


@pytest.fixture(autouse=True)
def several_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few events for each task, so that keys are spread over tasks."""
    monkeypatch.setattr(large, "TASK_EVENTS", 4)


def insert(key: int, note: object = "a", big: str = "B", **other: Any) -> RawEvent:
    after = {"id": key, "note": note, "big": big}
    other = {"op": "c", "lsn": 100 + key, **other}
    op = other.pop("op")
    return event(op, key={"id": key}, after=after, **other)


def snapshot(key: int, **other: Any) -> RawEvent:
    return insert(key, op="r", lsn=90, offset=key, snapshot="true", **other)


def test_first_load_is_appended_and_equals_the_events(
    films: Table, spark: SparkSession, silver_settings: SilverSettings
) -> None:
    job = films.job(spark, silver_settings, **LARGE)
    row = job.take([snapshot(key) for key in range(40)])
    assert (row.engine, row.rows_in, row.rows_upserted) == ("spark", 40, 40)
    assert films.content() == Counter([(key, "a", "B") for key in range(40)])
    [last] = films.lake.table(f"silver/{films.name}").history(1)
    assert last["operation"] == "WRITE"


def test_first_load_beyond_the_threshold_goes_the_spark_way_in_auto(
    films: Table, spark: SparkSession, silver_settings: SilverSettings
) -> None:
    assert silver_settings.merge_engine == "auto"
    job = films.job(spark, silver_settings, spark_merge_rows_min=20, small_batch_offsets_max=10)
    engines = [
        job.take([snapshot(key) for key in keys]).engine
        for keys in (range(20), range(20, 35), range(35, 40))
    ]
    assert engines == ["spark", "arrow", "arrow"]
    assert films.content() == Counter([(key, "a", "B") for key in range(40)])


@pytest.mark.parametrize("partitions", [1, 3])
def test_random_history_ends_alike_in_every_way(
    lake: Lake,
    spark: SparkSession,
    silver_settings: SilverSettings,
    partitions: int,
    seed: int,
) -> None:
    random = Random(seed)
    # With several partitions, slices may read a key change's halves apart: see Known limits.
    source = Source(random, KEYED, partitions, toast=partitions == 1)
    for _ in range(20):
        source.step()
    source.snapshot(first=True)
    loaded = len(source.stream)
    for _ in range(50):
        source.step()
        if random.random() < 0.3:
            source.send()
    events = source.finish()
    batches = [one for one in (events[:loaded], *split(events[loaded:], random)) if one]
    ended = []
    for way in (DRIVER, LARGE, SLICED):
        table = Table(lake, KEYED)
        job = table.job(spark, silver_settings, **way)
        rows = [job.take(batch) for batch in batches]
        assert table.content() == source.content()
        assert table.quarantined() == []
        if way is LARGE and loaded:
            assert rows[0].engine == "spark"
        # Slices are separate batches: the next one skips the events that a truncate of an earlier one removed.
        counts = [(row.rows_in, row.rows_skipped) for row in rows] if way is not SLICED else None
        marks = [sorted(row.high_water.positions.values()) for row in rows]
        ended.append((table.rows(), marks, counts))
    assert ended[0] == ended[1]
    assert ended[0][:2] == ended[2][:2]


def test_random_bag_history_ends_alike_in_slices(
    lake: Lake, spark: SparkSession, silver_settings: SilverSettings, seed: int
) -> None:
    random = Random(seed)
    source = Source(random, BAG, 1)
    for _ in range(60):
        source.step()
    source.snapshot(first=True)
    for _ in range(60):
        source.step()
        source.send()
    table = Table(lake, BAG)
    job = table.job(spark, silver_settings, **(SLICED | LARGE | {"merge_engine": "auto"}))
    row = job.take(source.finish())
    assert row.engine == "delta-rs"
    assert table.content() == source.content()


def test_rejects_of_a_large_part_go_to_quarantine_once(
    films: Table,
    spark: SparkSession,
    silver_settings: SilverSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [snapshot(key) for key in range(1, 30)]
    bad = [raw(b"no json", offset=100, key=b'{"id": 1}'), insert(40, note=5, offset=101)]
    job, span = films.job(spark, silver_settings, **LARGE), films.next_span([*rows, *bad])
    monkeypatch.setattr(job.ledger, "append", _cut)
    with pytest.raises(Cut):
        job.run(0, span)
    row = films.job(spark, silver_settings, **LARGE).run(0, span)
    assert (row.rows_in, row.rows_quarantined, row.rows_upserted) == (31, 2, 0)
    held = films.quarantined()
    assert [(row["offset"], row["raw_value"]) for row in held] == [
        (one.offset, one.value) for one in bad
    ]
    assert films.content() == Counter([(key, "a", "B") for key in range(1, 30)])


def test_updates_keep_large_values_that_only_silver_has(
    films: Table, spark: SparkSession, silver_settings: SilverSettings
) -> None:
    job = films.job(spark, silver_settings, **LARGE)
    job.take([snapshot(key) for key in range(1, 11)])
    gone = "__debezium_unavailable_value"
    changes = [
        insert(key, op="u", note="new", big=gone, lsn=200 + key, offset=200 + key)
        for key in range(6, 16)
    ]
    row = job.take(changes)
    assert (row.engine, row.rows_upserted, row.rows_quarantined) == ("arrow", 5, 5)
    kept = {key: "a" if key < 6 else "new" for key in range(1, 11)}
    assert films.content() == Counter([(key, note, "B") for key, note in kept.items()])
    assert [held["rule"] for held in films.quarantined()] == ["unavailable-value"] * 5


def test_key_changes_among_many_rows_go_the_same_way(
    films: Table, spark: SparkSession, silver_settings: SilverSettings
) -> None:
    job = films.job(spark, silver_settings, **LARGE)
    job.take([snapshot(key) for key in range(1, 21)])
    gone = "__debezium_unavailable_value"
    old, new = {"id": 7}, {"id": 70}
    changes = [
        insert(key, op="u", note="new", lsn=200 + key, offset=200 + key) for key in range(10, 20)
    ]
    changes += [
        event("d", lsn=300, order=1, key=old, before=old, headers={"newkey": new}),
        insert(70, big=gone, lsn=300, order=2, offset=301, headers={"oldkey": old}),
    ]
    row = job.take(changes)
    assert (row.engine, row.rows_upserted, row.rows_deleted) == ("spark", 11, 1)
    notes = {key: "new" if 10 <= key < 20 else "a" for key in [*range(1, 21), 70] if key != 7}
    assert films.content() == Counter([(key, note, "B") for key, note in notes.items()])


@pytest.mark.parametrize("step", ["ledger", "merge"])
def test_large_part_cut_at_any_step_runs_again_without_effect(
    films: Table,
    spark: SparkSession,
    silver_settings: SilverSettings,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    span = films.next_span([snapshot(key) for key in range(1, 30)])
    job = films.job(spark, silver_settings, **LARGE)
    with monkeypatch.context() as patch:
        if step == "ledger":
            patch.setattr(job.ledger, "append", _cut)
        else:
            patch.setattr("spark_streaming.tables.engines.spark_merge.SparkEngine.merge_rows", _cut)
        with pytest.raises(Cut):
            job.run(0, span)
    row = films.job(spark, silver_settings, **LARGE).run(0, span)
    assert films.content() == Counter([(key, "a", "B") for key in range(1, 30)])
    assert (row.rows_in, row.rows_upserted) == (29, 0 if step == "ledger" else 29)
    assert films.lake.table(f"silver/{films.name}").version() == 1


def test_part_that_the_executors_cannot_merge_is_merged_in_slices(
    films: Table,
    spark: SparkSession,
    silver_settings: SilverSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("an executor was lost")

    monkeypatch.setattr("spark_streaming.batch.table_steps.RETRY_PAUSES_S", ())
    monkeypatch.setattr("spark_streaming.tables.engines.spark_merge.SparkEngine.merge_rows", fail)
    row = films.job(spark, silver_settings, **LARGE).take([snapshot(key) for key in range(1, 30)])
    assert (row.engine, row.rows_upserted) == ("arrow", 29)
    assert films.content() == Counter([(key, "a", "B") for key in range(1, 30)])


def test_table_that_fails_in_a_slice_stops_there_and_catches_up(
    films: Table,
    spark: SparkSession,
    silver_settings: SilverSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spark_streaming.batch.table_steps.RETRY_PAUSES_S", ())
    job = films.job(spark, silver_settings, **SLICED)
    merge, calls = ArrowEngine.merge, 0

    def fail_once(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise ValueError("a row that nobody thought of")
        return merge(*given)

    monkeypatch.setattr(ArrowEngine, "merge", fail_once)
    row = job.take([snapshot(key) for key in range(12)])
    assert (row.state, row.rows_upserted) == ("stopped", 6)
    # A new process retries at once, from the failed slice.
    films.job(spark, silver_settings, **SLICED).take([snapshot(20)])
    expected = [*range(12), 20]
    assert films.content() == Counter([(key, "a", "B") for key in expected])


def test_slices_that_were_cut_go_on_where_the_table_stands_in_any_way(
    films: Table,
    spark: SparkSession,
    silver_settings: SilverSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = [
        insert(key, op="u" if lsn > 120 else "c", note=f"n{lsn}", lsn=lsn, offset=lsn - 100)
        for lsn, key in enumerate([1, 2, 3, 4, 5] * 8, 101)
    ]
    span = films.next_span(changes)
    job = films.job(spark, silver_settings, **SLICED)
    prepare, calls = job.runner.steps.prepare, 0

    def prepare_or_die(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Cut
        return prepare(*given)

    monkeypatch.setattr(job.runner.steps, "prepare", prepare_or_die)
    with pytest.raises(Cut):
        job.run(0, span)
    # With other limits the slices end elsewhere, and the part would fit as a whole.
    row = films.job(spark, silver_settings, **DRIVER).run(0, span)
    assert row.rows_in == 40
    assert films.content() == Counter([(key, f"n{135 + key}", "B") for key in range(1, 6)])


def test_driver_never_holds_more_than_its_bytes(
    films: Table, spark: SparkSession, silver_settings: SilverSettings
) -> None:
    wide = [snapshot(key, big="x" * 300_000) for key in range(1, 21)]
    job = films.job(spark, silver_settings, merge_engine="delta-rs", small_batch_mb_max=1)
    row = job.take(wide)
    assert (row.rows_in, row.rows_upserted) == (20, 20)
    assert films.content() == Counter([(key, "a", "x" * 300_000) for key in range(1, 21)])
    assert max(films.held.reads) <= 3
