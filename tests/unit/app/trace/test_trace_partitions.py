"""Tracing over several partitions searches all of them, and an interrupted trace continues."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.fs as pa_fs
import pytest

from app.environment.settings import load
from app.trace import trace as tracing
from app.trace.trace_silver import Batches, Known
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column
from spark_streaming.events.event import RawEvent
from spark_streaming.events.resync_events import ResyncEnd, resync_end
from tests.support.bronze import write
from tests.unit.debezium_events import MS, event

FILMS = Contract(
    "public",
    "films",
    (Column("id", "integer", "int32", attnum=1), Column("n", "integer", "int32", attnum=2)),
    ("id",),
)
# The row's history: its topic had fewer partitions at first, and a TRUNCATE came through another one.
LIFE = ["insert 0/1", "update 0/3", "truncate 1/2", "insert 2/1", "update 2/3", "update 2/4"]
Look = Callable[..., tuple[list[str], list[str]]]


def film(op: str, partition: int, offset: int, lsn: int, number: int = 7) -> RawEvent:
    after = None if op == "t" else {"id": number, "n": offset}
    made = event(op, lsn=lsn, offset=offset, partition=partition, after=after)
    compact = json.dumps(json.loads(made.value or b""), separators=(",", ":")).encode()
    key = None if op == "t" else json.dumps({"id": number}, separators=(",", ":")).encode()
    return made._replace(key=key, value=compact, timestamp_ms=MS + lsn)


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Traces row 7 in local files, with only bronze available."""
    bucket = tmp_path / "bronze"
    bucket.mkdir()
    files = pa_fs.SubTreeFileSystem(str(bucket), pa_fs.LocalFileSystem())
    write(files, [film("c", 0, 1, 100), film("c", 0, 2, 101, 8), film("u", 0, 3, 110)], 1)
    write(files, [film("c", 1, 1, 105, 9), film("t", 1, 2, 120)], 1)
    newest = [film("u", 2, 3, 140), film("u", 2, 4, 150)]
    write(files, [film("c", 2, 1, 130), film("c", 2, 2, 131, 5), *newest], 1)
    monkeypatch.setattr("app.lake.lakehouse.Lakehouse.bronze_files", lambda _: files)
    monkeypatch.setattr(tracing, "contract_of", lambda *_: FILMS)
    monkeypatch.setattr(tracing, "known_of", lambda *_: Known(Batches([], True), {}, None))
    monkeypatch.setattr(tracing._Tracer, "_kafka", lambda _: None)
    monkeypatch.setattr(tracing._Tracer, "_ask_trino", lambda _: (None, ""))

    def look(also: Sequence[RawEvent] = (), **options: Any) -> tuple[list[str], list[str]]:
        if also:
            write(files, list(also), 1)
        found = tracing.trace(load(tmp_path / "home"), "films", "7", **options)
        events = [v for v in found.versions if v.event != "now"]
        told = [f"{v.event} {(v.kafka or '').split('/', 1)[1]}" for v in events]
        return told, found.notes

    return look


def test_events_of_all_partitions_are_told_as_the_source_committed_them(look: Look) -> None:
    assert look()[0] == LIFE


@pytest.mark.parametrize(
    ("below_lsn", "told"), [(150, []), (151, ["resync 2/5"])], ids=["found", "not found"]
)
def test_the_end_of_a_resync_is_told_where_it_did_not_find_the_row(
    look: Look, below_lsn: int, told: list[str]
) -> None:
    value = resync_end(
        "public", "films", ResyncEnd(Lsn(below_lsn), 1), resync="1", at_ms=MS + 200, prefix="hw"
    )
    end = film("t", 2, 5, 160)._replace(value=value)
    assert look(also=[end])[0] == LIFE + told


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_what_a_limit_left_out_is_found_by_the_places_that_are_told(look: Look, limit: int) -> None:
    whole: list[str] = []
    before: list[str] = []
    for _ in LIFE:
        found, notes = look(limit=limit, before=before)
        assert found and len([one for one in found if "truncate" not in one]) <= limit
        whole = found + whole
        before = re.findall(r"--before (\S+/\d+/\d+)", " ".join(notes))
        if whole[0] == LIFE[0]:
            break
    assert [one for one in whole if "truncate" not in one] == [
        one for one in LIFE if "truncate" not in one
    ]
