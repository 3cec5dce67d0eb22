"""An incident is closed when all tables that it required to be read again have been read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.capture.repaired import REFRESH_S, Repaired
from app.capture.resync import DONE, FAILED, WAITING, Resync
from app.environment.service_problem import problem_of, report_problem
from app.errors import HeadwaterError
from spark_streaming.contract.lsn import Lsn
from spark_streaming.ops.incident_table import IncidentLog
from tests.support.disk_lake import DiskLake


def test_an_incident_is_closed_by_the_last_of_its_tables_and_by_no_other(tmp_path: Path) -> None:
    now = 0.0
    opened = IncidentLog(DiskLake(tmp_path))
    made = opened.open_incident("gap", "headwater at 0/1", cause="slot_gone")
    assert opened.flush(30)
    log = IncidentLog(DiskLake(tmp_path))
    repaired = Repaired(log, lambda: now)
    first = Resync(1, "public", "a", state=DONE, incidents=(made,), rows=3, applied_lsn=Lsn(4096))
    other = Resync(3, "public", "c", state=WAITING)
    for state, is_open in [(WAITING, True), (FAILED, True), (DONE, False)]:
        second = replace(first, oid=2, name="b", state=state, rows=4, applied_lsn=Lsn(8192))
        now += REFRESH_S
        repaired.close_done([first, second, other])
        [found] = log.incidents()
        assert found.open == is_open
    assert found.how_closed == (
        "2 tables were read again from the source (7 rows): from 0/1000 on silver equals the source"
    )


def test_an_incident_that_no_table_was_read_for_stays_open(tmp_path: Path) -> None:
    log = IncidentLog(DiskLake(tmp_path))
    log.open_incident("gap", "headwater at 0/1", cause="slot_gone")
    Repaired(log).close_done([Resync(1, "public", "a", state=DONE)])
    assert [one.open for one in log.incidents()] == [True]


def test_what_a_service_says_is_wrong_is_had_in_one_line_until_it_is_right(tmp_path: Path) -> None:
    assert problem_of(tmp_path, "capture") == ""
    wrong = HeadwaterError("the slot is gone", detail="captured up to 0/1", hint="recover")
    report_problem(tmp_path, "capture", wrong)
    assert problem_of(tmp_path, "capture") == "the slot is gone; captured up to 0/1; recover"
    report_problem(tmp_path, "capture", None)
    report_problem(tmp_path, "capture", None)
    assert problem_of(tmp_path, "capture") == ""
