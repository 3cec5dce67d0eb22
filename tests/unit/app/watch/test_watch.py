"""Observing changes: sampling, the order of hops, and when waiting ends."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timezone
from typing import Any

import pytest

from app.environment.settings import load
from app.watch.flow import GIVE_UP_S, Change, Pending
from app.watch.observers import BACK_S_MAX, POLL_S, REST_S_MAX, _oldest, query_of, rest_s
from app.watch.watch import SHOWN_A_TABLE, SHOWN_PER_S, Watch, _debezium_ms, _follow
from spark_streaming.contract.lsn import Lsn


def change(offset: int = 1, **more: Any) -> Change:
    now = time.time()
    return Change("hw.public.a", 0, offset, "a", "u", "", Lsn(7), now, now, **more)


def test_a_change_is_shown_at_each_hop_once_and_trino_waits_for_silver() -> None:
    seen: list[tuple[str, str]] = []
    pending = Pending(lambda one, hop: seen.append((hop, one.where.get(hop, ""))))
    one = change(debezium_ms=12)
    pending.add(one)
    assert seen == [("debezium", ""), ("kafka", "hw.public.a/0/1")]
    assert (pending.waiting("bronze"), pending.waiting("trino")) == ([one], [])
    for _ in range(2):
        pending.mark(one, "silver", "batch 3")
    assert pending.waiting("trino") == [one] and pending.finished() == []
    pending.mark(one, "trino", "batch 3")
    pending.mark(one, "bronze", "a/b")
    assert seen[2:] == [("silver", "batch 3"), ("trino", "batch 3"), ("bronze", "a/b")]
    assert one.as_hop("silver", 5)["where"] == "batch 3" and one.as_row()["kafka_ms"] >= 0
    assert pending.finished() == [one] and pending.oldest() is None


def test_a_change_that_a_hop_never_shows_is_given_up() -> None:
    pending = Pending(lambda one, hop: None)
    old, new = change(1), change(2)
    old.arrived -= GIVE_UP_S + 1
    pending.add(old)
    pending.add(new)
    assert pending.finished() == [old] and pending.oldest() is new


def test_batches_are_looked_for_from_the_commit_however_late_a_change_was_read() -> None:
    late, wrong_clock = change(1), change(2)
    late.committed_at = late.arrived - 40
    assert _oldest([late, change(3)]).timestamp() == pytest.approx(late.committed_at)
    wrong_clock.committed_at = 0.0
    assert _oldest([wrong_clock]).timestamp() == pytest.approx(wrong_clock.arrived - BACK_S_MAX)
    newer = change(4)
    newer.committed_at += 900
    assert _oldest([newer]).timestamp() == pytest.approx(newer.arrived)


def test_trino_is_asked_one_question_about_the_batches_that_are_waited_for() -> None:
    some = [change(number) for number in (1, 2, 3)]
    for second, one in zip((9, 7, 8), some, strict=True):
        one.merged_at = datetime(2026, 11, 22, 10, 0, second, 123_456, timezone.utc)
    asked = query_of(some)
    assert asked.endswith("merged_at >= TIMESTAMP '2026-11-22 10:00:07.122 UTC'")
    assert asked.count("SELECT") == 1 and "ORDER" not in asked


def test_of_a_fast_stream_some_are_taken_and_the_first_of_each_table(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(load(tmp_path), [], note=lambda text: None)
    monkeypatch.setattr("app.watch.watch.time.monotonic", lambda: 100.5)
    assert sum(watch._sample("busy") for _ in range(1_000)) == SHOWN_PER_S
    assert sum(watch._sample("quiet") for _ in range(9)) == SHOWN_A_TABLE
    monkeypatch.setattr("app.watch.watch.time.monotonic", lambda: 101.5)
    assert watch._sample("busy"), "the next second"


def test_what_came_before_the_watch_is_shown_of_followed_transactions_only(tmp_path: Any) -> None:
    watch = Watch(load(tmp_path), [], note=lambda text: None)
    watch.follow(77)
    watch._add(change(1, transaction=76), is_new=False)
    assert (len(watch._pending), watch.passed_over) == (0, 0)
    watch._add(change(2, transaction=77), is_new=False)
    watch._add(change(3, transaction=76), is_new=True)
    assert [one.offset for one in watch._pending.waiting("bronze")] == [2, 3]


def test_lines_of_stdin_are_transactions_to_follow(tmp_path: Any) -> None:
    watch = Watch(load(tmp_path), [], note=lambda text: None)
    ended = threading.Event()
    _follow(watch, ["7\n", "\n", "x\n", "-3\n", "9\n"], ended)
    assert list(watch._followed) == [7, 9] and ended.is_set()


def test_debeziums_own_time_is_read_from_the_event() -> None:
    assert _debezium_ms({"ts_us": 2_500_000, "ts_ms": 2_500}, 2_400.5) == 100
    assert _debezium_ms({"ts_ms": 2_500}, 2_600) == 0, "clocks may be apart"
    assert _debezium_ms({}, 2_600) is None


def test_an_observer_rests_half_as_long_as_its_poll_took_within_limits() -> None:
    assert [rest_s(0.001), rest_s(0.2), rest_s(9.0)] == [POLL_S, 0.1, REST_S_MAX]
