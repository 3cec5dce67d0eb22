"""Incidents of services: those that the exporter opens and closes, and the counts of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path

from app.metrics.board import Board
from app.metrics.collectors.open_incidents import KINDS, OTHERS, START_S, IncidentCollector
from spark_streaming.ops.incident_table import IncidentLog
from tests.support.clock import Clock
from tests.support.disk_lake import DiskLake


def test_an_incident_lasts_until_the_part_works_again(tmp_path: Path) -> None:
    clock = Clock(now=100.0)
    board = Board()
    stopped: dict[str, datetime] = {}
    incidents = _incidents(tmp_path, clock, board, lambda: stopped)

    def look() -> tuple[float, float, float]:
        incidents.collect()
        names = ("incidents_open", "incidents", "incident_seconds")
        found = [board.get(f"headwater_{name}") for name in names]
        assert all({kind for (kind,) in each} == {*KINDS, *OTHERS} for each in found)
        opened, begun, lasts = (sum(each.values()) for each in found)
        return opened, begun, lasts

    services = "headwater_service_up"
    board.replace(services, {("trino",): 0.0, ("kafka",): 1.0})
    board.replace("headwater_connector_running", {("bronze",): 1.0})
    assert look() == (0, 0, 0), "trino is being started"
    board.replace(services, {("trino",): 1.0, ("kafka",): 1.0})
    assert look() == (0, 0, 0)
    board.replace(services, {("trino",): 0.0, ("kafka",): 1.0})
    board.replace("headwater_connector_running", {("bronze",): 0.0})
    board.set("headwater_slot_active", 1)
    assert look() == (2, 2, 0)
    clock.now = 160
    board.replace("headwater_connector_running", {("bronze",): 1.0})
    assert look() == (1, 2, 60)
    board.replace("headwater_service_up", {("trino",): 1.0})
    stopped["orders"] = datetime.fromtimestamp(150, timezone.utc)
    assert look() == (1, 3, 10)
    # It continued and was stopped again meanwhile, which is another incident.
    stopped["orders"] = datetime.fromtimestamp(155, timezone.utc)
    assert look() == (1, 4, 5)
    stopped.clear()
    assert look() == (0, 4, 0)


def _incidents(
    folder: Path,
    clock: Clock,
    board: Board,
    stopped: Callable[[], Mapping[str, datetime]] = dict,
) -> IncidentCollector:
    """A collector on a lake in a folder; a second one is the exporter's next process."""
    log = IncidentLog(DiskLake(folder), lambda: datetime.fromtimestamp(clock.now, tz=timezone.utc))
    return IncidentCollector(stopped, board, log, clock=clock)


def test_an_incident_outlives_the_exporter_and_ends_when_its_part_works_again(
    tmp_path: Path,
) -> None:
    clock = Clock(now=1_000.0)
    board = Board()
    opened = ("service",)
    first = _incidents(tmp_path, clock, board)
    for works in (1.0, 0.0):
        board.replace("headwater_service_up", {("trino",): works})
        first.collect()
    assert first._log.flush(30)
    clock.now += 50
    # The next process has not observed the service yet, so it does not know whether it works.
    later = Board()
    second = _incidents(tmp_path, clock, later)
    second.collect()
    assert later.get("headwater_incidents_open")[opened] == 1
    assert later.get("headwater_incident_seconds")[opened] == 50
    later.replace("headwater_service_up", {("trino",): 1.0})
    second.collect()
    assert second._log.flush(30)
    third = _incidents(tmp_path, clock, later)
    third.collect()
    assert later.get("headwater_incidents_open")[opened] == 0
    [one] = third._log.incidents()
    assert (one.kind, one.name, one.state, one.how_closed) == (
        "service",
        "trino",
        "closed",
        "it works again",
    )


def test_what_others_recorded_is_counted_under_its_kind_until_it_is_closed(tmp_path: Path) -> None:
    clock = Clock(now=1_000.0)
    board = Board()
    incidents = _incidents(tmp_path, clock, board)
    incidents.collect()
    assert board.get("headwater_incidents_open")[("gap",)] == 0
    recover = IncidentLog(DiskLake(tmp_path))
    made = recover.open_incident("gap", "headwater at 0/1", cause="slot_gone")
    assert recover.flush(30)
    incidents.collect()
    assert board.get("headwater_incidents_open")[("gap",)] == 1
    recover.close_incident(made, "every table was read again")
    assert recover.flush(30)
    incidents.collect()
    assert board.get("headwater_incidents_open")[("gap",)] == 0
    assert board.get("headwater_incidents")[("gap",)] == 1


def test_a_part_that_does_not_come_up_is_an_incident_after_a_while(tmp_path: Path) -> None:
    clock = Clock()
    board = Board()
    incidents = _incidents(tmp_path, clock, board)
    board.replace("headwater_service_up", {("trino",): 0.0})
    for now, opened in [(0, 0), (START_S - 1, 0), (START_S, 1)]:
        clock.now = now
        incidents.collect()
        assert board.get("headwater_incidents_open")[("service",)] == opened
