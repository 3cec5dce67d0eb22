"""A replay from quarantine never overwrites a newer row and never restores a deleted one."""

from __future__ import annotations

import uuid

import pytest

from spark_streaming.events.event import Place
from spark_streaming.ops.requests import Answer, Desk, Request
from spark_streaming.quarantine.quarantine import event_of
from tests.spark.shop import GONE, POSITIVE, Shop
from tests.support.entries import entries_of


def test_raw_event_is_kept_whole_for_the_replay(shop: Shop) -> None:
    shop.contract(POSITIVE)
    bad = shop.event("c", 10, 1, -5)._replace(headers=[("__debezium.oldkey", b'{"id": 3}')])
    shop.run(bad)
    [row] = entries_of(shop.lake, shop.table)
    assert event_of(row) == bad
    assert row["table_name"] == f"{shop.schema}__items"
    assert row["reason"] == 'the row breaks `v_range` ("v" >= 1): v = -5'


def test_replay_after_the_contract_is_repaired_merges_the_row(shop: Shop) -> None:
    shop.contract(POSITIVE)
    shop.run(shop.event("c", 10, 1, -5), shop.event("c", 11, 2, 5))
    assert shop.outcomes(shop.ask()) == [(1, "open")], "nothing is repaired yet"
    shop.contract("[columns.v]\nmin = -9")
    assert shop.outcomes(shop.ask()) == [(1, "replayed")]
    assert shop.rows() == {1: (-5, "b"), 2: (5, "b")}
    assert shop.quarantined() == [(1, "v_range", "replayed")]
    assert shop.outcomes(shop.ask()) == [], "asked again it does nothing"


def test_an_entry_is_replayed_with_other_values_and_keeps_its_event(shop: Shop) -> None:
    shop.contract(POSITIVE)
    bad = shop.event("c", 10, 1, -5, "it's")
    shop.run(bad, shop.event("c", 11, 2, 5))
    place = Place(bad.topic, 0, 1)

    def ask(**values: str | None) -> list[tuple[str, str]]:
        request = Request(uuid.uuid4().hex, "replay", (shop.table,), (place,), ((place, values),))
        return [(o.outcome, o.reason) for o in shop.replayer.carry_out(request).outcomes]

    assert ask(v="-6") == [("open", 'v_range: the row breaks `v_range` ("v" >= 1): v = -6')]
    assert ask(id="3") == [("open", "`id` is part of the key: another key is another row")]
    assert shop.rows() == {2: (5, "b")}
    assert ask(v="6", big="it's") == [("replayed", "")]
    assert shop.rows() == {1: (6, "it's"), 2: (5, "b")}
    [row] = entries_of(shop.lake, shop.table)
    assert event_of(row) == bad, "the original is kept"
    assert (row["status"], row["replayed_values"]) == ("replayed", '{"v": "6", "big": "it\'s"}')
    shop.run(shop.event("u", 20, 1, 7))
    assert shop.rows()[1] == (7, "b"), "the row's next event counts"
    assert ask(v="8") == [], "it is resolved"


def test_an_entry_with_other_values_comes_in_its_own_turn(shop: Shop) -> None:
    shop.contract(POSITIVE)
    shop.run(shop.event("c", 10, 1, -5), shop.event("u", 11, 1, -6))
    first, second = (Place(f"hw.{shop.schema}.items", 0, offset) for offset in (1, 2))

    def ask(place: Place, v: str) -> list[tuple[int, str]]:
        edits: tuple[tuple[Place, dict[str, str | None]], ...] = ((place, {"v": v}),)
        request = Request(uuid.uuid4().hex, "replay", (shop.table,), (place,), edits)
        return shop.outcomes(shop.replayer.carry_out(request))

    assert shop.quarantined() == [(2, "v_range", "open")], "rules judge the row, not the way to it"
    assert ask(first, "5") == [], "it is no entry"
    assert ask(second, "6") == [(2, "replayed")]
    assert shop.rows() == {1: (6, "b")}


def test_replay_never_overwrites_a_newer_row(shop: Shop) -> None:
    shop.contract(POSITIVE)
    shop.run(shop.event("c", 10, 1, -5), shop.event("c", 11, 2, -6))
    shop.run(shop.event("u", 20, 1, 7))
    assert shop.quarantined() == [(1, "v_range", "superseded"), (2, "v_range", "open")]
    shop.contract("")
    assert shop.outcomes(shop.ask()) == [(2, "replayed")]
    assert shop.rows() == {1: (7, "b"), 2: (-6, "b")}


def test_merge_guard_holds_even_where_nobody_noted_the_newer_event(shop: Shop) -> None:
    shop.contract(POSITIVE)
    shop.run(shop.event("c", 10, 1, -5))
    quarantined = shop.runner.steps.gate.quarantined(
        shop.topics.resolve(f"hw.{shop.schema}.items", [])
    )
    quarantined.remove([entry.place for entry in list(quarantined)])
    shop.run(shop.event("u", 20, 1, 7))
    assert shop.quarantined() == [(1, "v_range", "open")], "as an older release left it"
    shop.contract("")
    assert shop.outcomes(shop.ask()) == [(1, "superseded")]
    assert shop.rows() == {1: (7, "b")}


@pytest.mark.parametrize("restarted", [False, True])
def test_deleted_key_stays_deleted(shop: Shop, restarted: bool) -> None:
    shop.contract(POSITIVE)
    shop.run(shop.event("c", 10, 1, 5), shop.event("c", 11, 2, 5))
    shop.run(shop.event("u", 20, 1, -5))
    if restarted:
        shop.restart()
    shop.run(shop.event("d", 30, 1))
    assert shop.rows() == {2: (5, "b")}
    shop.contract("")
    assert shop.outcomes(shop.ask()) == []
    assert shop.rows() == {2: (5, "b")}
    assert shop.quarantined() == [(3, "v_range", "superseded")]


