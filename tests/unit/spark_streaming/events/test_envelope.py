from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.envelope import LSN_MAX, decode
from spark_streaming.events.event import Decoded, RawEvent
from spark_streaming.events.layout import PLACEHOLDER
from spark_streaming.events.position import HighWater, Position
from spark_streaming.events.resync_events import ResyncEnd, resync_end
from spark_streaming.fold.keyed import fold
from tests.unit.debezium_events import TOPIC, event, raw
from tests.unit.model import BAG, KEYED

START = HighWater()


ANYTHING = st.none() | st.integers(0, 9) | st.text(max_size=3) | st.just([1]) | st.just({"id": 1})


def _row(number: int, **values: Any) -> dict[str, Any]:
    return {"id": number, "note": "n", "big": "b", **values}


def _decode(*events: RawEvent, contract: Contract = KEYED, mark: HighWater = START) -> Decoded:
    return decode(events, contract, mark)


def _ops(decoded: Decoded) -> list[tuple[str, int]]:
    return [(change.op, change.lsn) for change in decoded.changes.changes]


def _rules(decoded: Decoded) -> list[str]:
    return [reject.rule for reject in decoded.rejects]


def test_events_are_taken_in_the_order_of_their_partitions() -> None:
    decoded = _decode(event("c", lsn=20, after=_row(2)), event("c", lsn=10, after=_row(1)))
    assert _ops(decoded) == [("c", 10), ("c", 20)]
    assert decoded.changes.images.to_pylist() == [_row(1), _row(2)]
    assert (decoded.last_lsn, decoded.last_committed_us) == (20, 1_700_000_000_020_000)


def test_commit_time_in_milliseconds_is_taken_where_there_is_no_finer_one() -> None:
    decoded = _decode(event("c", after=_row(1), ts_us=None, ts_ms=5))
    assert decoded.changes.changes[0].committed_us == 5000


def test_tombstones_and_messages_change_nothing() -> None:
    decoded = _decode(raw(None), raw(b'{"op":"m"}', offset=1))
    assert (len(decoded.changes), decoded.ignored, decoded.rejects) == (0, 2, [])


@pytest.mark.parametrize(
    ("value", "rule", "reason"),
    [
        (b"{nope", "not-json", "the event is not JSON"),
        (b"[]", "not-an-envelope", "not a change event: TypeError"),
        (b'{"op":"c"}', "not-an-envelope", "not a change event: KeyError 'source'"),
        (b'{"op":"c","source":{"lsn":null}}', "not-an-envelope", "source.lsn is None"),
    ],
)
def test_what_is_no_change_event_is_rejected_with_its_coordinates(
    value: bytes, rule: str, reason: str
) -> None:
    [reject] = _decode(raw(value, offset=7, key=b'{"id":1}')).rejects
    assert reject.rule == rule
    assert reject.reason.startswith(reason)
    assert (reject.event.topic, reject.event.offset, reject.key) == (TOPIC, 7, '{"id":1}')


def test_unknown_operation_is_rejected() -> None:
    assert _rules(_decode(event("x", after=_row(1)))) == ["unknown-operation"]


def test_rejected_event_does_not_stop_the_others_and_passes_the_mark() -> None:
    decoded = _decode(
        event("c", lsn=10, after=_row(1, note=5)),
        event("c", lsn=20, after=_row(2)),
        event("c", lsn=30, after=_row(3, note=6)),
    )
    assert _ops(decoded) == [("c", 20)]
    assert _rules(decoded) == ["wrong-type", "wrong-type"]
    assert decoded.stale_columns == {"note"}
    assert decoded.high_water.get(TOPIC, 0).lsn == 30


def test_deletes_key_comes_from_the_message_and_never_from_made_up_values() -> None:
    decoded = _decode(event("d", key={"id": 7}, before={"id": 0, "note": "", "big": ""}))
    assert decoded.changes.changes[0].key == 7
    assert decoded.changes.images.to_pylist() == [{"id": 7, "note": None, "big": None}]


def test_delete_without_a_key_is_rejected() -> None:
    assert _rules(_decode(event("d", before=_row(7)))) == ["no-key"]


def test_null_in_a_key_is_rejected() -> None:
    assert _rules(_decode(event("c", after=_row(1, id=None)))) == ["null-key"]


def test_key_of_several_columns_is_in_the_contracts_order() -> None:
    contract = replace(KEYED, key=("note", "id"))
    decoded = _decode(
        event("c", lsn=1, after=_row(1)),
        event("d", lsn=2, key={"id": 1, "note": "n"}),
        contract=contract,
    )
    assert [change.key for change in decoded.changes.changes] == [("n", 1), ("n", 1)]


