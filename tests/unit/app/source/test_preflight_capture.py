"""Restarts of failed tasks, replayed over histories, and the registered connectors."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from app.connectors.capture_record import pattern
from app.connectors.registration import FILES, SOURCE, source_config
from app.connectors.task_restarts import (
    BACKOFF_MAX_S,
    RECOVERED_AFTER_S,
    RESTARTS_MAX,
    TaskRestarts,
)
from app.connectors.worker import Task, WorkerBusy, retry_while_busy
from app.errors import HeadwaterError
from app.source.source_tables import Names
from tests.support.clock import Clock
from tests.unit.app.source.test_preflight_judge import ORDERS

FAILED = Task("source", 0, "FAILED", "the broker went away")
RUNNING = replace(FAILED, state="RUNNING", why="")


def test_a_failed_task_is_restarted_at_once_and_then_ever_later() -> None:
    clock = Clock()
    repair = TaskRestarts(clock)
    at = []
    for second in range(40):
        clock.now = float(second)
        at += [second for _ in repair.due([RUNNING, FAILED])]
    assert at == [0, 2, 6, 14, 30]


def test_a_running_task_is_left_alone() -> None:
    assert TaskRestarts(Clock()).due([RUNNING, replace(RUNNING, task=None)]) == []


def test_a_task_that_never_recovers_ends_in_an_error_that_says_why() -> None:
    clock = Clock()
    repair = TaskRestarts(clock)
    with pytest.raises(HeadwaterError) as ended:
        for _ in range(RESTARTS_MAX + 1):
            repair.due([FAILED])
            clock.now += BACKOFF_MAX_S
    assert ended.value.message == (
        f"connector source task 0 fails again and again: {RESTARTS_MAX} restarts in a row"
    )
    assert ended.value.detail == "the broker went away"


def test_a_task_that_recovered_has_all_its_restarts_again() -> None:
    clock = Clock()
    repair = TaskRestarts(clock)
    for _ in range(3 * RESTARTS_MAX):
        assert repair.due([FAILED]) == [FAILED]
        clock.now += RECOVERED_AFTER_S + BACKOFF_MAX_S
        assert repair.due([RUNNING]) == []


def test_a_failed_connector_and_its_task_are_counted_apart() -> None:
    whole = replace(FAILED, task=None)
    assert TaskRestarts(Clock()).due([whole, FAILED]) == [whole, FAILED]


def test_a_busy_worker_is_asked_again_until_the_limit() -> None:
    clock = Clock()

    def ask() -> None:
        raise WorkerBusy("rebalancing")

    def sleep(seconds: float) -> None:
        clock.now += seconds

    with pytest.raises(HeadwaterError) as ended:
        retry_while_busy(ask, within_s=3, what="asking", clock=clock, sleep=sleep)
    assert (ended.value.message, ended.value.detail) == ("asking: not within 3 s", "rebalancing")
    assert clock.now < 5


def test_the_registered_configuration_holds_no_password() -> None:
    template = json.loads(FILES[SOURCE].read_text())
    config = source_config(
        template, "postgresql://cap:s3cret@db.example:6543/shop", Names(), [ORDERS]
    )
    assert "s3cret" not in json.dumps(config)
    assert config["database.password"] == "${env:HEADWATER_CAPTURE_PASSWORD}"
    assert (config["database.hostname"], config["database.port"]) == ("db.example", "6543")


def test_only_published_tables_are_snapshotted_first() -> None:
    odd = replace(ORDERS, schema="s.x", name="a b, (c)$")
    listed = source_config({}, "postgresql://cap@db/shop", Names(), [ORDERS, odd])[
        "snapshot.include.collection.list"
    ].split(",")
    names = ["headwater.heartbeat", "headwater.signal", "public.orders", "s.x.a b, (c)$"]
    # Java writes \x{2e} where Python writes \x2e.
    assert all(text.startswith("(?-i)") for text in listed)  # Python has no such flag
    patterns = [re.sub(r"\\x\{(\w+)\}", lambda m: f"\\U{m[1]:0>8}", text[5:]) for text in listed]
    for position, compiled in enumerate(patterns):
        assert [bool(re.fullmatch(compiled, name)) for name in names] == [
            other == position for other in range(len(names))
        ]


def test_a_pattern_holds_nothing_that_could_end_it() -> None:
    assert pattern("public.a,b") == r"(?-i)public\x{2e}a\x{2c}b"


def test_an_inherited_tables_snapshots_read_its_own_rows() -> None:
    parent = replace(ORDERS, inherited=True)
    config = source_config({}, "postgresql://cap@db/shop", Names(), [ORDERS, parent])
    assert config["snapshot.select.statement.overrides"] == "public.orders"
    assert config["snapshot.select.statement.overrides.public.orders"] == (
        'SELECT * FROM ONLY "public"."orders"'
    )
    plain = source_config({}, "postgresql://cap@db/shop", Names(), [ORDERS])
    assert not any("overrides" in key for key in plain)


def test_a_change_larger_than_a_message_ends_the_restarts_at_once() -> None:
    large = replace(FAILED, why="RecordTooLargeException: The message is 70000000 bytes")
    with pytest.raises(HeadwaterError) as ended:
        TaskRestarts(Clock()).due([large])
    assert "larger than a message" in ended.value.message
    assert "message.max.bytes" in (ended.value.hint or "")


def test_tables_at_which_debezium_would_stop_are_excluded() -> None:
    twins = replace(ORDERS, name="twins", twins=("id, ID",), published=False)
    config = source_config({}, "postgresql://cap@db/shop", Names(), [ORDERS], [twins])
    assert config["table.exclude.list"] == r"(?-i)public\x{2e}twins"
    plain = source_config({}, "postgresql://cap@db/shop", Names(), [ORDERS])
    assert "table.exclude.list" not in plain
