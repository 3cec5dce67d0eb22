"""Several processes append to `ops/incidents` in the real object store, also after an outage."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest

from spark_streaming.contract.lsn import Lsn
from spark_streaming.ops.incident_table import IncidentLog
from spark_streaming.storage.lake import Lake
from tests.support.stack import Stack, fresh_stack

WRITERS, EACH = 3, 12
WRITTEN_S = 120.0


@pytest.fixture(scope="module")
def store() -> Iterator[Stack]:
    with fresh_stack() as stack:
        stack.up("--only", "s3")
        yield stack


def _lake(stack: Stack) -> Lake:
    return Lake(stack.settings.store)


def _write(lake: Lake, writer: int) -> None:
    log = IncidentLog(lake)
    for number in range(EACH):
        made = log.open_incident("counts_short", f"tx {number}", cause=f"found by {writer}")
        log.open_incident("gap", f"{writer} {number}", cause="of its own")
        if number % 2:
            log.close_incident(made, f"closed by {writer}")
        assert log.flush(WRITTEN_S)


def test_processes_that_find_the_same_at_once_record_it_once_and_lose_nothing(
    store: Stack,
) -> None:
    lake = _lake(store)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(lake, number)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(WRITTEN_S)
        assert writer.exitcode == 0
    log = IncidentLog(lake)
    log.refresh()
    own = {one.name for one in log.incidents(kind="gap")}
    assert own == {f"{w} {n}" for w in range(WRITERS) for n in range(EACH)}
    states = {one.name: one.state for one in log.incidents(kind="counts_short")}
    assert states == {f"tx {n}": "closed" if n % 2 else "open" for n in range(EACH)}


def test_what_is_found_while_the_store_is_away_is_recorded_when_it_is_back(store: Stack) -> None:
    lake = _lake(store)
    log = IncidentLog(lake)
    log.refresh()
    store.run("down")
    made = log.open_incident("slot_gone", "headwater at 0/1", cause="dropped", lsn_from=Lsn(1))
    assert not log.flush(2)
    log.extend_incident(made, lsn_to=Lsn(2))
    store.up("--only", "s3")
    assert log.flush(WRITTEN_S)
    later = IncidentLog(lake)
    later.refresh()
    [found] = later.incidents(kind="slot_gone")
    assert (found.open, found.lsn_from, found.lsn_to) == (True, 1, 2)
