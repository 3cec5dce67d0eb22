from __future__ import annotations

import pytest

from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.events.position import START, TRUNCATE, HighWater, Position, parse_sequence


def test_positions_compare_in_commit_order_and_not_by_lsn() -> None:
    early_commit = Position(last_commit_lsn=Lsn(100), lsn=Lsn(190), total_order=1)
    late_commit = Position(last_commit_lsn=Lsn(200), lsn=Lsn(150), total_order=1)
    assert early_commit < late_commit


def test_sequence_is_parsed_with_and_without_a_commit() -> None:
    assert parse_sequence('["24023119","24023128"]') == (24023119, 24023128)
    assert parse_sequence('[null,"24023128"]') == (None, 24023128)
    assert parse_sequence('["24023119",null]') == (24023119, None)


@pytest.mark.parametrize("text", ["", "[]", '["1"]', '{"a": 1}', '["a","b"]'])
def test_sequence_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_sequence(text)


def test_high_water_is_read_back_from_json_with_its_truncate() -> None:
    marks = HighWater(
        {
            ("hw.a.b", 0): Position(Lsn(1), Lsn(2), 3),
            ("hw.a.b", TRUNCATE): Position(Lsn(1), Lsn(1), 1),
        }
    )
    copy = HighWater.from_json(marks.to_json())
    assert copy == marks
    assert copy.truncated("hw.a.b") == Position(Lsn(1), Lsn(1), 1)
    assert copy.get("hw.a.c", 0) == START


def test_what_is_no_high_water_is_an_error() -> None:
    for text in ("[]", '{"t": 5}', '{"t": {"0": 5}}', "nope"):
        with pytest.raises(ValueError):
            HighWater.from_json(text)


def test_merging_marks_keeps_the_greater_of_each_partition() -> None:
    one = HighWater(
        {("t", 0): Position(Lsn(5), LOG_START, 0), ("t", 1): Position(Lsn(1), LOG_START, 0)}
    )
    two = HighWater(
        {("t", 0): Position(Lsn(3), Lsn(9), 9), ("u", 0): Position(Lsn(2), LOG_START, 0)}
    )
    assert one.merge(two).positions == {
        ("t", 0): Position(Lsn(5), LOG_START, 0),
        ("t", 1): Position(Lsn(1), LOG_START, 0),
        ("u", 0): Position(Lsn(2), LOG_START, 0),
    }
