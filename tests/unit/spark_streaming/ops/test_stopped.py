"""Which table a failure belongs to, what a stopped table merges next, and when it is retried."""

from __future__ import annotations

from random import Random

import pytest

from spark_streaming.contract.contract_store import CatalogUnreachableError
from spark_streaming.ops.stopped import (
    BACKOFF_S_MAX,
    SOURCE_RETRY_S_MAX,
    Failure,
    Slice,
    TableStoppedError,
    backoff_s,
    batch_must_fail,
    first_offsets,
    is_shared,
    next_slice,
    reason_of,
    stop_table,
)
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.tables.engine_protocol import Commit

OWN = ValueError("column v does not fit")
AWAY = OSError("Generic S3 error: error sending request for url")
RULE = TableStoppedError("rule")
SOURCE_AWAY = CatalogUnreachableError("connection refused")


@pytest.mark.parametrize(
    ("error", "shared"),
    [
        (OWN, False),
        (AWAY, True),
        (FileNotFoundError("silver/orders/part-1.parquet"), False),
        (OSError("AWS Error UNKNOWN (HTTP status 503) during GetObject"), True),
        (OSError("Generic error: 403 Forbidden"), True),
        (ConnectionRefusedError(), True),
        (MemoryError(), True),
        (OSError(28, "No space left on device"), True),
    ],
)
def test_an_error_of_what_all_tables_share_is_known_as_such(error: Exception, shared: bool) -> None:
    assert is_shared(error) is shared


def test_an_errors_cause_tells_too() -> None:
    try:
        try:
            raise ConnectionResetError
        except ConnectionResetError as cause:
            raise RuntimeError("the merge failed") from cause
    except RuntimeError as error:
        assert is_shared(error)


@pytest.mark.parametrize(
    ("failures", "worked", "fails"),
    [
        ([Failure(OWN)], 3, False),
        ([Failure(OWN)], 0, False),
        ([Failure(OWN), Failure(OWN)], 1, False),
        ([Failure(OWN), Failure(OWN)], 0, True),
        ([Failure(OWN, 2), Failure(OWN, 2)], 0, False),
        ([Failure(AWAY)], 3, True),
        ([Failure(OWN), Failure(AWAY)], 3, True),
        ([Failure(AWAY, 2)], 3, False),
        ([Failure(AWAY, 9), Failure(AWAY, 9)], 0, True),
        ([Failure(RULE), Failure(RULE)], 0, False),
        ([Failure(RULE), Failure(AWAY)], 1, True),
        ([Failure(SOURCE_AWAY), Failure(SOURCE_AWAY)], 0, False),
        ([Failure(SOURCE_AWAY), Failure(AWAY)], 0, True),
    ],
)
def test_a_trouble_of_all_fails_the_batch_and_one_of_some_stops_them(
    failures: list[Failure], worked: int, fails: bool
) -> None:
    assert batch_must_fail(failures, worked) is fails


def test_a_rule_stops_its_table_with_reason_and_hint() -> None:
    with pytest.raises(TableStoppedError) as raised:
        stop_table("rule `price_known`: 3 rows break it", hint="repair the rows")
    assert reason_of(raised.value) == (
        "rule `price_known`: 3 rows break it\n  hint: repair the rows"
    )


def test_a_reason_is_short_and_without_a_javas_stack() -> None:
    error = RuntimeError("it broke\n\tat org.apache.Spark(Spark.scala:1)\n" + "x" * 5000)
    reason = reason_of(error)
    assert reason.startswith("RuntimeError: it broke\nxxx")
    assert "at org" not in reason
    assert len(reason) < 1100


def test_a_table_that_waits_for_the_source_is_tried_soon_after_it_is_back() -> None:
    assert backoff_s(30, SOURCE_AWAY) == SOURCE_RETRY_S_MAX < backoff_s(30, OWN)


def test_tries_grow_apart_up_to_a_limit() -> None:
    pauses = [backoff_s(attempts) for attempts in range(1, 12)]
    assert pauses[:4] == [5.0, 10.0, 20.0, 40.0]
    assert pauses == sorted(pauses)
    assert backoff_s(10_000) == pauses[-1] == BACKOFF_S_MAX


def test_slices_cover_every_offset_once_and_no_two_share_a_commit(seed: int) -> None:
    random = Random(seed)
    for _ in range(200):
        partitions = range(random.randint(1, 4))
        offsets = {p: random.randint(0, 50) for p in partitions if random.random() < 0.8}
        begin = {p: offsets.get(p, 0) for p in partitions}
        end = {p: begin[p] + random.randint(0, 60) for p in partitions}
        at, versions = begin, []
        for _ in range(500):
            limit = random.randint(1, 40)
            piece = next_slice("app", offsets, end, limit)
            if piece is None:
                break
            assert {p: piece.start[p] for p in partitions} == at
            assert 0 < piece.size <= limit + len(partitions)
            versions.append(piece.commit.version)
            offsets = at = dict(piece.end)
        assert at == end
        assert versions == sorted(set(versions))


def test_a_slice_never_goes_back_where_the_batch_ends_before_it() -> None:
    assert next_slice("app", {0: 10}, {0: 5}, 100) is None


def test_a_slice_is_read_back_as_it_was_noted() -> None:
    piece = Slice({0: 1, 3: 7}, {0: 5, 3: 9}, Commit("headwater:q:orders:resume", 14))
    assert Slice.from_json(piece.to_json()) == piece


def test_a_partition_that_spark_had_not_seen_begins_at_its_first_event() -> None:
    span = BatchSpan({"t": {0: 5}}, {"t": {0: 9, 1: 30, 2: 4}})
    assert first_offsets(span, "t", [(0, 6), (1, 22), (1, 21)]) == {0: 5, 1: 21, 2: 4}
