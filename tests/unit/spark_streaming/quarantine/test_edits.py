"""Editing a quarantined event: the values that may be edited, and the event afterwards."""

from __future__ import annotations

import json

import pytest

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.types import Column
from spark_streaming.events.event import Place, RawEvent
from spark_streaming.ops.requests import Request
from spark_streaming.quarantine.edits import EditError, edited
from tests.unit.debezium_events import event, raw

FILMS = Contract(
    "public",
    "films",
    (
        Column("id", "integer", "int32"),
        Column("v", "integer", "int32", source="V"),
        Column("ok", "boolean", "bool"),
        Column("data", "bytea", "bytes"),
        Column("at", "timestamp with time zone", "timestamptz"),
        Column("note", "text", "text"),
    ),
    ("id",),
)
ROW = {"id": 1, "V": -5, "ok": None, "data": "AA==", "at": None, "note": "a"}
BAD = event("u", lsn=70, after=ROW, offset=9)


def after(changed: RawEvent) -> dict[str, object]:
    return dict(json.loads(changed.value or b"")["after"])


def test_only_the_named_values_change_and_the_event_keeps_its_place() -> None:
    values = {"v": "5", "ok": "t", "data": "\\x01ff", "at": "2026-01-02 03:04:05+00", "note": None}
    changed = edited(BAD, values, FILMS)
    assert after(changed) == {
        "id": 1, "V": 5, "ok": True, "data": "Af8=", "at": "2026-01-02T03:04:05+00:00", "note": None,
    }  # fmt: skip
    assert changed._replace(value=BAD.value) == BAD
    same = json.loads(changed.value or b"") | {"after": ROW}
    assert same == json.loads(BAD.value or b"")


def test_a_column_is_named_as_in_the_source_or_as_in_silver() -> None:
    assert after(edited(BAD, {"V": "7"}, FILMS)) == after(edited(BAD, {"v": "7"}, FILMS))
    assert after(edited(BAD, {"data": "Af8="}, FILMS))["data"] == "Af8="


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"id": "2"}, "another key is another row"),
        ({"nothing": "2"}, "the event has no column `nothing`"),
        ({"v": "five"}, "`five` is not a value of column V (integer)"),
        ({"ok": "maybe"}, "`maybe` is not a value of column ok (boolean)"),
        ({"data": "\\xzz"}, "is not a value of column data (bytea)"),
    ],
)
def test_what_cannot_be_is_told(values: dict[str, str | None], told: str) -> None:
    with pytest.raises(EditError, match="") as refused:
        edited(BAD, values, FILMS)
    assert told in str(refused.value)


@pytest.mark.parametrize("value", [b"not json", b"[]", b"{}", None, event("d", lsn=1).value])
def test_an_event_without_a_row_has_no_values(value: bytes | None) -> None:
    with pytest.raises(EditError):
        edited(raw(value or b"")._replace(value=value), {"v": "1"}, FILMS)


def test_a_request_carries_values_to_the_job_and_may_come_without() -> None:
    place = Place("hw.public.films", 0, 9)
    request = Request("1", "replay", ("films",), (place,), ((place, {"v": "5", "note": None}),))
    assert Request.from_json(request.to_json()) == request
    older = json.loads(request.to_json())
    del older["edits"]
    assert Request.from_json(json.dumps(older).encode()).edits == ()