# -- replays


def test_event_that_the_mark_has_passed_is_a_replay() -> None:
    mark = HighWater({(TOPIC, 0): Position(Lsn(50), Lsn(100), 2)})
    decoded = _decode(
        event("c", lsn=90, after=_row(1), order=1),
        event("c", lsn=100, after=_row(2), order=2),
        mark=mark,
    )
    assert (len(decoded.changes), decoded.skipped) == (0, 2)
    assert decoded.high_water == mark


def test_rows_of_one_copy_share_an_lsn_and_are_all_taken() -> None:
    events = [event("c", lsn=100, after=_row(n), order=n, offset=n) for n in (1, 2, 3)]
    first = _decode(*events[:2])
    rest = _decode(events[2], mark=first.high_water)
    assert (len(first.changes), len(rest.changes)) == (2, 1)


def test_later_transaction_with_lower_lsns_is_no_replay() -> None:
    mark = HighWater({(TOPIC, 0): Position(Lsn(50), Lsn(100), 1)})
    decoded = _decode(event("c", lsn=60, commit=110, after=_row(1)), mark=mark)
    assert _ops(decoded) == [("c", 60)]


def test_replay_inside_a_batch_is_skipped() -> None:
    twice = event("c", lsn=10, after=_row(1))
    later = event("d", lsn=20, key={"id": 1})
    decoded = _decode(twice, later, twice._replace(offset=30))
    assert (_ops(decoded), decoded.skipped) == ([("c", 10), ("d", 20)], 1)


def test_marks_are_kept_for_each_partition() -> None:
    mark = HighWater(
        {(TOPIC, 0): Position(Lsn(50), Lsn(100), 1), ("other", 1): Position(Lsn(90), Lsn(900), 1)}
    )
    decoded = _decode(event("c", lsn=60, partition=1, after=_row(1)), mark=mark)
    assert decoded.high_water.positions == {
        (TOPIC, 0): Position(Lsn(50), Lsn(100), 1),
        (TOPIC, 1): Position(Lsn(50), Lsn(60), 1),
    }


def test_event_of_unknown_order_is_neither_skipped_nor_trusted() -> None:
    mark = HighWater({(TOPIC, 0): Position(Lsn(50), Lsn(100), 1)})
    [change] = _decode(event("c", lsn=60, commit=None, after=_row(1)), mark=mark).changes.changes
    assert change.guard == 60


# -- snapshots


def test_snapshot_row_is_guarded_by_its_lsn_and_a_streamed_change_by_nothing() -> None:
    decoded = _decode(
        event("r", lsn=100, commit=None, order=None, offset=1, after=_row(1), snapshot="first"),
        event("u", lsn=90, commit=None, offset=2, after=_row(1)),
    )
    assert [change.guard for change in decoded.changes.changes] == [100, LSN_MAX]


def test_snapshot_row_is_never_a_replay() -> None:
    mark = HighWater({(TOPIC, 0): Position(Lsn(500), Lsn(1000), 1)})
    row = event("r", lsn=100, commit=None, order=None, after=_row(1), snapshot="true")
    assert _ops(_decode(row, mark=mark)) == [("r", 100)]


@pytest.mark.parametrize(
    ("mark", "starts"),
    [("first_in_data_collection", True), ("last", True), ("true", False), ("incremental", False)],
)
def test_borders_of_a_snapshot_are_marked(mark: str, starts: bool) -> None:
    decoded = _decode(event("r", after=_row(1), snapshot=mark))
    assert decoded.changes.changes[0].starts_snapshot is starts


def test_row_of_an_incremental_snapshot_stands_where_the_stream_was() -> None:
    sent = event("r", lsn=100, commit=90, after=_row(1), snapshot="incremental", order=None)
    document = orjson.loads(sent.value or b"")
    document["source"]["lsn"] = None  # like in Debezium's event
    decoded = _decode(sent._replace(value=orjson.dumps(document)))
    assert _ops(decoded) == [("r", 100)]
    assert decoded.changes.changes[0].guard == 100


def test_incremental_snapshot_of_a_bag_is_rejected() -> None:
    decoded = _decode(event("r", after=_row(1), snapshot="incremental"), contract=BAG)
    assert _rules(decoded) == ["snapshot-without-key"]


# -- columns that are added and dropped


