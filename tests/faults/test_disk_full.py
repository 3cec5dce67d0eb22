"""Each folder's disk is filled while clients write, then freed: the stack recovers by itself and loses nothing.

The folders are small filesystems of their own, so only root can run it (for others it is skipped with
this reason). `HEADWATER_DISKS=data/s3,data/kafka` selects only these.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from tests.support import tpcb
from tests.support.bucket import Bucket
from tests.support.ddl_run import assert_bronze_is_whole
from tests.support.small_disk import SmallDisk, small_ext4
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

MB = 1 << 20
# Folder of the home → megabytes. The home itself has the rest: state files, settings.
DISKS = {
    "data/postgres": 900,
    "data/kafka": 900,
    "data/s3": 900,
    "data/silver": 200,
    "data/prometheus": 100,
    "run": 500,
    ".": 3_000,
}
BRANCHES, ACCOUNTS = 2, 2_000
FULL_S = 25.0  # longer than the parts' own retries take
RECOVERY_S = 420.0  # failures are retried after five minutes at most
PAUSE_S = 0.02


@contextlib.contextmanager
def stack_on_small_disks(*names: str) -> Iterator[tuple[Stack, dict[str, SmallDisk]]]:
    """A stack with a disk for each of these folders, or all of DISKS."""
    home = Path(tempfile.mkdtemp(prefix="headwater-test-"))
    images = Path(tempfile.mkdtemp(prefix="headwater-images-"))
    with contextlib.ExitStack() as mounted:
        for folder in (images, home):
            mounted.callback(shutil.rmtree, folder, ignore_errors=True)
        disks = {}
        for name in sorted(names or DISKS, key=lambda name: name != "."):
            size = DISKS[name]
            (home / name).mkdir(parents=True, exist_ok=True)
            image = images / f"{size}-{Path(name).name}"
            disks[name] = mounted.enter_context(small_ext4(home / name, size * MB, image))
        stack = mounted.enter_context(fresh_stack(home))
        yield stack, disks


def test_each_disk_fills_and_is_freed_under_load_and_nothing_is_lost(seed: int) -> None:
    chosen = os.environ.get("HEADWATER_DISKS", ",".join(DISKS)).split(",")
    with stack_on_small_disks() as (stack, disks):
        stack.up()
        dsn = stack.settings.source_dsn
        tpcb.create(dsn, branches=BRANCHES, accounts=ACCOUNTS)
        with stack.source() as source:
            source.execute("ALTER TABLE pgbench_history REPLICA IDENTITY FULL")
        stack.await_tables("pgbench_accounts")
        for name in chosen:
            fill_under_load(stack, name, disks[name], seed)
            check_whole(stack)


def fill_under_load(stack: Stack, name: str, disk: SmallDisk, seed: int) -> None:
    """Fill a disk while clients write, await the report of it, free it, and await that everything is ready."""
    load = tpcb.running(
        stack.settings.source_dsn,
        clients=2,
        branches=BRANCHES,
        accounts=ACCOUNTS,
        seed=seed,
        reconnect_s=RECOVERY_S,
        pause_s=PAUSE_S,
    )
    with load as counts:
        await_more(counts, "before the disk is full")
        disk.fill()
        try:
            said = until(
                lambda: troubles(stack).get(f"disk of {name}"),
                lambda row: row is not None and row["state"] == "full",
                within_s=120,
                what=f"status says that the disk of {name} is full",
                every_s=1,
            )
            assert said is not None
            print(f"{name}: {said['last_error']}")
            end = time.monotonic() + FULL_S
            while time.monotonic() < end:
                disk.fill()
                time.sleep(1)
            print(f"{name}: while full: {states(stack)}; {sum(counts)} transactions")
        finally:
            disk.free()
        freed = time.monotonic()
        await_more(counts, "after the disk has room")
        until(
            lambda: not_well(stack),
            lambda found: not found,
            within_s=RECOVERY_S,
            what="every service is ready again, and nothing is not well",
            every_s=3,
        )
        print(f"{name}: well again {time.monotonic() - freed:.0f} s after there was room")
        await_more(counts, "when all is well again")


def await_more(counts: list[int], when: str) -> None:
    before = sum(counts)
    until(
        lambda: sum(counts),
        lambda count: count >= before + 50,
        within_s=RECOVERY_S,
        what=f"transactions {when}",
    )


def troubles(stack: Stack) -> dict[str, dict[str, str]]:
    """The states in `status`, by service or part; its exit code is ignored."""
    return {row["service"]: row for row in stack.answer("status", expect=None)}


GOOD = ("ready", "completed", "unavailable", "stopped", "running")  # `running`: tables
AFTERWARDS = ("MergeFailing", "ServiceRestarting")  # alerts that count the restarts of 15 minutes


def states(stack: Stack) -> dict[str, str]:
    return {name: row["state"] for name, row in troubles(stack).items() if row["state"] not in GOOD}


def not_well(stack: Stack) -> dict[str, str]:
    return {
        name: f"{row['state']}: {row['last_error']}"
        for name, row in troubles(stack).items()
        if row["state"] not in GOOD and name not in AFTERWARDS
    }


def check_whole(stack: Stack) -> None:
    """Silver equals the source row by row, and bronze is complete by the counts of its transactions."""
    verdicts = stack.verify(*tpcb.TABLES, timeout_s=600)
    assert [row["verdict"] for row in verdicts] == ["equal"] * len(tpcb.TABLES)
    assert_bronze_is_whole(stack)


def test_a_broker_whose_disk_fills_keeps_every_record_that_it_acknowledged() -> None:
    """Kafka 4.3.1 that starts on a full disk empties its metadata log, and every topic is lost."""
    with stack_on_small_disks("data/kafka") as (stack, disks):
        stack.up("--only", "kafka")
        disk = disks["data/kafka"]
        pid = stack.observed("kafka").pid
        sent = produce(stack, 0)
        disk.fill()
        with contextlib.suppress(KafkaError):
            sent += produce(stack, sent)
        until(
            lambda: stack.observed("kafka"),
            lambda seen: seen.pid != pid,
            within_s=60,
            what="the broker ends on a full disk",
        )
        row = until(
            lambda: troubles(stack),
            lambda rows: rows["kafka"]["state"] == "preparing",
            within_s=60,
            what="it waits for room",
            every_s=1,
        )
        assert row["disk of data/kafka"]["state"] == "full"
        disk.free()
        until(
            lambda: stack.observed("kafka").state,
            lambda state: state == "ready",
            within_s=90,
            what="the broker runs again",
        )
        assert consumed(stack)[:sent] == list(range(sent))


def test_a_full_store_refuses_an_object_whole_and_takes_it_when_there_is_room() -> None:
    with stack_on_small_disks("data/s3") as (stack, disks):
        stack.up("--only", "s3")
        bucket, disk = Bucket(stack), disks["data/s3"]
        bucket.put("before", b"kept")
        disk.fill(leave_bytes=4 * MB)
        body = os.urandom(16 * MB)
        for key in ("large", "before"):
            answer = bucket.ask("PUT", key, body)
            assert answer.status >= 500, answer.summary()
        assert bucket.get("before") == b"kept"
        assert set(bucket.listing(2, {})[0]) == {"before"}
        assert bucket.ask("GET", "large").status == 404
        left = [path.name for path in disk.folder.rglob("*") if path.is_file()]
        assert sorted(left) == ["before", "filler"]
        disk.free()
        bucket.put("large", body)
        assert bucket.get("large") == body


def produce(stack: Stack, first: int) -> int:
    """Send records until one is not acknowledged, at most 2,000; returns the number of acknowledged ones."""
    acknowledged = 0
    with contextlib.closing(
        KafkaProducer(
            bootstrap_servers=stack.settings.ports.address("kafka"),
            acks="all",
            delivery_timeout_ms=6_000,
            request_timeout_ms=3_000,
        )
    ) as producer:
        with contextlib.suppress(KafkaError):
            for number in range(first, first + 2_000):
                producer.send("numbers", b"%d" % number * 200, partition=0).get(10)
                acknowledged += 1
    return acknowledged


def consumed(stack: Stack) -> list[int]:
    """The records of the topic in order."""
    consumer = KafkaConsumer(
        "numbers",
        bootstrap_servers=stack.settings.ports.address("kafka"),
        auto_offset_reset="earliest",
        consumer_timeout_ms=15_000,
    )
    with contextlib.closing(consumer):
        return [int(record.value[: len(record.value) // 200]) for record in consumer]


def test_down_and_up_work_where_the_homes_disk_is_full_meanwhile() -> None:
    with stack_on_small_disks() as (stack, disks):
        stack.up("--only", "kafka", "s3", "postgres")
        for disk in disks.values():
            disk.fill()
        stack.run("down", timeout_s=120)
        for disk in disks.values():
            disk.free()
        stack.up("--only", "kafka", "s3", "postgres")
        with stack.source() as source:
            assert source.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError):
            stack.run("down")
            with stack.source():
                pass
