"""Log files are rotated without losing a line or an older file, even on a full disk."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.processes import log_files as logs
from app.processes.log_pump import LogFile, LogPump
from tests.support.small_disk import SmallDisk, small_disk

LINES = """
import sys
for number in range(int(sys.argv[1])):
    print(f"line {number:07d}", flush=number % 7 == 0)
"""


@pytest.fixture
def pump() -> Iterator[LogPump]:
    made = LogPump()
    yield made
    made.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 1 << 20) as made:
        yield made


def text_of(path: Path) -> str:
    """The complete log, older files first."""
    parts = [*reversed(logs.older(path)), path]
    return "".join(
        gzip.decompress(part.read_bytes()).decode() if part.suffix == ".gz" else part.read_text()
        for part in parts
    )


def test_no_line_is_lost_or_cut_while_a_process_writes_and_its_log_is_rotated(
    tmp_path: Path, pump: LogPump
) -> None:
    path = tmp_path / "stdout.log"
    pump._files[path] = LogFile(path, at_bytes=100_000)
    writer = pump.open(path)
    process = subprocess.Popen([sys.executable, "-c", LINES, "100000"], stdout=writer)
    os.close(writer)
    while process.poll() is None:
        logs.tidy(path)
    pump.close()
    assert text_of(path) == "".join(f"line {number:07d}\n" for number in range(100_000))
    older = logs.older(path)
    assert len(older) > 10
    for plain in (item for item in older if item.suffix != ".gz"):
        assert plain.stat().st_size <= 100_000
        assert plain.read_bytes().endswith(b"\n")


def test_older_logs_are_compressed_and_kept_up_to_their_total(tmp_path: Path) -> None:
    path = tmp_path / "stderr.log"
    for number in range(6):
        path.write_bytes(os.urandom(5_000) + b"%d" % number)
        logs.shift(path)
        logs.tidy(path, total_bytes=20_000)
    names = [item.name for item in logs.older(path)]
    assert names == ["stderr.log.1", "stderr.log.2.gz", "stderr.log.3.gz"]
    assert gzip.decompress((tmp_path / "stderr.log.2.gz").read_bytes()).endswith(b"4")


def test_a_full_disk_loses_no_older_log_and_a_service_can_go_on_writing(
    disk: SmallDisk, pump: LogPump
) -> None:
    path = disk.folder / "stdout.log"
    pump._files[path] = LogFile(path, at_bytes=50_000)
    writer = pump.open(path)
    os.write(writer, b"".join(b"before %05d\n" % n for n in range(10_000)))
    pump.drain()
    disk.fill()
    before = [f"before {n:05d}" for n in range(10_000)]
    assert text_of(path).splitlines() == before
    started = time.monotonic()
    os.write(writer, b"".join(b"during %05d\n" % n for n in range(10_000)))  # does not block
    assert time.monotonic() - started < 5
    for _ in range(5):  # as often as the supervisor likes
        logs.tidy(path)
        pump.drain()
    assert text_of(path).splitlines()[:10_000] == before
    disk.free()
    os.write(writer, b"after\n")
    os.close(writer)
    pump.close()
    said = text_of(path).splitlines()
    assert said[:10_000] == before
    assert said[10_000:] == [*(f"during {n:05d}" for n in range(10_000)), "after"]


def test_an_older_log_that_cannot_be_compressed_stays_until_it_can(disk: SmallDisk) -> None:
    path = disk.folder / "stdout.log"
    for number in range(2):
        path.write_bytes(os.urandom(100_000) + b"%d" % number)
        logs.shift(path)
    disk.fill()
    for _ in range(3):
        logs.tidy(path)
    assert sorted(item.name for item in disk.folder.iterdir()) == [
        "filler",
        "stdout.log.1",
        "stdout.log.2",
    ]
    disk.free()
    logs.tidy(path)
    assert gzip.decompress((disk.folder / "stdout.log.2.gz").read_bytes()).endswith(b"0")


def test_a_log_says_how_much_of_it_the_disk_did_not_take(disk: SmallDisk) -> None:
    path = disk.folder / "stdout.log"
    log = LogFile(path)
    log.take(b"before\n")
    disk.fill()
    log.take(b"x" * 10_000 + b"\n")
    for number in range(200):
        log.take(b"%03d" % number * 4_000 + b"\n")
    assert log.waits
    disk.free()
    log.retry()
    assert not log.waits
    log.close()
    found = path.read_text()
    notes = [line for line in found.splitlines() if line.startswith("headwater: ")]
    assert len(notes) == 1
    left_out = int(notes[0].split()[1])
    assert notes[0].endswith("bytes of output are left out here: No space left on device")
    assert len(found) - len(notes[0]) - 2 + left_out >= 7 + 10_001 + 200 * 12_001 - 1
    assert found.endswith("199" * 4_000 + "\n")


def test_a_log_that_somebody_removed_begins_again_with_the_next_start(
    tmp_path: Path, pump: LogPump
) -> None:
    path = tmp_path / "stdout.log"
    for said in (b"first\n", b"second\n"):
        writer = pump.open(path)
        os.write(writer, said)
        os.close(writer)
        pump.drain()
        assert path.read_bytes() == said
        path.unlink()


def test_a_follower_reads_on_across_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "stdout.log"
    path.write_text("one\ntwo\n")
    text, place = logs.grown(path, 4)
    assert (text, place) == ("two\n", 8)
    path.write_text("one\ntwo\nthree\n")
    logs.shift(path)
    path.write_text("four\n")
    assert logs.grown(path, place) == ("three\nfour\n", 5)
    assert logs.tail(path, 3) == ["two", "three", "four"]