def test_column_that_the_contract_does_not_have_is_reported() -> None:
    decoded = _decode(event("c", after=_row(1, added=5)))
    assert decoded.unknown_columns == {"added"}
    assert len(decoded.changes) == 1


def test_column_that_silver_leaves_out_is_not_reported() -> None:
    contract = replace(KEYED, left_out=("doubled",))
    decoded = _decode(event("r", after=_row(1, doubled=2)), contract=contract)
    assert decoded.unknown_columns == set()


def test_column_that_an_event_lacks_has_the_default_that_older_rows_have() -> None:
    big = replace(KEYED.columns[2], missing_value="old")
    contract = replace(KEYED, columns=(*KEYED.columns[:2], big))
    decoded = _decode(event("c", after={"id": 1}), contract=contract)
    assert decoded.changes.images.to_pylist() == [{"id": 1, "note": None, "big": "old"}]
    assert decoded.stale_columns == {"note", "big"}


def test_renamed_column_is_unknown_and_stale() -> None:
    decoded = _decode(event("c", after={"id": 1, "remark": "n", "big": "b"}))
    assert (decoded.unknown_columns, decoded.stale_columns) == ({"remark"}, {"note"})
    assert [reject.rule for reject in decoded.rejects] == ["columns-ahead"]


def test_column_of_another_name_in_silver_is_read_by_the_sources_name() -> None:
    note = replace(KEYED.columns[1], source="no te")
    contract = replace(KEYED, columns=(KEYED.columns[0], note, KEYED.columns[2]))
    decoded = _decode(event("c", after={"id": 1, "no te": "x", "big": "b"}), contract=contract)
    assert decoded.changes.images.to_pylist() == [_row(1, note="x")]


# -- values that an event leaves out

GONE = "__debezium_unavailable_value"


def test_placeholder_is_a_gap_only_where_postgres_may_leave_a_value_out() -> None:
    decoded = _decode(event("u", after=_row(1, note=GONE, big=GONE)))
    assert decoded.changes.gaps == {0: (2,)}
    assert decoded.changes.images.to_pylist() == [_row(1, note=GONE, big=None)]


@pytest.mark.parametrize(
    ("kind", "placeholder"),
    [("bytes", "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="), ("array", GONE), ("array", [GONE])],
)
def test_placeholder_is_known_in_every_form(kind: str, placeholder: Any) -> None:
    big = replace(KEYED.columns[2], kind=kind, element="text")
    contract = replace(KEYED, columns=(*KEYED.columns[:2], big))
    decoded = _decode(event("u", after=_row(1, big=placeholder)), contract=contract)
    assert (decoded.changes.gaps, decoded.rejects) == ({0: (2,)}, [])


def test_identity_full_fills_a_gap_from_the_old_row() -> None:
    contract = replace(KEYED, replica_identity="full")
    update = event("u", before=_row(1, big="old"), after=_row(1, big=GONE))
    decoded = _decode(update, contract=contract)
    assert decoded.changes.gaps == {}
    assert decoded.changes.images.to_pylist() == [_row(1, big="old")]


def test_default_identity_never_fills_a_gap_from_made_up_values() -> None:
    decoded = _decode(event("u", before=_row(1, big=""), after=_row(1, big=GONE)))
    assert decoded.changes.gaps == {0: (2,)}


def test_gap_in_a_bag_is_rejected() -> None:
    update = event("u", before=_row(1, big=GONE), after=_row(1, big=GONE))
    [reject] = _decode(update, contract=BAG).rejects
    assert reject.reason == "the event does not hold the value of big"


def test_bag_event_without_the_old_row_is_rejected_with_the_remedy() -> None:
    [reject] = _decode(event("u", after=_row(1)), contract=BAG).rejects
    assert reject.rule == "no-before"
    assert reject.reason.endswith("the table's replica identity must be FULL")


# -- key changes


def test_key_change_tells_the_old_key() -> None:
    decoded = _decode(
        event("d", lsn=10, offset=1, order=1, key={"id": 1}, headers={"newkey": {"id": 2}}),
        event("c", lsn=10, offset=2, order=2, after=_row(2), headers={"oldkey": {"id": 1}}),
    )
    assert [(c.op, c.key, c.old_key) for c in decoded.changes.changes] == [
        ("d", 1, None),
        ("c", 2, 1),
    ]