def test_event_that_cannot_be_decoded_is_out_of_date_after_a_delete_in_its_own_batch(
    shop: Shop,
) -> None:
    shop.run(shop.event("c", 10, 1, "no number"), shop.event("d", 20, 1), shop.event("c", 30, 2, 1))
    assert shop.quarantined() == [(1, "wrong-type", "superseded")]
    assert shop.rows() == {2: (1, "b")}


def test_value_in_quarantine_is_never_replaced_by_silvers_older_one(shop: Shop) -> None:
    shop.contract(POSITIVE)
    shop.run(shop.event("c", 10, 1, 5, "old"))
    shop.run(shop.event("u", 20, 1, -5, "new"))
    shop.restart()
    shop.run(shop.event("u", 30, 1, 6, GONE))
    assert shop.rows() == {1: (5, "old")}, "as it was: never 6 with the old text"
    assert [found[1:] for found in shop.quarantined()] == [
        ("v_range", "open"),
        ("unavailable-value", "open"),
    ]
    assert shop.outcomes(shop.ask()) == [(2, "replayed"), (3, "replayed")], "repaired by the newer"
    assert shop.rows() == {1: (6, "new")}


def test_update_that_left_the_large_value_out_holds_nothing_up(shop: Shop) -> None:
    shop.contract(POSITIVE)
    shop.run(shop.event("c", 10, 1, 5, "text"))
    shop.run(shop.event("u", 20, 1, -5, GONE))
    shop.run(shop.event("u", 30, 1, 6, GONE))
    assert shop.rows() == {1: (6, "text")}
    assert shop.quarantined() == [(2, "v_range", "superseded")]


def test_one_entry_is_replayed_with_the_others_of_its_row(shop: Shop) -> None:
    shop.contract(POSITIVE)
    first = shop.event("c", 10, 1, -5, "text")
    other = shop.event("c", 11, 2, -5)
    shop.run(first, other)
    second = shop.event("u", 20, 1, 6, GONE)
    shop.run(second)
    place = (second.topic, 0, second.offset)
    shop.contract("")
    assert shop.outcomes(shop.ask(places=[Place(*place)])) == [(1, "replayed"), (3, "replayed")]
    assert shop.rows() == {1: (6, "text")}


def test_discarded_entry_is_not_replayed_and_still_holds_its_value_back(shop: Shop) -> None:
    shop.contract(POSITIVE)
    shop.run(shop.event("c", 10, 1, 5, "old"))
    shop.run(shop.event("u", 20, 1, -5, "new"))
    assert shop.outcomes(shop.ask("discard")) == [(2, "discarded")]
    shop.contract("")
    assert shop.outcomes(shop.ask()) == []
    shop.restart()
    shop.run(shop.event("u", 30, 1, 6, GONE))
    assert shop.rows() == {1: (5, "old")}
    shop.run(shop.event("u", 40, 1, 7, "newest"))
    assert shop.rows() == {1: (7, "newest")}
    assert {status for _, _, status in shop.quarantined()} == {"superseded"}


def test_replay_of_a_table_without_a_key_is_refused_with_the_reason(shop: Shop) -> None:
    shop.contract(POSITIVE, "bag")
    shop.run(shop.event("c", 10, 1, -5, table="bag"), shop.event("c", 11, 2, 5, table="bag"))
    assert shop.rows("bag") == {2: (5, "b")}
    [outcome] = shop.ask(table="bag").outcomes
    assert outcome.outcome == "open"
    assert "has no key" in outcome.reason
    assert f"`headwater rebuild {outcome.table}`" in outcome.reason


def test_requests_wait_in_the_lake_until_they_are_answered(shop: Shop) -> None:
    desk = Desk(shop.lake)
    request = Request(f"20260101T000000000000Z-{uuid.uuid4().hex[:8]}", "replay", ("none",))
    desk.ask(request)
    assert request in desk.pending()
    assert desk.answer_to(request.id) is None
    desk.answer(request, shop.replayer.carry_out(request))
    assert request not in desk.pending()
    assert desk.answer_to(request.id) == Answer([])
    assert desk.answer_to(request.id) is None


def test_replay_shows_in_the_ledger_of_the_next_batch(shop: Shop) -> None:
    shop.contract(POSITIVE)
    shop.run(shop.event("c", 10, 1, -5))
    shop.contract("")
    shop.ask()
    [(topic, result, engine)] = shop.replayer.merged
    shop.runner.note_replay(topic, result, engine)
    rows = shop.run(shop.event("c", 20, 1, 0, table="parents"))
    told = {row.table_name: row.delta_version for row in rows}
    assert told[f"{shop.schema}__items"] == result.delta_version
    assert [r.table_name for r in shop.run(shop.event("c", 30, 2, 0, table="parents"))] == [
        f"{shop.schema}__parents",
        "",
    ]


def test_entries_of_a_stopped_table_wait_for_it(shop: Shop) -> None:
    shop.contract(POSITIVE)
    shop.run(shop.event("c", 10, 1, -5))
    shop.contract("[columns.v]\nmin = 1\naction = 'fail'")
    shop.run(shop.event("c", 20, 2, -5))
    [outcome] = shop.ask().outcomes
    assert (outcome.outcome, outcome.reason[:20]) == ("open", "the table is stopped")
