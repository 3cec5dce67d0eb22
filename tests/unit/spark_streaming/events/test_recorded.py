"""Real events of a hundred types, compared with Postgres' own text of the same rows."""

from __future__ import annotations

import json
from pathlib import Path

import orjson

from spark_streaming.contract.canonical import canonical_row
from spark_streaming.contract.contract import Contract
from spark_streaming.events.envelope import decode
from spark_streaming.events.event import RawEvent
from spark_streaming.events.position import HighWater
from spark_streaming.fold.keyed import fold

RECORDED = Path(__file__).parent / "recorded"


def _events() -> list[RawEvent]:
    events = []
    for offset, line in enumerate((RECORDED / "events.jsonl").read_text().splitlines()):
        record = json.loads(line)
        key, value = orjson.dumps(record["key"]), orjson.dumps(record["value"])
        events.append(RawEvent("hw.public.odd", 0, offset, 0, key, value, []))
    return events


def test_recorded_events_of_every_type_end_as_the_rows_that_postgres_prints() -> None:
    contract = Contract.from_json((RECORDED / "contract.json").read_text())
    decoded = decode(_events(), contract, HighWater())
    folded = fold(decoded.changes, contract, lambda keys: {})
    names = [column.name for column in contract.columns]
    silver = [
        canonical_row(contract, [row[name] for name in names]) for row in folded.rows.to_pylist()
    ]
    source = [tuple(row) for row in json.loads((RECORDED / "rows.json").read_text())]
    assert sorted(silver, key=str) == sorted(source, key=str)
    assert (decoded.unknown_columns, decoded.stale_columns) == (set(), set())


def test_recorded_dates_that_delta_cannot_hold_are_rejected_with_the_value() -> None:
    contract = Contract.from_json((RECORDED / "contract.json").read_text())
    rejects = {str(r.key): r.reason for r in decode(_events(), contract, HighWater()).rejects}
    assert sorted(rejects) == ['{"id":303}', '{"id":305}']
    assert '"infinity"' in rejects['{"id":303}']
    assert '"0044-03-15 BC"' in rejects['{"id":305}']