def test_delete_waits_for_the_other_half_of_a_key_change_in_the_next_batch() -> None:
    delete = event("d", lsn=10, offset=1, order=1, key={"id": 1}, headers={"newkey": {"id": 2}})
    create = event("c", lsn=10, offset=2, order=2, after=_row(2), headers={"oldkey": {"id": 1}})
    first = _decode(delete)
    assert (len(first.changes), first.rejects) == (0, [])
    [change] = _decode(create, mark=first.high_water).changes.changes
    assert (change.old_key, change.resumes_key_change) == (1, True)


def test_update_under_an_index_identity_tells_the_old_key() -> None:
    contract = replace(KEYED, key=("note",), replica_identity="index")
    update = event("u", before=_row(1, note="a"), after=_row(1, note="b"))
    [change] = _decode(update, contract=contract).changes.changes
    assert (change.key, change.old_key) == ("b", "a")


# -- TRUNCATE


def test_truncate_is_remembered_against_rows_that_come_late_from_another_partition() -> None:
    truncate = event("t", lsn=100, partition=0)
    late = event("c", lsn=90, partition=1, after=_row(1))
    after = event("c", lsn=110, partition=1, after=_row(2))
    first = _decode(truncate)
    second = _decode(late, after, mark=first.high_water)
    assert (_ops(second), second.skipped) == ([("c", 110)], 1)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "op": st.sampled_from("cudrtmx") | ANYTHING,
            "before": ANYTHING,
            "after": ANYTHING | st.fixed_dictionaries({"id": ANYTHING, "note": ANYTHING}),
            "transaction": ANYTHING | st.fixed_dictionaries({"total_order": ANYTHING}),
            "source": ANYTHING
            | st.fixed_dictionaries(
                {"lsn": ANYTHING},
                optional={
                    "sequence": ANYTHING | st.just('["1","2"]'),
                    "ts_us": ANYTHING,
                    "ts_ms": ANYTHING,
                    "snapshot": ANYTHING,
                },
            ),
        },
    ),
    st.none() | ANYTHING,
    st.booleans(),
)
def test_no_event_whatever_stops_the_others(document: Any, key: Any, bag: bool) -> None:
    odd = raw(orjson.dumps(document), offset=1, key=orjson.dumps(key))
    contract = BAG if bag else KEYED
    good = event("c", lsn=100, commit=90, offset=2, after=_row(5))
    decoded = decode([odd, good], contract, START)
    fold(decoded.changes, contract, lambda keys: {}, lambda keys: set())
    assert 100 in [change.lsn for change in decoded.changes.changes]


# -- the end of a resync


def _resync_end(lsn: int, partition: int, offset: int, partitions: int = 2) -> RawEvent:
    value = resync_end(
        "public", "films", ResyncEnd(Lsn(lsn), partitions), resync="1", at_ms=0, prefix="hw"
    )
    return raw(value, offset=offset, partition=partition)


def test_a_resync_ends_once_every_partition_has_come_to_its_end() -> None:
    first = _decode(_resync_end(100, partition=0, offset=5))
    assert (first.changes.resync_lsn, first.depends_on_other_keys, first.rejects) == (
        None,
        True,
        [],
    )
    mark = HighWater.from_json(first.high_water.to_json())
    second = _decode(_resync_end(100, partition=1, offset=7), mark=mark)
    assert second.changes.resync_lsn == 100
    mark = mark.merge(second.high_water)
    again = _decode(
        _resync_end(100, partition=0, offset=9), _resync_end(100, partition=1, offset=9), mark=mark
    )
    assert again.changes.resync_lsn is None, "written twice, it removes once"


def test_a_row_that_a_resync_did_not_find_is_dropped_and_one_that_it_found_keeps_its_large_value() -> (
    None
):
    folded = fold(
        _decode(
            event("c", lsn=50, order=1, after=_row(1)),
            event("c", lsn=60, order=2, after=_row(2, big="large")),
            event("u", lsn=110, order=3, after=_row(2, note="x", big=PLACEHOLDER)),
            _resync_end(100, partition=0, offset=200, partitions=1),
        ).changes,
        KEYED,
        lambda keys: {},
        lambda keys: set(),
    )
    assert folded.resnapshot_lsn == 100
    assert folded.rows.select(["id", "note", "big", "_lsn"]).to_pylist() == [
        {"id": 2, "note": "x", "big": "large", "_lsn": 110}
    ]


def test_a_malformed_end_of_a_resync_goes_to_quarantine() -> None:
    odd = orjson.dumps({"op": "m", "message": {"prefix": "headwater.resync", "content": {}}})
    decoded = _decode(raw(odd))
    assert (_rules(decoded), decoded.changes.resync_lsn) == (["not-an-envelope"], None)
