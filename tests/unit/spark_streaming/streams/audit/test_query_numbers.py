"""Histories of query numbers: what is known, what is late, what is lost."""

from __future__ import annotations

import random

import pytest

from spark_streaming.streams.audit.query_numbers import NumberRanges, QueryNumbers

GRACE_S, OPEN_MAX_S = 60.0, 7_800.0


def query_id(number: int, coordinator: str = "abcde", day: str = "20260310") -> str:
    return f"{day}_120000_{number:05d}_{coordinator}"


class History:
    """Numbers under a clock that a test moves, a look each second."""

    def __init__(self) -> None:
        self.numbers = QueryNumbers(GRACE_S, OPEN_MAX_S)
        self.now = 0.0
        self.gaps: list[str] = []
        self.lost: list[str] = []

    def whole(self, *numbers: int, **others: str) -> None:
        """Questions of which both events arrive."""
        for number in numbers:
            self.numbers.started(query_id(number, **others), 0, number, self.now)
            assert self.numbers.ended(query_id(number, **others))

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.now += 1
            self.gaps += [f"{gap.series} {gap}" for gap in self.numbers.overdue(self.now)]
            self.lost += [one.query_id for one in self.numbers.unended(self.now)]


def test_ranges_are_the_set_that_was_added() -> None:
    seed = random.randrange(2**32)
    random_numbers = random.Random(seed)
    for _ in range(200):
        ranges, expected = NumberRanges(), set[int]()
        for _ in range(random_numbers.randrange(1, 12)):
            first = random_numbers.randrange(40)
            last = first + random_numbers.randrange(6)
            ranges.add(first, last)
            expected |= set(range(first, last + 1))
        assert {n for n in range(60) if n in ranges} == expected, seed
        absent = {n for a, b in ranges.absent(50) for n in range(a, b + 1)}
        assert absent == set(range(51)) - expected, seed


def test_a_number_that_never_comes_is_a_gap_once_after_the_grace() -> None:
    history = History()
    history.whole(0, 1, 4, 6)
    history.wait(GRACE_S - 2)
    assert history.gaps == []
    history.wait(5)
    assert history.gaps == ["abcde/20260310 2-3", "abcde/20260310 5"]
    history.wait(300)
    assert len(history.gaps) == 2


def test_an_event_that_is_late_by_less_than_the_grace_is_none() -> None:
    history = History()
    history.whole(0, 2)
    history.wait(GRACE_S - 5)
    history.whole(1)
    history.wait(100)
    assert history.gaps == []


def test_a_question_that_runs_for_an_hour_is_neither_missing_nor_lost() -> None:
    history = History()
    history.numbers.started(query_id(0), 0, 17, history.now)
    history.whole(1, 2)
    history.wait(3_600)
    assert (history.gaps, history.lost) == ([], [])
    assert history.numbers.kept_offsets() == {0: 17}
    assert history.numbers.ended(query_id(0))
    assert history.numbers.kept_offsets() == {}


def test_a_question_whose_coordinator_was_followed_by_another_is_lost_once() -> None:
    history = History()
    history.numbers.started(query_id(0), 0, 17, history.now)
    history.wait(5)
    history.whole(0, coordinator="fghij")
    history.wait(200)
    assert history.lost == []  # ids of one second do not tell which came later
    history.whole(1, coordinator="fghij", day="20260311")
    history.wait(200)
    assert history.lost == [query_id(0)]
    assert history.numbers.kept_offsets() == {}


def test_a_newest_number_that_trino_gave_shows_that_all_before_it_are_missing() -> None:
    history = History()
    history.numbers.issued(query_id(3))
    history.wait(GRACE_S + 2)
    assert history.gaps == ["abcde/20260310 0-3"]


def test_after_a_pause_of_the_reader_the_grace_begins_again() -> None:
    history = History()
    history.whole(0)
    history.numbers.issued(query_id(3))
    history.wait(30)
    history.now += 600  # Kafka is away, and events wait in Trino
    history.wait(20)
    assert history.gaps == []
    history.whole(1, 2, 3)
    history.wait(200)
    assert history.gaps == []


def test_numbers_go_on_after_99999_and_begin_at_0_each_day() -> None:
    history = History()
    history.numbers.restore("abcde/20260310", "0-99997", done=True)
    history.whole(99998, 99999, 0, 1)
    history.whole(0, day="20260311")
    history.wait(GRACE_S * 2)
    assert history.gaps == []
    series, number = history.numbers.place(query_id(1))
    assert (str(series), number) == ("abcde/20260310", 100_001)


def test_what_the_table_says_is_known_and_a_gap_may_still_be_filled() -> None:
    history = History()
    history.numbers.restore("abcde/20260310", "0-5,7", done=True)
    history.numbers.restore("abcde/20260310", "6", done=False)
    assert not history.numbers.ended(query_id(5))
    assert history.numbers.ended(query_id(6))
    history.wait(GRACE_S * 2)
    assert history.gaps == []


def test_another_text_is_no_query_id() -> None:
    with pytest.raises(ValueError, match="no query id"):
        QueryNumbers(GRACE_S, OPEN_MAX_S).place("20260310_1_2")
