"""Maintenance takes the neediest table first, within a budget, and reports what it did and what failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from spark_streaming.batch.upkeep.maintenance import Maintenance, Work
from spark_streaming.batch.upkeep.table_need import (
    CHECKPOINT_COMMITS,
    QUIET_PAUSE_S,
    RETRY_S,
    Need,
    Steps,
)
from spark_streaming.batch.upkeep.table_upkeep import Run
from spark_streaming.ops.job_metrics import MaintenanceMetrics
from spark_streaming.tables.silver_table import TableOptions

NAME = "headwater_silver_maintenance"
MINUTE = 60.0


class Upkeep:
    """Maintenance without tables: the test gives the work of each, and the time."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.now = 0.0
        nothing: Any = None
        self.maintenance = Maintenance(
            nothing,
            nothing,
            nothing,
            TableOptions(15),
            metrics=MaintenanceMetrics(self.registry),
            clock=lambda: self.now,
        )

    def look(self, work: Work, table: str = "orders") -> None:
        """Make `work` due by commits of the table, and have it run; late enough to follow a failed run."""
        self.now += RETRY_S
        need = self.maintenance.follow(table, work)
        for _ in range(CHECKPOINT_COMMITS):
            need.changed(self.now)
        self.maintenance.begin()

    def ended(self) -> None:
        """Wait until all requested work is done."""
        wait([self.maintenance._thread.submit(lambda: None)], timeout=30)

    def value(self, name: str, table: str | None = None) -> float | None:
        labels = {} if table is None else {"table": table}
        return self.registry.get_sample_value(f"{NAME}_{name}", labels)


@pytest.fixture
def upkeep() -> Upkeep:
    return Upkeep()


def step(name: str, joined: int = 0, removed: int = 0) -> Work:
    def work(steps: Steps, run: Run) -> Iterator[None]:
        with run.doing(name):
            run.joined, run.removed = joined, removed
            yield

    return work


vacuumed, joined = step("vacuum", removed=7), step("compact", joined=12)


def failed(steps: Steps, run: Run) -> Iterator[None]:
    with run.doing("vacuum"):
        yield
        raise OSError("the store does not answer")


def nothing_due(steps: Steps, run: Run) -> Iterator[None]:
    """The usual result of a check."""
    yield


def test_a_run_is_counted_with_its_files_and_a_look_without_work_is_not(upkeep: Upkeep) -> None:
    for work in (vacuumed, nothing_due, joined, nothing_due):
        upkeep.look(work)
        upkeep.ended()
    assert upkeep.value("seconds_count") == 2
    assert upkeep.value("removed_files_total") == 7
    assert upkeep.value("joined_files_total") == 12
    assert upkeep.value("failures_total", "orders") == 0
    assert upkeep.value("failing", "orders") == 0


def test_a_failed_step_counts_until_the_same_step_goes_through(upkeep: Upkeep) -> None:
    for work, failing in [(failed, 1), (nothing_due, 1), (joined, 1), (vacuumed, 0)]:
        upkeep.look(work)
        upkeep.ended()
        assert upkeep.value("failing", "orders") == failing, work
    assert upkeep.value("failures_total", "orders") == 1


def test_one_tables_failure_is_its_own(upkeep: Upkeep) -> None:
    upkeep.look(failed)
    upkeep.look(vacuumed, "movies")
    upkeep.ended()
    assert (upkeep.value("failing", "orders"), upkeep.value("failing", "movies")) == (1, 0)


def test_a_failed_table_is_tried_again_after_a_minute_and_the_others_go_on(upkeep: Upkeep) -> None:
    upkeep.look(failed)
    upkeep.ended()
    upkeep.maintenance.begin()
    upkeep.ended()
    assert upkeep.value("failures_total", "orders") == 1
    upkeep.now += RETRY_S
    upkeep.maintenance.begin()
    upkeep.ended()
    assert upkeep.value("failures_total", "orders") == 2


def test_a_run_that_hangs_is_told_by_how_long_the_oldest_waits(upkeep: Upkeep) -> None:
    assert upkeep.value("waiting_seconds") == 0
    begun, go_on = threading.Event(), threading.Event()

    def hangs(steps: Steps, run: Run) -> Iterator[None]:
        with run.doing("vacuum"):
            begun.set()
            go_on.wait(30)
            yield

    upkeep.look(hangs)
    assert begun.wait(30)
    upkeep.now += 5
    seen = upkeep.value("waiting_seconds")
    upkeep.look(vacuumed, "movies")
    later = upkeep.value("waiting_seconds")
    assert not upkeep.maintenance.is_idle()
    go_on.set()
    upkeep.ended()
    assert (seen, later) == (5, 5 + RETRY_S)
    upkeep.maintenance.begin()
    upkeep.ended()
    assert upkeep.value("waiting_seconds") == 0


def test_the_budget_ends_a_batchs_share_and_the_next_batch_goes_on_there(upkeep: Upkeep) -> None:
    done: list[int] = []

    def long(steps: Steps, run: Run) -> Iterator[None]:
        with run.doing("vacuum"):
            for piece in range(5):
                done.append(piece)
                upkeep.now += 0.4  # of a budget of 1 s
                yield

    upkeep.look(long)
    upkeep.ended()
    assert done == [0, 1, 2]
    upkeep.maintenance.begin()
    upkeep.ended()
    assert done == [0, 1, 2, 3, 4]
    assert upkeep.value("seconds_count") == 1


def test_the_neediest_table_has_its_turn_first(upkeep: Upkeep) -> None:
    order: list[str] = []

    def noting(name: str) -> Work:
        def work(steps: Steps, run: Run) -> Iterator[None]:
            order.append(name)
            yield

        return work

    for name, commits in (("few", 30), ("most", 90), ("none", 0), ("more", 60)):
        need = upkeep.maintenance.follow(name, noting(name))
        for _ in range(commits):
            need.changed(0)
    upkeep.maintenance.begin()
    upkeep.ended()
    assert order == ["most", "more", "few"]


def moments(need: Need, until: float, at_start: Callable[[Need], None]) -> list[float]:
    """When a table is cleaned, asked each minute; nothing is committed after the start."""
    at_start(need)
    found = []
    for minute in range(int(until // MINUTE)):
        now = minute * MINUTE
        if steps := need.due(now):
            assert steps.clean
            found.append(now)
            need.done(steps, now)
    return found


def test_a_table_that_has_gone_quiet_is_cleaned_until_nothing_old_is_left_then_rarely() -> None:
    found = moments(Need.of(15, 0), 8 * 3600, lambda need: need.changed(0))
    assert found == [300, 960, 960 + QUIET_PAUSE_S]


def test_a_process_that_knows_nothing_of_a_table_cleans_it_once_when_all_must_be_old() -> None:
    assert moments(Need.of(15, 0), 3600, lambda need: None) == [960]


def test_a_polled_table_without_new_commits_is_left_alone_once_it_is_clean() -> None:
    need = Need.of(15, 0)
    need.polled = True
    cleaned = []
    for minute in range(60):
        now = minute * MINUTE
        if steps := need.due(now):
            new = need.has_new(3, now)
            cleaned += [now] if new else []
            need.done(steps, now, cleaned=new)
    # It is first seen after five minutes, and its last version is old fifteen minutes later.
    assert cleaned == [300, 600, 900, 1200, 1500]
