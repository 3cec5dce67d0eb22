"""Which transactions a snapshot of the source sees."""

from __future__ import annotations

import pytest

from app.compare.snapshot import Visibility

EPOCH = 1 << 32


@pytest.mark.parametrize(
    ("xid", "seen"), [(99, True), (100, False), (101, True), (103, False), (104, False)]
)
def test_running_and_later_transactions_are_not_seen(xid: int, seen: bool) -> None:
    assert Visibility.parse("100:103:100").sees(xid) is seen


def test_a_snapshot_without_running_transactions_sees_all_below_its_end() -> None:
    snapshot = Visibility.parse("100:100:")
    assert snapshot.sees(99)
    assert not snapshot.sees(100)


def test_a_32_bit_id_is_read_in_the_epoch_of_the_snapshot() -> None:
    snapshot = Visibility.parse(f"{EPOCH + 50}:{EPOCH + 60}:{EPOCH + 55}")
    assert snapshot.sees(49)
    assert not snapshot.sees(55)
    assert snapshot.sees(56)


def test_a_32_bit_id_from_before_the_wrap_is_older_than_the_snapshot() -> None:
    assert Visibility.parse(f"{EPOCH + 5}:{EPOCH + 9}:").sees(EPOCH - 3)


def test_a_32_bit_id_from_after_the_wrap_is_newer_than_the_snapshot() -> None:
    assert not Visibility.parse(f"{EPOCH - 9}:{EPOCH - 5}:").sees(3)
