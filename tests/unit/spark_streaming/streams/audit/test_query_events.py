"""Events that Trino 476 has sent, as they were recorded, under a mask and a row filter."""

from __future__ import annotations

from pathlib import Path

from spark_streaming.events.event import RawEvent
from spark_streaming.streams.audit.query_events import Ended, Started, Told, decode

RECORDED = Path(__file__).with_name("recorded") / "trino_476.jsonl"


def recorded() -> list[Started | Ended | Told]:
    lines = RECORDED.read_bytes().splitlines()
    return [decode(RawEvent("t", 0, n, 0, None, line, [])) for n, line in enumerate(lines)]


def test_a_recorded_question_has_what_was_read_and_what_was_put_on_it() -> None:
    begun, ended, written = recorded()
    assert isinstance(begun, Started)
    assert isinstance(ended, Ended)
    assert isinstance(written, Ended)
    assert begun.query_id == ended.query_id
    assert begun.values["statement"] == "SELECT id, email FROM lake.mine.people"
    found = {
        key: ended.values[key] for key in ("user_name", "state", "rows", "rows_read", "cpu_ms")
    }
    assert found == {
        "user_name": "masked", "state": "FINISHED", "rows": 1, "rows_read": 2, "cpu_ms": 94,
    }  # fmt: skip
    assert (ended.tables, ended.columns) == (
        ("mine.people",),
        ("mine.people.email", "mine.people.id"),
    )
    assert ended.values["masks"] == """{"mine.people.email":"'***'"}"""
    assert ended.values["filters"] == '{"mine.people":["(id > 1)"]}'
    assert written.values["written"] == "mine.people"
