"""When the stream of an earlier run may go on, and why it may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.connectors.stream.continuity import (
    LAKE_RESTORED,
    RESTORED,
    Server,
    Slot,
    Stream,
    branching,
    consumed_lsn,
    judge,
)
from spark_streaming.contract.lsn import Lsn, lsn_text, parse_lsn

SERVER = Server("7300000000000000001", 1)
WHOLE = Stream(
    slot_name="headwater",
    slot=Slot(confirmed_lsn=Lsn(900), restart_lsn=Lsn(800), wal_status="reserved", active_pid=None),
    server=SERVER,
    wal_lsn=Lsn(2_000),
    known=SERVER,
    branched_lsn=None,
    consumed_lsn=Lsn(1_000),
)
LATER = replace(SERVER, timeline=2)


def told(stream: Stream, accepted: str | None = None) -> str:
    broken = judge(stream, accepted)
    return "" if broken is None else str(broken)


def test_a_slot_that_holds_everything_since_the_last_offset_goes_on() -> None:
    assert judge(WHOLE) is None
    assert judge(replace(WHOLE, known=None)) is None


def test_a_slot_that_is_gone_is_refused() -> None:
    assert told(replace(WHOLE, slot=None)) == (
        "the replication slot `headwater` is gone from the source\n"
        "  detail: captured up to 0/3E8; the stream has lost the changes committed since then\n"
        "  hint: `headwater recover` shows the steps of a recovery, `headwater recover --apply` "
        "does them"
    )


@pytest.mark.parametrize(
    "slot",
    [
        Slot(confirmed_lsn=Lsn(900), restart_lsn=None, wal_status="lost", active_pid=None),
        Slot(confirmed_lsn=Lsn(900), restart_lsn=Lsn(800), wal_status="lost", active_pid=None),
        Slot(confirmed_lsn=Lsn(900), restart_lsn=None, wal_status="", active_pid=None),
    ],
)
def test_a_slot_whose_wal_was_removed_is_refused_and_recovered_by_the_verb(
    slot: Slot,
) -> None:
    text = told(replace(WHOLE, slot=slot))
    assert "is lost: the server removed WAL" in text
    assert "headwater recover --apply" in text


@pytest.mark.parametrize("confirmed, restart", [(1_001, 1_001), (1_001, 800), (None, 1_500)])
def test_a_slot_that_begins_after_the_last_offset_is_refused(
    confirmed: Lsn | None, restart: Lsn
) -> None:
    text = told(replace(WHOLE, slot=Slot(confirmed, restart, "reserved", 4711)))
    assert "it was dropped and made again, or advanced" in text
    assert f"it begins at {lsn_text(Lsn(confirmed or restart))}, captured up to 0/3E8" in text


def test_a_source_that_was_set_back_is_refused() -> None:
    assert "set back to a time before the last captured change" in told(
        replace(WHOLE, wal_lsn=Lsn(999))
    )


def test_a_source_that_was_set_back_and_has_grown_past_it_since_is_told_by_its_heartbeat() -> None:
    restored = replace(WHOLE, beat=41, seen_beat=42)
    assert "its heartbeat is at 41, and was at 42" in told(restored)
    assert judge(replace(WHOLE, beat=42, seen_beat=42)) is None
    assert judge(replace(WHOLE, beat=None, seen_beat=42)) is None
    assert judge(replace(WHOLE, beat=1, seen_beat=None)) is None


def test_nothing_is_refused_before_the_first_snapshot_is_complete() -> None:
    begun = replace(WHOLE, consumed_lsn=None)
    assert judge(replace(begun, slot=None)) is None
    assert judge(replace(begun, slot=Slot(Lsn(1_500), Lsn(1_500), "reserved", None))) is None


def test_another_server_is_refused_even_before_the_first_snapshot_is_complete() -> None:
    other = replace(WHOLE, server=Server("7300000000000000002", 1), consumed_lsn=None)
    text = told(other)
    assert "another database server" in text
    assert 'accept_source = "7300000000000000002/1"' in text


def test_a_server_that_the_user_vouches_for_is_taken_where_its_slot_holds_everything() -> None:
    other = replace(WHOLE, server=Server("7300000000000000002", 1))
    assert judge(other, "7300000000000000002/1") is None
    assert "gone" in told(replace(other, slot=None), "7300000000000000002/1")
    assert "another database server" in told(other, "7300000000000000002/3")


def test_a_promoted_server_goes_on_where_it_has_all_that_was_captured() -> None:
    promoted = replace(WHOLE, server=LATER, branched_lsn=Lsn(1_000))
    assert judge(promoted) is None
    text = told(replace(promoted, branched_lsn=Lsn(999)))
    assert "may lack changes that were captured already" in text
    assert "timeline 2 left timeline 1 at 0/3E7, captured up to 0/3E8" in text


def test_a_timeline_that_does_not_come_from_the_captured_one_is_refused() -> None:
    text = told(replace(WHOLE, server=LATER, branched_lsn=None))
    assert "timeline 2 left timeline 1 at nowhere" in text


def test_a_timelines_end_is_found_in_the_history_of_a_later_one() -> None:
    history = '1\t0/3000158\tno recovery target specified\n\n2\t16/B374D848\tat restore point "x"\n'
    assert branching(history, 1) == 0x3000158
    assert branching(history, 2) == (0x16 << 32) + 0xB374D848
    assert branching(history, 3) is None


def test_how_far_the_connector_came_is_the_greatest_of_its_offsets_positions() -> None:
    offset = {"lsn": 50, "lsn_proc": 60, "lsn_commit": 55, "txId": 9_999}
    assert consumed_lsn([{"partition": {"server": "hw"}, "offset": offset}]) == 60
    assert consumed_lsn([]) is None


@pytest.mark.parametrize(
    "snapshot, expected",
    [
        ({"snapshot": "INITIAL", "snapshot_completed": False}, None),
        ({"snapshot": "INITIAL", "last_snapshot_record": False}, None),
        ({"snapshot": "INITIAL", "snapshot_completed": True}, 50),
        ({"snapshot": "INITIAL", "last_snapshot_record": True}, 50),
        ({"snapshot": "BLOCKING", "snapshot_completed": False}, 50),
    ],
)
def test_only_an_unfinished_first_snapshot_counts_as_nothing_consumed(
    snapshot: dict[str, object], expected: int | None
) -> None:
    assert consumed_lsn([{"offset": {"lsn": 50, **snapshot}}]) == expected


def test_positions_are_read_and_written_as_postgres_prints_them() -> None:
    for text in ("0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"):
        assert lsn_text(parse_lsn(text)) == text


@pytest.mark.parametrize(
    ("slot", "begins", "seen"),
    [
        (
            Slot(Lsn(1_500), Lsn(1_400), "reserved", None),
            1_500,
            "has every change from 0/5DC on: bronze may lack changes between the two",
        ),
        (None, None, "is gone: bronze lacks the changes since"),
        (
            Slot(Lsn(1_500), Lsn(1_400), "lost", None),
            None,
            "cannot be read on: bronze lacks the changes",
        ),
        (
            Slot(Lsn(900), Lsn(800), "reserved", None),
            None,
            "cannot be read on",
        ),  # of a set-back server
        (Slot(Lsn(2_500), Lsn(800), "reserved", None), None, "cannot be read on"),
    ],
)
def test_a_restored_lake_waits_for_its_recovery_and_says_what_the_slot_still_has(
    slot: Slot | None, begins: int | None, seen: str
) -> None:
    stream = replace(WHOLE, known=RESTORED, slot=slot)
    broken = judge(stream, accepted=str(SERVER))
    assert broken is not None and broken.kind == LAKE_RESTORED
    assert "the lake has everything up to 0/3E8; the replication slot `headwater`" in str(broken)
    assert seen in str(broken)
    assert stream.slot_begins == begins
