"""An erased event keeps its place in bronze and its share of the counts, and nothing of its row."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from app.counts import transactions
from spark_streaming.events.envelope import HighWater, decode
from spark_streaming.reading.bronze import event_of
from spark_streaming.reading.bronze_proof import proof_of
from spark_streaming.reading.erased_events import Erasure, is_erased, rewritten
from tests.unit.debezium_events import TOPIC
from tests.unit.model import KEYED

ERASURE = Erasure("20261125T050000000000Z-0000abcd", "2026-11-25T05:00:00+00:00")
COMMENT = b"headwater read-from=17 lost=3-4"


def line(offset: int, name: str, *, op: str = "u", number: int = 1) -> dict[str, Any]:
    value = {
        "before": None,
        "after": {"id": 7, "note": name},
        "source": {"sequence": f'["90","{100 + offset}"]', "lsn": 100 + offset, "ts_us": 5},
        "transaction": {
            "id": f"700:{100 + offset}",
            "total_order": number,
            "data_collection_order": number,
        },
        "op": op,
    }
    text = json.dumps(value, separators=(",", ":"))
    return {
        "topic": TOPIC,
        "partition": 0,
        "offset": offset,
        "timestamp": 1_000 + offset,
        "headers": [["__debezium.oldkey", '{"id":6}']],
        "key": '{"id":7}',
        "value": text,
    }


def tombstone(offset: int) -> dict[str, Any]:
    return {**line(offset, ""), "headers": [], "value": None}


def packed(*lines: dict[str, Any]) -> bytes:
    """An object as the sink writes it: its proof is the comment in the header."""
    body = "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in lines).encode()
    whole = gzip.compress(body, mtime=0)
    flags = bytes([whole[3] | 16])
    return whole[:3] + flags + whole[4:10] + COMMENT + b"\0" + whole[10:]


def lines_of(stored: bytes) -> list[dict[str, Any]]:
    return [json.loads(text) for text in gzip.decompress(stored).splitlines()]


OBJECT = packed(
    line(20, "Ana"), line(21, "other", number=2), line(22, "Ana", op="d", number=3), tombstone(23)
)


def test_an_erased_event_keeps_place_and_time_and_says_only_what_it_was() -> None:
    new = rewritten(OBJECT, [20, 22, 23], ERASURE)
    assert new is not None
    first, second, third, last = lines_of(new)
    assert second == line(21, "other", number=2)
    for number, one in ((20, first), (22, third), (23, last)):
        assert (one["offset"], one["timestamp"], one["key"], one["value"]) == (
            number,
            1_000 + number,
            None,
            None,
        )
        assert list(one) == list(line(0, "")) and is_erased(one["headers"])
    said = json.loads(first["headers"][0][1])
    assert (said["op"], said["source"]["lsn"], said["erasure"]) == ("u", 120, ERASURE.id)
    assert json.loads(last["headers"][0][1]) == {"erasure": ERASURE.id, "at": ERASURE.at}
    assert (
        b"Ana" not in gzip.decompress(new)
        and b'"id\\":7' not in json.dumps([first, third]).encode()
    )


def test_the_counts_of_transactions_are_the_same_before_and_after() -> None:
    new = rewritten(OBJECT, [20, 22, 23], ERASURE)
    assert new is not None
    old_body, new_body = gzip.decompress(OBJECT), gzip.decompress(new)
    assert transactions.events(new_body) == transactions.events(old_body) != []
    assert transactions.commit_before(new_body) == transactions.commit_before(old_body) == 90
    assert transactions.last_offset(new_body) == 23


def test_the_proof_of_an_object_stays_and_so_does_every_other_line() -> None:
    new = rewritten(OBJECT, [20], ERASURE)
    assert new is not None and proof_of(new) == proof_of(OBJECT) is not None
    assert gzip.decompress(new).splitlines()[1:] == gzip.decompress(OBJECT).splitlines()[1:]


def test_an_object_whose_events_are_erased_already_is_not_written_again() -> None:
    new = rewritten(OBJECT, [20], ERASURE)
    assert new is not None and rewritten(new, [20], ERASURE) is None
    more = rewritten(new, [20, 22], Erasure("another", ERASURE.at))
    assert more is not None
    first, _, third, _ = lines_of(more)
    assert ERASURE.id in first["headers"][0][1] and "another" in third["headers"][0][1]


def test_an_offset_that_the_object_does_not_hold_changes_nothing_and_is_named() -> None:
    with pytest.raises(ValueError, match="offset 19"):
        rewritten(OBJECT, [19, 20], ERASURE)


def test_readers_take_an_erased_event_for_a_tombstone() -> None:
    new = rewritten(OBJECT, [20, 21, 22, 23], ERASURE)
    assert new is not None
    decoded = decode([event_of(one) for one in lines_of(new)], KEYED, HighWater())
    assert (len(decoded.changes), decoded.rejects, decoded.ignored) == (0, [], 4)


def test_an_event_that_is_no_json_is_erased_as_a_whole() -> None:
    broken = {**line(30, "x"), "value": "Ana {"}
    new = rewritten(packed(broken), [30], ERASURE)
    assert new is not None and b"Ana" not in gzip.decompress(new)
