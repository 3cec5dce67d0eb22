"""A power cut as far as it can be simulated: everything is killed, and what no disk has yet is lost.

The home is an ext4 filesystem in a file. Its `shutdown` drops the pages and the journal's entries that were not written
when the power went. The image is a disk that keeps what it was given: one that lies about that is not simulated.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from tests.faults.test_disk_full import consumed, produce
from tests.support.bucket import Bucket
from tests.support.fault import Scene, fault_scene
from tests.support.small_disk import SmallDisk, small_ext4
from tests.support.stack import Stack, fresh_stack

DISK_BYTES = 6_000 << 20
CUTS = int(os.environ.get("HEADWATER_FAULT_CUTS") or 2)
LOAD_S = 20.0

pytestmark = pytest.mark.timeout(2_400)


@contextmanager
def removed(folder: Path) -> Iterator[None]:
    """Remove a folder at the end, when nothing is mounted there any more."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def lake_on_a_disk() -> Iterator[tuple[Scene, SmallDisk]]:
    """A stack whose home is a disk of its own, and whose source is on another machine."""
    with tempfile.TemporaryDirectory(prefix="headwater-images-") as images, fresh_stack() as far:
        far.up("--only", "postgres")
        with far.source() as source:
            source.execute("CREATE DATABASE yours")
        dsn = far.settings.source_dsn.rpartition("/")[0] + "/yours"
        home = Path(tempfile.mkdtemp(prefix="headwater-test-"))
        with (
            removed(home),
            small_ext4(home, DISK_BYTES, Path(images) / "disk") as disk,
            fault_scene("--source", dsn, "--apply", home=home, auto_recover=True) as scene,
        ):
            yield scene, disk


def test_an_object_that_the_store_has_answered_for_survives_a_power_cut() -> None:
    with alone("s3") as (stack, disk):
        bucket = Bucket(stack)
        bodies = {f"folder-{number % 7}/{number}": os.urandom(20_000) for number in range(200)}
        began = time.monotonic()
        for key, body in bodies.items():
            bucket.put(key, body)
        print(f"{len(bodies)} objects put in {time.monotonic() - began:.1f} s")
        cut(stack, disk)
        stack.up("--only", "s3")
        assert {key: bucket.get(key) for key in bodies} == bodies


def test_a_broker_keeps_every_record_that_it_acknowledged_when_the_power_goes() -> None:
    with alone("kafka") as (stack, disk):
        with closing(KafkaAdminClient(**stack.settings.kafka.options)) as admin:
            admin.create_topics([NewTopic("numbers", 1, 1)])
        os.sync()
        began = time.monotonic()
        sent = produce(stack, 0)
        print(f"{sent} records, each acknowledged, in {time.monotonic() - began:.1f} s")
        cut(stack, disk)
        stack.up("--only", "kafka")
        assert sent == 2_000
        assert consumed(stack) == list(range(sent))


def test_after_power_cuts_silver_equals_the_source_and_what_is_gone_is_said(seed: int) -> None:
    with lake_on_a_disk() as (scene, disk):
        with scene.load(seed):
            for number in range(CUTS):
                time.sleep(LOAD_S)
                cut(scene.stack, disk)
                began = time.monotonic()
                scene.stack.up()
                scene.await_mark(scene.mark())
                print(
                    f"cut {number + 1}: a new row in Trino {time.monotonic() - began:.0f} s after the start"
                )
        scene.prove()


@contextmanager
def alone(service: str) -> Iterator[tuple[Stack, SmallDisk]]:
    """One service on a disk of its own, with settings and secrets that are older than a power cut."""
    home = Path(tempfile.mkdtemp(prefix="headwater-test-"))
    with (
        tempfile.TemporaryDirectory(prefix="headwater-images-") as images,
        removed(home),
        small_ext4(home, DISK_BYTES, Path(images) / "disk") as disk,
        fresh_stack(home) as stack,
    ):
        stack.up("--only", service)
        os.sync()
        yield stack, disk


def cut(stack: Stack, disk: SmallDisk) -> None:
    """The power goes, and comes back: no process, and a disk with what had been written."""
    supervisor = stack.supervisor_pid
    disk.lose_power()
    stack.kill_supervisor(supervisor)
    disk.mount_again()
