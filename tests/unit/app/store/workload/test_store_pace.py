"""Holding a rate, and running transactions through failures, with a test clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from threading import Event

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from app.errors import HeadwaterError
from app.store.workload.drive import CONFLICTS_IN_A_ROW_MAX, Report, Transaction, drive
from app.store.workload.pace import Pace


class FakeTime(Event):
    """A clock that advances only by waits, and by the stated duration of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0

    def clock(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return self.is_set()


class Failure(Exception):
    """An error of the driver: with a SQLSTATE, or without one if there was no connection."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("the server said so\nDETAIL:  a value")
        self.sqlstate = sqlstate


def steps(
    time: FakeTime, *plan: int | Exception, takes_s: float = 0.0
) -> Callable[[], Transaction]:
    """Steps that make the planned changes or failures, then one change each."""
    left = list(plan)

    def step() -> Transaction:
        time.now += takes_s
        done = left.pop(0) if left else 1
        if isinstance(done, Exception):
            raise done
        return Transaction("op", frozenset(("t",)), done, datetime.now(timezone.utc))

    return step


def lost() -> OperationalError:
    return OperationalError("select 1", {}, Failure("57P01"))


def test_the_rate_is_that_of_changes_and_not_of_transactions() -> None:
    time = FakeTime()
    report = drive(steps(time, 5, 5, 5, 5), rate=10, seconds=2, stop=time, clock=time.clock)
    assert (report.changes, report.transactions, report.seconds) == (20, 4, 2.0)
    assert report.achieved == 10


def test_a_late_transaction_is_caught_up_with() -> None:
    time = FakeTime()
    pace = Pace(10, time.clock)
    time.now += 1
    for _ in range(10):
        assert pace.wait_s() == 0
        pace.spend(1)
    assert pace.wait_s() == pytest.approx(0)
    pace.spend(1)
    assert pace.wait_s() == pytest.approx(0.1)
    assert pace.dropped_s == 0


def test_a_long_stall_does_not_end_in_a_flood() -> None:
    time = FakeTime()
    pace = Pace(10, time.clock, catch_up_s=2)
    time.now += 60
    due = 0
    while pace.wait_s() == 0:
        pace.spend(1)
        due += 1
    assert due == 21  # those of two seconds, and the one that is due now
    assert pace.dropped_s == pytest.approx(58)


def test_rate_zero_never_waits() -> None:
    time = FakeTime()
    report = drive(steps(time, takes_s=0.25), rate=0, seconds=10, stop=time, clock=time.clock)
    assert report.transactions == 40


def test_a_negative_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Pace(-1, lambda: 0.0)


def test_a_run_ends_after_the_number_of_changes() -> None:
    time = FakeTime()
    report = drive(steps(time, 4, 4, 4), rate=0, changes_max=6, stop=time, clock=time.clock)
    assert report.changes == 8


def test_a_run_ends_when_it_is_told_to() -> None:
    time = FakeTime()

    def watch(_: Transaction, report: Report) -> None:
        if report.transactions == 3:
            time.set()

    report = drive(steps(time), rate=5, stop=time, watch=watch, clock=time.clock)
    assert report.transactions == 3


def test_a_lost_connection_is_waited_out_and_its_transaction_is_not_repeated() -> None:
    time = FakeTime()
    report = drive(
        steps(time, 1, lost(), lost(), 1), rate=0, changes_max=2, stop=time, clock=time.clock
    )
    assert (report.transactions, report.reconnects) == (2, 2)


def test_a_refused_connection_counts_as_away() -> None:
    time = FakeTime()
    refused = OperationalError("", {}, Failure(None))
    report = drive(steps(time, refused), rate=0, changes_max=1, stop=time, clock=time.clock)
    assert report.reconnects == 1


def test_a_database_that_stays_away_ends_the_run() -> None:
    time = FakeTime()
    forever = [lost() for _ in range(1_000)]
    with pytest.raises(HeadwaterError) as failed:
        drive(steps(time, *forever), rate=0, stop=time, clock=time.clock, reconnect_limit_s=30)
    assert failed.value.message == "Postgres stayed away for more than 30 s"
    assert failed.value.detail == "the server said so"
    assert time.now < 1_040


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
def test_a_conflict_with_another_writer_skips_the_transaction(state: str) -> None:
    time = FakeTime()
    conflict = OperationalError("update t", {}, Failure(state))
    report = drive(steps(time, conflict), rate=0, changes_max=1, stop=time, clock=time.clock)
    assert (report.conflicts, report.reconnects, report.transactions) == (1, 0, 1)


def test_nothing_but_conflicts_ends_the_run() -> None:
    time = FakeTime()
    conflicts = [IntegrityError("", {}, Failure("23505")) for _ in range(100)]
    with pytest.raises(HeadwaterError, match=f"{CONFLICTS_IN_A_ROW_MAX} transactions in a row"):
        drive(steps(time, *conflicts), rate=0, stop=time, clock=time.clock)


def test_another_error_of_the_database_ends_the_run_at_once() -> None:
    time = FakeTime()
    undefined = DBAPIError("", {}, Failure("42P01"))
    with pytest.raises(DBAPIError):
        drive(steps(time, undefined), rate=0, stop=time, clock=time.clock)
